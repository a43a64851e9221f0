"""The loss against priors: what it is blind to, sums written out, frames, and priors that cannot be used."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.room_2dgs import Prior, PriorSettings, PriorTerm
from papertrial.scenes.room_2dgs.priors import check_not_disparity, known_depth


def term(room, at, settings=None, **prior):
    """A term for one training view, with what is given in place of its predictions."""
    own = {"depth": room.train[at].prior_depth, "normals": room.train[at].prior_normals, **prior}
    return PriorTerm([Prior(**own)], [room.train[at].exact.camera], settings)


def exact_normals(room, at):
    """The true normals in the camera's frame."""
    view = room.train[at].exact
    return view.normals.float() @ view.camera.rotation.T


def test_a_flattened_room_costs_the_depth_term_nothing(room, exact):
    """Depth squeezed to a tenth and pushed away is an affine map: no scale is fitted worse for it."""
    depth = room.train[0].exact.depth.float()
    held = term(room, 0, depth=depth, normals=None)
    for seen in (depth, 0.1 * depth + 3.0):
        assert held(0, 0, exact(0, depth=seen))["depth_prior"].item() < 1e-5  # float32, squares and 4 octaves
    bent = depth * (1 + 0.1 * torch.linspace(-1, 1, 24))
    assert held(0, 0, exact(0, depth=bent))["depth_prior"].item() > 1e-2


def test_it_is_the_papers_sum(room, exact):
    """Equation 10's fit by numpy's least squares, squares and neighbours' differences summed in loops."""
    import numpy as np

    seen = room.train[2].exact.depth + 0.1 * torch.randn(24, 24, generator=torch.Generator().manual_seed(0))
    prior = room.train[2].prior_depth.double()
    columns = np.stack([seen.reshape(-1).numpy(), np.ones(seen.numel())], axis=1)
    w, q = np.linalg.lstsq(columns, prior.reshape(-1).numpy(), rcond=None)[0]
    residual = (w * seen + q - prior).numpy()
    expected = (residual**2).mean()
    for step in (1, 2, 4, 8):
        thin = residual[::step, ::step]
        expected += 0.5 * (np.abs(np.diff(thin, axis=0)).mean() + np.abs(np.diff(thin, axis=1)).mean())
    held = term(room, 2, normals=None)
    found = held(0, 0, exact(2, depth=seen.float()))
    assert set(found) == {"depth_prior"}
    assert found["depth_prior"].item() == pytest.approx(expected, rel=1e-4)  # float32
    half = term(room, 2, PriorSettings(depth=0.5), normals=None)
    assert half(0, 0, exact(2, depth=seen.float()))["depth_prior"].item() == pytest.approx(
        expected / 2, rel=1e-4
    )


def test_normals_meet_in_the_cameras_frame(room, exact):
    """True normals cost nothing; turned by 90 degrees about the axis of view, 0.01 |difference| + 0.01 (1 - cosine)."""
    held = term(room, 1, depth=None, normals=exact_normals(room, 1))
    assert held(0, 0, exact(1))["normal_prior"].item() < 1e-6
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    true = exact_normals(room, 1)
    turned = true @ quarter.T
    expected = 0.01 * (true - turned).abs().sum(-1).mean() + 0.01 * (1 - (true * turned).sum(-1)).mean()
    held = term(room, 1, depth=None, normals=turned)
    assert held(0, 0, exact(1))["normal_prior"].item() == pytest.approx(expected.item(), rel=1e-4)
    in_world = term(
        room, 1, depth=None, normals=room.train[1].exact.normals.float() * true[..., 2:].sign().neg()
    )
    assert in_world(0, 0, exact(1))["normal_prior"].item() > 1e-3


def test_pixels_without_normal_or_depth_are_left_out(room, exact):
    true = exact_normals(room, 1)
    holed = true.clone()
    holed[:10] = 0
    shown = room.train[1].exact.normals.float().clone()
    shown[:10] = torch.tensor([0.0, 0.0, 1.0])  # wrong, but only where the prior has no normal
    assert (
        term(room, 1, depth=None, normals=holed)(0, 0, exact(1, normals=shown))["normal_prior"].item() < 1e-6
    )
    depth = room.train[1].exact.depth.float().clone()
    held = term(room, 1, depth=depth.clone(), normals=None)
    depth[3:9, 3:9] = 0  # nothing was rendered there
    assert held(0, 0, exact(1, depth=depth))["depth_prior"].item() < 1e-5
    assert held(0, 0, exact(1, depth=torch.zeros(24, 24))) == {}


def test_terms_start_and_are_left_out(room, exact):
    late = term(room, 0, PriorSettings(start=5))
    assert late(4, 0, exact(0)) == {}
    assert set(late(5, 0, exact(0))) == {"depth_prior", "normal_prior"}
    assert set(term(room, 0, PriorSettings(depth=0.0))(0, 0, exact(0))) == {"normal_prior"}
    assert set(term(room, 0, PriorSettings(normal=0.0))(0, 0, exact(0))) == {"depth_prior"}
    assert term(room, 0, depth=None, normals=None)(0, 0, exact(0)) == {}


def test_at_unit_deviation_the_priors_unit_does_not_matter(room, exact):
    prior = room.train[0].prior_depth
    unit = PriorSettings(unit_deviation=True)
    seen = exact(0, depth=torch.rand(24, 24, generator=torch.Generator().manual_seed(1)) + 1)
    one, hundred = (term(room, 0, unit, depth=scale * prior, normals=None)(0, 0, seen) for scale in (1, 100))
    assert one["depth_prior"].item() == pytest.approx(hundred["depth_prior"].item(), rel=1e-4)
    shifted = term(room, 0, unit, depth=prior + 5, normals=None)(
        0, 0, seen
    )  # a shift is fitted away, not scaled by
    assert one["depth_prior"].item() == pytest.approx(shifted["depth_prior"].item(), rel=1e-3)
    plain = term(room, 0, depth=100 * prior, normals=None)(0, 0, seen)
    assert plain["depth_prior"].item() > 100 * one["depth_prior"].item()


def test_blended_and_median_depth_can_be_held(room, exact):
    view = exact(0)
    blended = replace(view.out, depth=2 * view.depth.square(), alpha=torch.full((24, 24), 2.0))
    view = replace(view, out=blended)  # expected depth: the square; median depth: the depth
    held = term(room, 0, depth=room.train[0].exact.depth.float(), normals=None)
    assert held(0, 0, view)["depth_prior"].item() > 1e-3
    median = term(
        room, 0, PriorSettings(depth_ratio=1.0), depth=room.train[0].exact.depth.float(), normals=None
    )
    assert median(0, 0, view)["depth_prior"].item() < 1e-5


def test_known_depth_is_the_nearest_point_of_a_pixel(room):
    camera = room.train[0].exact.camera
    ray = camera.forward
    points = torch.stack([camera.centre + 3 * ray, camera.centre + 2 * ray, camera.centre - ray])
    found = known_depth(points, camera)
    assert int((found > 0).sum()) == 1
    assert found[12, 12].item() == pytest.approx(2.0, rel=1e-5)


def test_disparity_is_told_by_the_points_of_all_images(room):
    cameras = [view.exact.camera for view in room.train]
    depths = [view.prior_depth for view in room.train]
    check_not_disparity(depths, cameras, room.cloud.points)
    flipped = [1 / (depth - depth.min() + 1) for depth in depths]
    with pytest.raises(
        BadInputError, match=r"of 1[0-9] images, 'train_0.*they are disparity, give 1 / prior"
    ):
        PriorTerm([Prior(depth) for depth in flipped], cameras, points=room.cloud.points)
    some = [flipped[at] if at < 5 else depths[at] for at in range(16)]  # images vote
    check_not_disparity(some, cameras, room.cloud.points)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (
            {"depth": torch.rand(24, 20)},
            "depth prior of image 'train_000' is 20 x 24 pixels, the image 24 x 24",
        ),
        ({"depth": torch.rand(24, 24).fill_diagonal_(torch.nan)}, "has 24 pixels that are not finite"),
        ({"depth": torch.full((24, 24), 2.0)}, "'train_000' is 2 everywhere: no scale and shift"),
        ({"normals": torch.rand(20, 24, 3)}, "normal prior of image 'train_000' is 24 x 20 pixels"),
        ({"normals": torch.full((24, 24, 3), torch.inf)}, "has 576 pixels that are not finite"),
        ({"normals": torch.zeros(24, 24, 3)}, "'train_000' has no normal"),
        (
            {"normals": torch.tensor([0.0, 0.0, 1.0]).expand(24, 24, 3)},
            "100 % of the normals predicted for image 'train_000' point away",
        ),
    ],
)
def test_priors_that_cannot_be_used_name_their_image(room, prior, message):
    with pytest.raises(BadInputError, match=message):
        term(room, 0, **prior)


def test_there_is_one_prior_for_each_view(room):
    with pytest.raises(BadInputError, match="1 views have 2 priors"):
        PriorTerm([Prior(), Prior()], [room.train[0].exact.camera])
    with pytest.raises(BadInputError, match="weights and steps must be 0 or more"):
        PriorSettings(gradient=-1.0)
