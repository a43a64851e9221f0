"""Fusion of a sphere's exact depth maps, against the sphere."""

from __future__ import annotations

import math

import pytest
import torch

from papertrial.errors import BadInputError, MissingExtraError
from papertrial.scenes.cameras import Camera, intrinsics_for, look_at, rays
from papertrial.scenes.ply import Mesh
from papertrial.scenes.tsdf import (
    Settings,
    Volume,
    bounded_settings,
    extract_mesh,
    focus_point,
    fuse,
    keep_largest,
    surface_points,
)

RADIUS = 0.5
SETTINGS = Settings(voxel=0.05, truncation=0.2, farthest=10.0)
LOW, HIGH = torch.full((3,), -0.8), torch.full((3,), 0.8)


def cameras(size=96):
    eyes = [
        (2.0, 0.0, 0.1),
        (-2.0, 0.1, 0.0),
        (0.0, 2.0, 0.1),
        (0.1, -2.0, 0.0),
        (0.1, 0.1, 2.0),
        (0.1, 0.0, -2.0),
    ]
    matrix = intrinsics_for(size, size, 50.0)
    return [Camera(look_at(eye, (0.0, 0.0, 0.0)), matrix, size, size) for eye in eyes]


def sphere_depth(camera):
    direction = rays(camera)
    a = direction.square().sum(-1)
    b = direction @ camera.centre
    c = camera.centre.square().sum() - RADIUS**2
    inside = b * b - a * c
    return torch.where(inside > 0, (-b - inside.clamp(min=0).sqrt()) / a, torch.zeros_like(a))


@pytest.fixture(scope="module")
def volume():
    seen = cameras()
    return fuse([sphere_depth(camera) for camera in seen], seen, LOW, HIGH, SETTINGS)


def test_one_view_of_a_wall_gives_the_distance_along_its_axis():
    camera = Camera(look_at((0.0, 0.0, 0.0), (1.0, 0.0, 0.0)), intrinsics_for(32, 32, 60.0), 32, 32)
    wall = torch.full((32, 32), 2.0, dtype=torch.float64)
    found = fuse([wall], [camera], torch.tensor([1.5, 0.0, 0.0]), torch.tensor([2.5, 0.1, 0.1]), SETTINGS)
    x = 1.5 + 0.05 * torch.arange(found.distance.shape[0])
    expected = ((2.0 - x) / 0.2).clamp(max=1)
    seen = expected > -1 + 1e-5
    line, weight = found.distance[:, 1, 1], found.weight[:, 1, 1]
    torch.testing.assert_close(line[seen], expected[seen], rtol=0, atol=1e-5)  # float32 coordinates
    assert (weight[seen] == 1).all()
    assert (weight[expected < -1 - 1e-5] == 0).all()


def test_points_of_a_fused_sphere_lie_on_it_and_all_over_it(volume):
    points = surface_points(volume)
    away = (points.norm(dim=-1) - RADIUS).abs()
    # depth along a slanted ray overstates the distance, so averages of views bend: a fifth of a voxel in the mean
    assert away.mean() < 0.01
    assert away.quantile(0.99) < SETTINGS.voxel
    draw = torch.nn.functional.normalize(
        torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    assert torch.cdist(RADIUS * draw, points).min(dim=1).values.max() < 1.5 * SETTINGS.voxel


def test_the_sign_is_positive_outside(volume):
    axis = torch.arange(volume.distance.shape[0]) * SETTINGS.voxel - 0.8
    away = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).norm(dim=-1) - RADIUS
    seen = volume.weight > 0
    assert (volume.distance[seen & (away > 0.05)] > 0).all()
    assert (volume.distance[seen & (away < -0.06)] < 0).all()
    assert (volume.distance[~seen] == 1).all()


def test_a_mesh_of_the_sphere_has_its_area(volume):  # and nothing where cubes were seen in part
    pytest.importorskip("skimage.measure", reason="scikit-image is not installed")
    mesh = keep_largest(extract_mesh(volume))
    a, b, c = mesh.vertices[mesh.triangles].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1).sum() / 2
    assert float(area) == pytest.approx(4 * math.pi * RADIUS**2, rel=0.05)


def test_without_scikit_image_a_mesh_names_the_extra(volume, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.measure", None)
    with pytest.raises(MissingExtraError, match=r"papertrial\[scenes\]"):
        extract_mesh(volume)


def test_points_lie_where_the_line_between_voxels_crosses_zero():
    distance = torch.full((2, 2, 2), 1.0)
    distance[1] = -0.5
    weight = torch.ones(2, 2, 2)
    weight[1, 1, 1] = 0  # unseen: its edges give nothing
    found = surface_points(Volume(torch.tensor([10.0, 0.0, 0.0]), 0.3, distance, weight))
    expected = torch.tensor([[10.2, 0.0, 0.0], [10.2, 0.0, 0.3], [10.2, 0.3, 0.0]])
    torch.testing.assert_close(found, expected)


def test_bounded_scenes_take_their_scale_from_the_focus():
    eyes = [(3.0, 0.0, 0.0), (0.0, 2.0, 0.0), (1.0, 1.0, 4.0)]
    target = (0.2, -0.1, 0.3)
    seen = [Camera(look_at(eye, target), intrinsics_for(8, 8, 50.0), 8, 8) for eye in eyes]
    torch.testing.assert_close(focus_point(seen), torch.tensor(target, dtype=torch.float64))
    nearest = min(math.dist(eye, target) for eye in eyes)
    found = bounded_settings(seen)
    assert found == pytest.approx((2 * nearest / 1024, 10 * nearest / 1024, 2 * nearest))
    assert bounded_settings(seen, farthest=2.0) == (2 / 1024, 10 / 1024, 2.0)
    with pytest.raises(BadInputError, match="1 cameras that look the same way"):
        focus_point(seen[:1])
    with pytest.raises(BadInputError, match="2 cameras that look the same way"):
        focus_point([seen[0], seen[0]])


def fan(start, triangles):
    """A strip of triangles of its own vertices."""
    return [[start, start + i + 1, start + i + 2] for i in range(triangles)]


def test_small_parts_go_and_as_many_as_asked_stay():
    sizes, triangles, start = (60, 55, 70, 10), [], 0
    for size in sizes:
        triangles += fan(start, size)
        start += size + 2
    mesh = Mesh(torch.arange(3.0 * start).reshape(start, 3), torch.tensor(triangles))
    assert len(keep_largest(mesh).triangles) == 60 + 55 + 70  # the part of ten is below fifty
    kept = keep_largest(mesh, clusters=2)
    assert len(kept.triangles) == 60 + 70
    assert len(kept.vertices) == 62 + 72
    first = mesh.vertices[mesh.triangles[:60]]
    assert torch.equal(kept.vertices[kept.triangles[:60]], first)  # renumbered, the same corners
    assert len(keep_largest(mesh, clusters=2, least=1000).triangles) == 0
    with pytest.raises(BadInputError, match="at least one cluster"):
        keep_largest(mesh, clusters=0)


def test_bad_input_is_refused():
    seen = cameras(8)
    depth = torch.ones(8, 8)
    with pytest.raises(BadInputError, match="got 1 for 6"):
        fuse([depth], seen, LOW, HIGH, SETTINGS)
    with pytest.raises(BadInputError, match="finite numbers"):
        fuse([depth * math.nan], seen[:1], LOW, HIGH, SETTINGS)
    with pytest.raises(BadInputError, match="at most 64,000,000 in all"):
        fuse([depth], seen[:1], LOW, HIGH, SETTINGS._replace(voxel=1e-3))
