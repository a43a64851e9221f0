"""The scene: how it starts, what it saves, and its pictures against the dense rasteriser."""

from __future__ import annotations

import math

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.harmonics import colours
from papertrial.scenes.plain_splats import PlainFit, PlainSettings, Rates, SplatScene, make_optimizer
from papertrial.scenes.plain_splats.scene import ROWS
from papertrial.scenes.ply import read_splats


@pytest.mark.parametrize(("kind", "axes"), [("surfel", 2), ("gaussian", 3)])
def test_a_primitive_starts_at_every_point(kind, axes, cloud):
    points, rgb = cloud(40)
    scene = SplatScene.from_points(points, rgb, kind, seed=5)
    assert torch.equal(scene.means, points)
    apart = torch.cdist(points.double(), points.double())
    nearest = apart.sort(dim=1).values[:, 1:4]  # the brute force of three nearest neighbours
    wide = nearest.square().mean(1).sqrt().float()
    torch.testing.assert_close(scene.extents(), wide[:, None].expand(-1, axes))
    torch.testing.assert_close(scene.opacities(), torch.full((40,), 0.1))
    torch.testing.assert_close(scene.quats.norm(dim=-1), torch.ones(40))
    assert (scene.quats >= 0).all()
    assert scene.bands.shape == (40, 15, 3)
    assert not scene.bands.any()
    torch.testing.assert_close(colours(scene.coefficients(), points), rgb)  # from any direction


def test_rotations_are_drawn_by_the_seed(cloud):
    points, rgb = cloud()
    quats = [SplatScene.from_points(points, rgb, seed=seed).quats for seed in (1, 1, 2)]
    assert torch.equal(quats[0], quats[1])
    assert not torch.equal(quats[0], quats[2])


def test_points_in_one_place_get_the_least_scale():
    scene = SplatScene.from_points(torch.zeros(3, 3), torch.zeros(3, 3))
    torch.testing.assert_close(scene.extents(), torch.full((3, 2), math.sqrt(1e-7)))


def test_rates_are_the_published_ones(cloud):
    scene = SplatScene.from_points(*cloud())
    optimizer = make_optimizer(scene, Rates(), 2.5)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {
        "means": 1.6e-4 * 2.5,
        "quats": 0.001,
        "log_scales": 0.005,
        "opacity_logits": 0.05,
        "base": 0.0025,
        "bands": 0.000125,
    }
    assert {group["eps"] for group in optimizer.param_groups} == {1e-15}
    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert held == {id(getattr(scene, name)) for name in ROWS}


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
def test_saved_scenes_show_the_same(kind, cloud, views, tmp_path):
    scene = SplatScene.from_points(*cloud(), kind)
    with torch.no_grad():
        scene.bands.normal_(generator=torch.Generator().manual_seed(0))
    scene.save(tmp_path / "scene.safetensors")
    again = SplatScene.load(tmp_path / "scene.safetensors")
    assert (again.kind, again.degree) == (kind, 3)
    settings = PlainSettings() if kind == "surfel" else PlainSettings.gaussians()
    posed = views(kind)
    for one, two in zip(
        PlainFit(scene, posed, settings).render(posed[0].camera),
        PlainFit(again, posed, settings).render(posed[0].camera),
        strict=True,
    ):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
def test_viewers_read_the_same_splats(kind, cloud, tmp_path):
    scene = SplatScene.from_points(*cloud(), kind)
    scene.write_ply(tmp_path / "a.ply")
    found = read_splats(tmp_path / "a.ply")
    assert found.kind == kind
    # float32 logarithms and logits, and back: a few units in the last place
    torch.testing.assert_close(found.primitives.means, scene.means.detach())
    torch.testing.assert_close(found.primitives.scales, scene.primitives().scales.detach())
    torch.testing.assert_close(found.primitives.opacities, scene.opacities().detach())
    torch.testing.assert_close(found.coefficients, scene.coefficients().detach())


def test_scenes_that_cannot_be_are_refused(cloud, tmp_path):
    points, rgb = cloud()
    with pytest.raises(BadInputError, match="at least 2 are needed, got 1"):
        SplatScene.from_points(points[:1], rgb[:1])
    with pytest.raises(BadInputError, match="60 points have 59 colours"):
        SplatScene.from_points(points, rgb[1:])
    with pytest.raises(BadInputError, match="colours of points must lie within 0 and 1"):
        SplatScene.from_points(points, rgb * 255)
    rows = SplatScene.from_points(points, rgb).rows()
    with pytest.raises(
        BadInputError, match=r"log_scales of 60 primitives of kind gaussian .* \[60, 3\], got \[60, 2\]"
    ):
        SplatScene(rows, "gaussian")
    with pytest.raises(BadInputError, match="quats missing"):
        SplatScene({name: row for name, row in rows.items() if name != "quats"})
    with pytest.raises(BadInputError, match="bands are 0, 3, 8 or 15"):
        SplatScene({**rows, "bands": rows["bands"][:, :5]})
    with pytest.raises(BadInputError, match="cannot be read as safetensors"):
        SplatScene.load(tmp_path / "none.safetensors")
