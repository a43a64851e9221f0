"""Whether a trained scene shows motion: a still scene with noise must not, one in which things move must."""

from __future__ import annotations

import pytest
import torch

from papertrial.scenes.modec_gs import Player
from papertrial.scenes.modec_gs.evaluation import render_views, shown_motion


def test_a_scene_that_is_still_by_its_making_shows_none(make_scene, views):
    found = shown_motion(Player(make_scene()), views)  # zero heads: nothing moves yet
    assert found.change == 0
    assert not found.found
    assert found.error > 0


@pytest.fixture
def moving(make_scene, stirred):
    """A scene whose fields and networks were pushed until it moves, and frames of it: fitted without a fault."""
    player = Player(stirred(make_scene(), size=0.3))

    def frames(views):
        shown = render_views(player, views)
        return [view._replace(image=image) for view, image in zip(views, shown, strict=True)]

    return player, frames


def test_what_moves_is_found_until_errors_are_as_large(moving, views):
    player, frames = moving
    exact = frames(views)
    found = shown_motion(player, exact)
    assert found.error == 0
    assert found.found
    for share, expected in ((0.9, True), (1.1, False)):  # of the error at which motion no longer stands out
        off = [one._replace(image=one.image + share * found.change / 3) for one in exact]
        assert shown_motion(player, off).found == expected


def test_change_is_that_of_a_camera_held_still(moving, views):
    """By hand, where all three cameras are one: the range of brightness over nine moments, its 99.9th percentile."""
    player, frames = moving
    one = frames([views[0]])
    seen = [player.render(views[0].camera, at / 8).colour.clamp(0, 1).mean(-1) for at in range(9)]
    ranges = torch.stack(seen).amax(0) - torch.stack(seen).amin(0)
    expected = float(ranges.flatten().repeat(3).quantile(0.999))
    assert shown_motion(player, one).change == pytest.approx(expected, rel=1e-6)


def test_training_on_a_still_scene_with_noise_finds_no_motion(make_training, views):
    """All frames show one image, each with noise of its own: what is fitted to noise must not pass for motion."""
    draw = torch.Generator().manual_seed(0)
    still = [
        one._replace(
            camera=views[0].camera,
            image=(0.1 + 0.8 * views[0].image + 0.05 * torch.randn(24, 24, 3, generator=draw)).clamp(0, 1),
        )
        for one in views
    ]
    training = make_training(iterations=60, field_rate=10.0, network_rate=10.0)
    training.views = still
    for number in range(60):
        training.step(number)
    found = shown_motion(Player(training.scene), still)
    assert found.change > 0
    assert not found.found, found
