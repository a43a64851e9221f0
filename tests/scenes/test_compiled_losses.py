"""The compiled kernels of losses and depth maps, against torch's own operations and against finite differences.

Both evaluate the same equations in float64; tolerances of 1e-9 leave room for sums in another order.
"""

from __future__ import annotations

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes import tsdf
from papertrial.scenes.cameras import (
    Camera,
    depth_to_normal,
    intrinsics_for,
    look_at,
    plain_depth_to_normal,
    rays,
)
from papertrial.scenes.compiled_losses import warm_up
from papertrial.scenes.compiling import compiles
from papertrial.scenes.multiview import PlaneView, multi_view_loss
from papertrial.scenes.prior_losses import (
    depth_prior_loss,
    normal_prior_loss,
    plain_depth_prior_loss,
    plain_normal_prior_loss,
)

HEIGHT, WIDTH = 13, 18
TIGHT = {"rtol": 1e-9, "atol": 1e-11}


def draw(*shape, seed=0, least=0.0):
    return least + torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def camera(eye, target=(0.1, 1.0, 0.9), height=HEIGHT, width=WIDTH):
    return Camera(look_at(eye, target), intrinsics_for(width, height, 60.0), width, height)


def assert_alike(one, two, *inputs):
    """Assert equal values and equal gradients of two functions' results."""
    torch.testing.assert_close(one, two, **TIGHT)
    weights = draw(*one.shape, seed=9) if one.ndim else torch.ones((), dtype=one.dtype)
    for mine, theirs in zip(
        torch.autograd.grad((weights * one).sum(), inputs, retain_graph=True),
        torch.autograd.grad((weights * two).sum(), inputs, retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, **TIGHT)


@pytest.mark.parametrize("offset", [0.5, 0.0])
def test_normals_of_a_depth_map(offset):
    depth = draw(HEIGHT, WIDTH, least=1.0)
    depth[2:5, 3:6] = 0  # nothing there: the middle's cross product is zero
    depth.requires_grad_()
    seen = camera((0.0, -2.0, 1.0))
    assert_alike(depth_to_normal(depth, seen, offset), plain_depth_to_normal(depth, seen, offset), depth)
    with pytest.raises(BadInputError, match="is not of camera"):
        depth_to_normal(depth[1:], seen)


def test_a_cameras_gradient_is_torchs():
    seen = camera((0.0, -2.0, 1.0))
    moving = Camera(seen.viewmat.requires_grad_(), seen.intrinsics, WIDTH, HEIGHT)
    depth_to_normal(draw(HEIGHT, WIDTH, least=1.0), moving)[1:-1, 1:-1, 0].sum().backward()
    assert bool(moving.viewmat.grad.any())


@pytest.mark.parametrize("share", [1.0, 0.7, 0.02])
@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_depth_priors(share, weight):
    """Few valid pixels leave octaves without a pair."""
    depth, prior = draw(HEIGHT, WIDTH).requires_grad_(), draw(HEIGHT, WIDTH, seed=1)
    valid = None if share == 1 else draw(HEIGHT, WIDTH, seed=2) < share
    assert_alike(
        depth_prior_loss(depth, prior, valid, gradient_weight=weight),
        plain_depth_prior_loss(depth, prior, valid, gradient_weight=weight),
        depth,
    )


def test_a_constant_depth_has_the_scale_zero_in_both():
    flat = torch.full((HEIGHT, WIDTH), 2.0, dtype=torch.float64, requires_grad=True)
    prior = draw(HEIGHT, WIDTH)
    assert_alike(depth_prior_loss(flat, prior), plain_depth_prior_loss(flat, prior), flat)
    none = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    with pytest.raises(BadInputError, match="at least one valid pixel"):
        depth_prior_loss(flat, prior, none)


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_normal_priors(share):
    """A normal of length 0 is divided by the least length, as torch's is clamped."""
    found, prior = draw(HEIGHT, WIDTH, 3) - 0.5, draw(HEIGHT, WIDTH, 3, seed=1) - 0.5
    found[4, 4] = 0
    found.requires_grad_()
    valid = None if share == 1 else draw(HEIGHT, WIDTH, seed=2) < share
    weights = {"l1_weight": 0.3, "cosine_weight": 0.2}
    # at length 0 torch's norm has no slope, and neither has the clamped length
    assert_alike(
        normal_prior_loss(found, prior, valid, **weights),
        plain_normal_prior_loss(found, prior, valid, **weights),
        found,
    )
    with pytest.raises(BadInputError, match="at least one valid pixel"):
        normal_prior_loss(found, prior, torch.zeros(HEIGHT, WIDTH, dtype=torch.bool))


def bumpy(seen, seed, depth=0.01, turn=0.1):
    """A textured wall with bumps in its depth and its normals, and nothing in one corner."""
    normal = torch.nn.functional.normalize(torch.tensor([0.15, -1.0, 0.2], dtype=torch.float64), dim=0)
    directions = rays(seen)
    exact = (-0.2 - seen.centre @ normal) / (directions @ normal)
    points = seen.centre + exact[..., None] * directions
    grey = 0.5 + 0.2 * torch.sin(9 * points[..., 0]) + 0.2 * torch.cos(7 * points[..., 2] + 1)
    shape = (seen.height, seen.width)
    found = exact * (1 + depth * (draw(*shape, seed=seed) - 0.5))
    found[:3, :3] = 0
    normals = 1.4 * (seen.rotation @ normal) + turn * (draw(*shape, 3, seed=seed + 1) - 0.5)
    normals[0, 4] = 0
    return PlaneView(seen, grey, found.requires_grad_(), normals.requires_grad_())


@pytest.mark.parametrize("patch", [1, 3, 5])
@pytest.mark.parametrize("between", [False, True])
def test_views_held_against_each_other(patch, between):
    """Both terms apart, at the pixels' centres and between them, with pixels that land outside and far away."""
    ours = bumpy(camera((0.0, -2.0, 1.0)), 3)
    theirs = bumpy(camera((0.3, -1.9, 1.2), height=15, width=16), 5)
    pixels = draw(150, 2, seed=7) * torch.tensor([WIDTH, HEIGHT]) if between else None
    found, plain = (
        multi_view_loss(ours, theirs, patch=patch, pixels=pixels, most_error=0.15, backend=backend)
        for backend in ("auto", "torch")
    )
    assert 0 < found.compared == plain.compared < (150 if between else HEIGHT * WIDTH)
    assert_alike(found.geometric, plain.geometric, ours.depth, ours.normals)
    if patch > 1:  # one pixel has no variance: no patch has texture
        assert plain.photometric > 0
        assert_alike(found.photometric, plain.photometric, ours.depth, ours.normals)
    with pytest.raises(BadInputError, match="backend"):
        multi_view_loss(ours, theirs, backend="cuda")


def test_pixels_that_come_back_exactly_pull_at_nothing():
    """A camera held against itself, whose numbers are powers of two: no error, so no direction to lessen it in."""
    matrix = torch.tensor([[16.0, 0, 8], [0, 16, 8], [0, 0, 1]], dtype=torch.float64)
    seen = Camera(torch.eye(4, dtype=torch.float64), matrix, 16, 16)
    wall = torch.tensor([0.0, 0, -1], dtype=torch.float64).expand(16, 16, 3)
    depth = torch.full((16, 16), 2.0, dtype=torch.float64, requires_grad=True)
    ours = PlaneView(seen, draw(16, 16), depth, wall.clone().requires_grad_())
    found, plain = (
        multi_view_loss(ours, ours, patch=1, backend=backend).geometric for backend in ("auto", "torch")
    )
    assert found.item() < 1e-7
    assert_alike(found, plain, ours.depth, ours.normals)


def test_planes_that_face_away_have_no_distance_to_pull_at():
    """A plane between pixels is made of four, one of which faces away: its distance is cut at 0, its normal counts."""
    ours, theirs = bumpy(camera((0.0, -2.0, 1.0)), 3), bumpy(camera((0.3, -1.9, 1.2)), 5)
    with torch.no_grad():
        ours.normals[4::4, 4::4] *= -1
    pixels = draw(150, 2, seed=7) * torch.tensor([WIDTH, HEIGHT])
    found, plain = (
        multi_view_loss(ours, theirs, patch=3, pixels=pixels, most_error=1e3, backend=backend)
        for backend in ("auto", "torch")
    )
    assert found.compared == plain.compared > 50
    assert_alike(found.geometric, plain.geometric, ours.depth, ours.normals)


def test_the_gradient_is_that_of_finite_differences():
    """Not against the other implementation: the neighbour's planes are constants only where they are flat."""
    seen, other = camera((0.0, -2.0, 1.0)), bumpy(camera((0.3, -1.9, 1.2)), 5, depth=0.0, turn=0.0)
    ours = bumpy(seen, 3, depth=0.004)
    pixels = torch.tensor([[9.5, 6.5], [7.5, 8.5], [11.5, 5.5]], dtype=torch.float64)

    def total(depth, normals):
        return multi_view_loss(
            PlaneView(seen, ours.grey, depth, normals), other, patch=3, pixels=pixels
        ).total

    depth, normals = (
        ours.depth.detach().clone().requires_grad_(),
        ours.normals.detach().clone().requires_grad_(),
    )
    loss = total(depth, normals)
    loss.backward()
    for at in ((6, 9), (8, 7)):
        for tensor, place in ((depth, at), (normals, (*at, 0)), (normals, (*at, 2))):
            ends = []
            for step in (1e-6, -1e-6):
                moved = tensor.detach().clone()
                moved[place] += step
                pair = (moved, normals.detach()) if tensor is depth else (depth.detach(), moved)
                ends.append(float(total(*pair).detach()))
            slope = (ends[0] - ends[1]) / 2e-6
            # the neighbour's planes are all one plane: sampling them elsewhere changes nothing
            assert float(tensor.grad[place]) == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_depth_maps_are_fused_alike(monkeypatch):
    """float32 sums of up to three maps, against float64."""
    cameras = [camera((0.0, -2.0, 1.0)), camera((0.4, -1.8, 1.1)), camera((0.2, -2.1, 0.7))]
    depths = [draw(HEIGHT, WIDTH, seed=at, least=1.5).float() for at in range(3)]
    depths[1][:4] = 0
    low, high = torch.tensor([-1.0, -0.6, 0.1]), torch.tensor([1.1, 0.8, 1.9])
    settings = tsdf.Settings(0.13, 0.3, 2.4)
    found = tsdf.fuse(depths, cameras, low, high, settings)
    monkeypatch.setattr(tsdf, "compiles", lambda *_: False)
    plain = tsdf.fuse(depths, cameras, low, high, settings)
    assert 0 < int((plain.weight == 3).sum()) < int((plain.weight > 0).sum()) < plain.weight.numel()
    assert torch.equal(found.weight, plain.weight)
    torch.testing.assert_close(found.distance, plain.distance, rtol=1e-5, atol=1e-6)


def test_only_the_cpu_compiles_and_warming_leaves_nothing_behind():
    assert compiles(torch.zeros(1))
    assert not compiles(torch.zeros(1), torch.zeros(1, device="meta"))
    warm_up()
