"""Cloning, splitting, pruning and resetting, each on rows that are worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from papertrial.scenes.plain_splats import (
    DensifySettings,
    PlainSettings,
    Rates,
    SplatScene,
    densify,
    make_optimizer,
    reset_opacities,
)
from papertrial.scenes.plain_splats.densification import mean_gradients, observe, screen_radius
from papertrial.scenes.plain_splats.scene import ROWS, STATISTICS
from papertrial.scenes.splatting import Primitives, Rules, quaternion_to_matrix, rasterize

SETTINGS = DensifySettings()


def logit(share):
    return math.log(share / (1 - share))


def made(gradients, scales, opacities, kind="surfel", seen=4.0):
    """Return a scene whose rows are told apart by their means, and its optimizer after a step."""
    count = len(gradients)
    axes = 2 if kind == "surfel" else 3
    draw = torch.Generator().manual_seed(0)
    rows = {
        "means": torch.arange(3.0 * count).reshape(count, 3),
        "quats": torch.rand(count, 4, generator=draw),
        "log_scales": torch.tensor(scales).log()[:, None].repeat(1, axes),
        "opacity_logits": torch.tensor([logit(one) for one in opacities]),
        "base": torch.rand(count, 1, 3, generator=draw),
        "bands": torch.rand(count, 15, 3, generator=draw),
    }
    scene = SplatScene(rows, kind)
    optimizer = make_optimizer(scene, replace(Rates(), position=1e-9), 1.0)
    sum(getattr(scene, name).sum() for name in ROWS).backward()
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:  # moments without moving anything
        group["lr"] = 0.0
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scene.gradient_sum += seen * torch.tensor(gradients)
    scene.gradient_count += seen
    return scene, optimizer


def changed(scene, optimizer, settings=SETTINGS, extent=1.0, seed=0, **which):
    return densify(scene, optimizer, settings, extent, torch.Generator().manual_seed(seed), **which)


def test_small_steep_primitives_are_copied_exactly():
    # dense = 0.01 of the extent: row 1 is at the limit and steep, row 0 is flat, row 2 is steep enough by a hair
    scene, optimizer = made([1.9e-4, 3e-4, 2e-4], [0.005, 0.01, 0.004], [0.5, 0.6, 0.7])
    before = {name: row.clone() for name, row in scene.rows().items()}
    moments = {name: optimizer.state[getattr(scene, name)]["exp_avg"].clone() for name in ROWS}
    scene.log_scales.data[1] = math.log(0.01) - 1e-6  # what float32 makes of the limit itself
    before["log_scales"] = scene.log_scales.detach().clone()
    assert changed(scene, optimizer) == (2, 0, 0)
    for name in ROWS:
        now = getattr(scene, name)
        assert torch.equal(now.detach(), before[name][[0, 1, 2, 1, 2]]), name
        state = optimizer.state[now]
        assert torch.equal(state["exp_avg"][:3], moments[name])  # old moments stay
        assert not state["exp_avg"][3:].any()  # new ones are zero
        assert not state["exp_avg_sq"][3:].any()
        assert float(state["step"]) == 1
    for name in STATISTICS:
        assert getattr(scene, name).tolist() == [0.0] * 5
    assert [group["name"] for group in optimizer.param_groups] == [
        "means",
        "quats",
        "log_scales",
        "opacity_logits",
        "base",
        "bands",
    ]


def test_large_steep_primitives_are_replaced_by_two_smaller_ones():
    scene, optimizer = made([3e-4, 0.0, 3e-4], [0.02, 0.5, 0.009], [0.5, 0.6, 0.7])
    before = scene.rows()
    parent = {name: row[0].clone() for name, row in before.items()}
    assert changed(scene, optimizer) == (1, 1, 0)
    assert len(scene) == 5  # rows 1 and 2, the clone of 2, two children of 0
    for name in ("quats", "opacity_logits", "base", "bands"):
        assert torch.equal(getattr(scene, name)[:3].detach(), before[name][[1, 2, 2]])
        assert torch.equal(getattr(scene, name)[3].detach(), parent[name])
        assert torch.equal(getattr(scene, name)[4].detach(), parent[name])
    torch.testing.assert_close(scene.extents()[3:], torch.full((2, 2), 0.02 / 1.6))
    offsets = scene.means[3:].detach() - parent["means"]
    normal = quaternion_to_matrix(parent["quats"][None])[0, :, 2]
    # children lie in the parent's plane, within six of its standard deviations; float32 of means near 1
    assert (offsets @ normal).abs().max() < 1e-6
    assert 0 < offsets.norm(dim=-1).min() < offsets.norm(dim=-1).max() < 6 * 0.02


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
def test_children_are_drawn_from_their_parent(kind):
    count, axes = 4000, 2 if kind == "surfel" else 3
    scene, optimizer = made([1.0] * count, [0.5] * count, [0.5] * count, kind)
    with torch.no_grad():
        scene.means.zero_()
        scene.quats.copy_(torch.tensor([0.3, -0.5, 0.4, 0.7]).expand(count, 4))
        scene.log_scales.copy_(torch.tensor([0.2, 0.4, 0.8][:axes]).log().expand(count, axes))
    turn = quaternion_to_matrix(scene.quats[:1].detach())[0]
    changed(scene, optimizer)
    assert len(scene) == 2 * count
    along = scene.means.detach() @ turn  # in the parent's axes
    wanted = torch.diag(torch.tensor([0.2, 0.4, 0.8 if kind == "gaussian" else 0.0]) ** 2)
    # the covariance of 8,000 draws is off by about sqrt(2 / 8000) = 1.6 % of a variance; 4 of these
    torch.testing.assert_close(along.T.cov(), wanted, atol=0.065 * float(wanted.max()), rtol=0.0)
    assert along.mean(0).abs().max() < 4 * 0.8 / math.sqrt(8000)


def test_faint_and_large_primitives_go():
    settings = replace(SETTINGS, most_radius=20.0)
    opacities = [0.049, 0.051, 0.5, 0.5]
    scales = [0.05, 0.05, 0.11, 0.05]

    def kept(**which):
        scene, optimizer = made([0.0] * 4, scales, opacities)
        scene.radius += torch.tensor([1.0, 20.0, 1.0, 21.0])
        changes = changed(scene, optimizer, settings, **which)
        assert changes.pruned == 4 - len(scene)
        return (scene.means[:, 0].detach() / 3).tolist()

    assert kept() == [1, 2, 3]
    assert kept(prune_large=True) == [1]
    assert kept(prune_faint=False) == [0, 1, 2, 3]
    assert kept(prune_faint=False, prune_large=True) == [0, 1]


def test_radii_prune_nothing_unless_a_limit_is_given():
    """The released code clears the radii before it compares them with 20 pixels; the default has the same effect."""
    assert DensifySettings().most_radius is PlainSettings().densify.most_radius is None
    for most, left in ((None, 3), (20.0, 1)):
        scene, optimizer = made([0.0] * 3, [0.05] * 3, [0.5] * 3)
        scene.radius += torch.tensor([5.0, 21.0, 4000.0])
        changed(scene, optimizer, replace(SETTINGS, most_radius=most), prune_large=True)
        assert len(scene) == left


def test_the_extent_is_the_scenes_ruler():
    scene, optimizer = made([1.0, 1.0], [0.05, 0.3], [0.5, 0.5])
    assert changed(scene, optimizer, extent=10.0) == (1, 1, 0)  # 0.05 is small in a scene of 10
    scene, optimizer = made([0.0, 0.0], [0.05, 1.3], [0.5, 0.5])
    assert changed(scene, optimizer, extent=10.0, prune_large=True) == (0, 0, 1)


def test_clones_of_faint_primitives_go_with_them():
    scene, optimizer = made([1.0, 0.0], [0.005, 0.005], [0.01, 0.5])
    assert changed(scene, optimizer) == (1, 0, 2)
    assert (scene.means[:, 0].detach() / 3).tolist() == [1]


def test_the_steepest_come_first_where_there_is_a_limit():
    settings = replace(SETTINGS, most=5)
    scene, optimizer = made([3e-4, 9e-4, 1e-5, 5e-4], [0.005, 0.5, 0.005, 0.005], [0.5] * 4)
    assert changed(scene, optimizer, settings) == (0, 1, 0)  # one more is allowed: the split, which adds one
    assert len(scene) == 5
    assert changed(scene, optimizer, settings) == (0, 0, 0)


def test_rows_that_were_never_seen_have_no_gradient():
    scene, _ = made([1.0, 1.0], [0.1, 0.1], [0.5, 0.5])
    scene.gradient_count[1] = 0
    scene.gradient_sum[1] = 0
    assert mean_gradients(scene).tolist() == [1.0, 0.0]


def test_resets_cut_opacities_and_forget_their_moments():
    scene, optimizer = made([0.0] * 3, [0.1] * 3, [0.005, 0.01, 0.9])
    others = {name: optimizer.state[getattr(scene, name)]["exp_avg"].clone() for name in ROWS}
    reset_opacities(scene, optimizer, 0.01)
    torch.testing.assert_close(scene.opacities(), torch.tensor([0.005, 0.01, 0.01]))
    state = optimizer.state[scene.opacity_logits]
    assert not state["exp_avg"].any()
    assert not state["exp_avg_sq"].any()
    assert float(state["step"]) == 1
    assert torch.equal(optimizer.state[scene.means]["exp_avg"], others["means"])


def test_statistics_are_the_norms_of_screen_gradients(cameras):
    camera = cameras(1)[0]
    scene, _ = made([0.0] * 3, [0.1] * 3, [0.5] * 3)
    with torch.no_grad():
        scene.means.copy_(torch.tensor([[0.0, 0, 0], [0.1, 0.1, 0], [50.0, 0, 0]]))  # the last is behind
    for name in STATISTICS:
        getattr(scene, name).zero_()
    expected = torch.zeros(3)
    for _ in range(2):
        out = rasterize(
            scene.primitives(),
            camera.viewmat,
            camera.intrinsics,
            16,
            16,
            features=scene.base[:, 0],
            track=True,
        )
        (out.features * torch.linspace(0, 1, 16)[:, None]).mean().backward()
        observe(scene, out, camera, Rules(), radii=True)
        # device units: half the image's 16 pixels in each direction
        expected += (out.probe.grad * 8).norm(dim=-1)
    torch.testing.assert_close(scene.gradient_sum, expected)
    assert scene.gradient_count.tolist() == [2, 2, 0]
    assert (scene.gradient_sum[:2] > 0).all()
    assert (scene.radius[:2] > 0).all()
    assert scene.radius[2] == 0


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
def test_a_radius_on_the_screen_is_three_standard_deviations(kind, cameras):
    camera = cameras(1, pixels=200)[0]
    focal, away = float(camera.intrinsics[0, 0]), float(camera.centre.norm())
    facing = look_quaternion(camera)
    scales = torch.tensor([[0.02, 0.05, 0.0 if kind == "surfel" else 0.01]])
    prims = Primitives(torch.zeros(1, 3), facing, scales, torch.ones(1))
    radius = float(screen_radius(prims, camera, Rules(kind)))
    flat = 3 * 0.05 * focal / away
    # up to a pixel by rounding up, and some by the blur of Gaussians and the perspective of surfels
    assert flat <= radius <= 1.1 * flat + 1.5


def look_quaternion(camera):
    """Return the quaternion whose axes are the camera's: a primitive that faces it."""
    turn = camera.rotation.T
    w = float((1 + turn.diagonal().sum()).sqrt()) / 2
    parts = [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
    return torch.tensor([[w, *(float(part) / (4 * w) for part in parts)]])
