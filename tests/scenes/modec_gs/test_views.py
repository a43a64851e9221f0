import math
from dataclasses import replace

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.modec_gs import check_views
from papertrial.scenes.modec_gs.views import spread_times, warn_of_unseen_times


def test_good_frames_pass(views):
    check_views(views, 6)


def at(views, place, **changes):
    return [one._replace(**changes) if number == place else one for number, one in enumerate(views)]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda views: views[:1], "2 frames or more, got 1"),
        (lambda views: at(views, 3, time=1.5), "within 0 and 1 .*, frame 3 has 1.5"),
        (lambda views: at(views, 3, time=math.nan), "frame 3 has nan"),
        (lambda views: at(views, 3, time=0.0), "in the order of time, frame 3 has 0.0 after"),
        (lambda views: views[::-1], "in the order of time, frame 1"),
        (
            lambda views: [one._replace(time=0.5) for one in views],
            "6 segments need 12 moments or more, there are 1",
        ),
        (lambda views: at(views, 2, image=torch.rand(24, 20, 3)), "one size, these have 20 x 24, 24 x 24"),
        (lambda views: [one._replace(image=torch.rand(20, 20, 3)) for one in views], "is held against"),
        (lambda views: at(views, 0, image=torch.full((24, 24, 3), 2.0)), "must lie within 0 and 1"),
    ],
)
def test_frames_that_cannot_be_trained_on(views, spoil, words):
    with pytest.raises(BadInputError, match=words):
        check_views(spoil(views), 6)


def test_frames_that_are_all_the_same_show_no_motion(views):
    still = [one._replace(image=views[0].image) for one in views]
    with pytest.warns(UserWarning, match="no motion found: all 12 images are the same"):
        check_views(still, 6)


def standing(views, image, noise, seed=0):
    """One camera's frames of one image, each with noise of its own."""
    draw = torch.Generator().manual_seed(seed)
    return [
        one._replace(
            camera=views[0].camera,
            image=(image + noise * torch.randn(image.shape, generator=draw)).clamp(0, 1),
        )
        for one in views
    ]


@pytest.mark.parametrize("noise", [0.002, 0.03, 0.1])
def test_a_still_scene_with_noise_shows_no_motion(views, noise):
    with pytest.warns(UserWarning, match="camera stands still, and its 12 images differ by no more than"):
        check_views(standing(views, 0.25 + 0.5 * views[0].image, noise), 6)


def test_a_small_thing_that_moves_in_noise_is_motion(views):
    """A square of 5 x 5 pixels that moves on by one a frame, over noise of a tenth of its contrast; no warning."""
    frames = standing(views, torch.full((24, 24, 3), 0.4), 0.03)
    for place, frame in enumerate(frames):
        frame.image[10:15, place : place + 5] += 0.3
    check_views(frames, 6)


def test_a_light_that_is_dimmed_is_motion(views):
    frames = standing(views, torch.full((24, 24, 3), 0.4), 0.03)
    check_views([one._replace(image=one.image * (1 - 0.3 * one.time)) for one in frames], 6)


def test_times_are_spread():
    assert spread_times([4.0, 6.0, 14.0]) == pytest.approx([0.0, 0.2, 1.0])
    for moments in ([], [3.0, 3.0]):
        with pytest.raises(BadInputError, match="two different moments"):
            spread_times(moments)


def test_unseen_times_are_told(views):
    test = [views[0], views[1]._replace(time=0.123)]
    with pytest.warns(UserWarning, match="1 of 2 test frames are at times never trained on .* 0.1230"):
        warn_of_unseen_times(views, test)
    warn_of_unseen_times(views, views[::3])  # and nothing where all are


def test_a_camera_of_another_size_is_named(views):
    camera = replace(views[0].camera, width=20, height=20)
    with pytest.raises(BadInputError, match=r"'train_0\.0000'"):
        check_views(at(views, 0, camera=camera), 6)
