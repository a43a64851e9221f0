"""Pictures and meshes of a scene that is known exactly: a world seen ray by ray stands in for what was fitted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, intrinsics_for, look_at
from papertrial.scenes.colmap import Posed
from papertrial.scenes.fitting import Rendering
from papertrial.scenes.ply import read_mesh
from papertrial.scenes.raytracing import Paint, Sphere, World, look
from papertrial.scenes.reconstructing.baking import bake
from papertrial.scenes.reconstructing.reconstruction import (
    Meshing,
    mean_psnr,
    preview,
    write_preview,
    write_surface,
)
from papertrial.scenes.scaffold import Decoded

RADIUS = 1.0


class Ball:
    """A sphere as a fitted scene: exact colour, depth and normals; nothing beside it, and it moves with time."""

    def render(self, camera, time=0.0):
        view = look(World((), (Sphere((time, 0.0, 0.0), RADIUS, Paint((0.8, 0.2, 0.4))),)), camera)
        there = torch.isfinite(view.depth) & (view.depth > 0)
        depth = torch.where(there, view.depth, 0.0).float()
        normals = torch.where(there[..., None], view.normals, 0.0).float()
        return Rendering(view.colour.float(), there.float(), depth, normals)


def cameras(count=12, pixels=64):
    matrix = intrinsics_for(pixels, pixels, 50.0)
    golden = np.pi * (3 - np.sqrt(5))
    found = []
    for at in range(count):
        height = 0.9 * (1 - 2 * (at + 0.5) / count)
        across = np.sqrt(1 - height**2)
        eye = (float(3 * across * np.cos(golden * at)), float(3 * across * np.sin(golden * at)), 3 * height)
        found.append(Camera(look_at(eye, (0.0, 0.0, 0.0)), matrix, pixels, pixels, f"{at}").to(torch.float32))
    return found


def test_the_mesh_is_the_surface(tmp_path):
    seen = cameras()
    mesh, farthest, left_out = write_surface(tmp_path / "mesh.ply", Ball(), seen, [0.0] * len(seen))
    assert (farthest, left_out) == (np.inf, 0.0)
    assert len(read_mesh(tmp_path / "mesh.ply").triangles) == len(mesh.triangles)
    # a voxel is a pixel's width at the middle depth: about 2.2 / 69 = 0.03; fused depths are true to a part of it
    away = (mesh.vertices.norm(dim=-1) - RADIUS).abs()
    assert float(away.median()) < 0.01
    assert float(away.max()) < 0.05
    edges = (mesh.vertices[mesh.triangles[:, 0]] - mesh.vertices[mesh.triangles[:, 1]]).norm(dim=-1)
    assert 0.01 < float(edges.max()) < 0.06
    corners = mesh.vertices[mesh.triangles]
    area = (
        torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1).sum()
        / 2
    )
    assert float(area) == pytest.approx(4 * np.pi, rel=0.1)  # nearly closed


def test_voxels_may_be_chosen_and_strays_do_not_count(tmp_path):
    class Stray(Ball):
        def render(self, camera, time=0.0):
            seen = super().render(camera, time)
            depth = seen.depth.clone()
            depth[0, 0] = 300.0  # one pixel of 4,096 sees something very far
            return seen._replace(depth=depth, alpha=torch.ones_like(depth) * (depth > 0))

    seen = cameras()
    mesh = write_surface(tmp_path / "mesh.ply", Stray(), seen, [0.0] * len(seen), Meshing(voxel=0.1)).mesh
    assert float(mesh.vertices.abs().max()) < 1.2
    edges = (mesh.vertices[mesh.triangles[:, 0]] - mesh.vertices[mesh.triangles[:, 1]]).norm(dim=-1)
    assert 0.1 < float(edges.max()) < 0.2


class Screened(Ball):
    """The ball before a screen nine metres from the camera."""

    def render(self, camera, time=0.0):
        seen = super().render(camera, time)
        there = seen.depth > 0
        return seen._replace(depth=torch.where(there, seen.depth, 9.0), alpha=torch.ones_like(seen.depth))


def test_bounded_meshes_leave_out_what_is_far_and_say_how_much(tmp_path):
    """Cameras look at the origin, the nearest from 3 units: 2DGS's bounded mode then cuts depths at 6."""
    seen = cameras()
    times, path = [0.0] * len(seen), tmp_path / "mesh.ply"
    share = float(torch.stack([Ball().render(camera).depth == 0 for camera in seen]).double().mean())
    nearest = min(float(camera.centre.norm()) for camera in seen)
    bounded = write_surface(path, Screened(), seen, times, Meshing(bounded=True))
    assert bounded.farthest == pytest.approx(2 * nearest, rel=1e-3)  # the focus is found from float32 poses
    assert bounded.left_out == pytest.approx(share)
    assert float(bounded.mesh.vertices.norm(dim=-1).max()) < 1.1
    edges = (
        bounded.mesh.vertices[bounded.mesh.triangles[:, 0]]
        - bounded.mesh.vertices[bounded.mesh.triangles[:, 1]]
    )
    # 6 / 1024 would be finer than a 256th of the box, two units and a margin of one in twenty
    assert float(edges.norm(dim=-1).max()) < 3**0.5 * 2.2 / 256
    whole = write_surface(path, Screened(), seen, times)
    assert whole.left_out == 0
    assert float(whole.mesh.vertices.norm(dim=-1).max()) > 5
    limited = write_surface(path, Screened(), seen, times, Meshing(farthest=5.0))
    assert (limited.farthest, limited.left_out) == (5.0, pytest.approx(share))
    assert float(limited.mesh.vertices.norm(dim=-1).max()) < 1.1
    with pytest.raises(BadInputError, match=r"no surface to mesh.* up to 1\.5; --depth-limit sets another"):
        write_surface(path, Screened(), seen, times, Meshing(bounded=True, farthest=1.5))


def test_nothing_seen_is_no_mesh(tmp_path):
    class Blank(Ball):
        def render(self, camera, time=0.0):
            return super().render(camera, 100.0)

    with pytest.raises(BadInputError, match="there is no surface to mesh"):
        write_surface(tmp_path / "mesh.ply", Blank(), cameras(2), [0.0, 0.0])


def test_previews_show_four_pictures(tmp_path):
    (camera,) = cameras(1, pixels=64)
    photograph = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    picture = preview(Ball(), Posed(camera, photograph))
    factor, gap = 4, 2  # 240 / 64, rounded
    width = factor * 64
    assert picture.shape[1] == 4 * width + 3 * gap
    top = picture.shape[0] - width  # labels stand above
    parts = [picture[top:, at * (width + gap) : at * (width + gap) + width] for at in range(4)]
    expected = (photograph * 255 + 0.5).to(torch.uint8).numpy()
    assert np.array_equal(parts[0][::factor, ::factor], expected)
    shown = (Ball().render(camera).colour.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
    assert np.array_equal(parts[1][::factor, ::factor], shown)
    middle = width // 2
    assert parts[2][0, 0].tolist() == [0, 0, 0]  # nothing there, no depth
    near, far = parts[2][middle, middle].astype(int).sum(), parts[2][middle, width // 4].astype(int).sum()
    assert near > far > 0
    # what faces the camera is (0, 0, 1), light blue; what faces upwards is greener, to the right redder
    assert np.abs(parts[3][middle, middle].astype(int) - [128, 128, 255]).max() <= 4
    assert parts[3][middle - width // 6, middle][1] > 150
    assert parts[3][middle, middle + width // 6][0] > 150
    write_preview(Ball(), Posed(camera, photograph), tmp_path, 300)
    with Image.open(tmp_path / "preview.png") as file:
        assert np.array_equal(np.asarray(file), picture)
    assert (tmp_path / "previews" / "step_00300.png").is_file()


def test_likeness_is_the_mean_over_views_at_their_times():
    seen = cameras(2)
    views = [
        Posed(camera, Ball().render(camera, time).colour + 0.1)
        for camera, time in zip(seen, (0.0, 0.5), strict=True)
    ]
    assert mean_psnr(Ball(), views, [0.0, 0.5]) == pytest.approx(20.0, abs=1e-3)  # 10 log10(1 / 0.1²)
    assert mean_psnr(Ball(), views, [0.0, 0.0]) < 20.0
    assert mean_psnr(Ball(), [], []) is None


def test_baking_takes_each_primitive_from_the_nearest_camera():
    near, far, _ = cameras(3)

    def decode(camera):
        """Camera near shows slots 0 and 2, far 2 and 1; slot 2 lies by far."""
        slots = torch.tensor([0, 2] if camera is near else [2, 1])
        place = {0: near.centre, 1: near.centre, 2: far.centre}
        means = torch.stack([0.9 * place[int(slot)] for slot in slots])
        level = 0.25 if camera is near else 0.75
        return Decoded(
            means,
            torch.ones(2, 4),
            torch.tensor([[0.1, 0.2, 0.0]]).expand(2, 3),
            torch.full((2,), level),
            torch.full((2, 3), level),
            slots,
            torch.zeros(1, 3),
        )

    baked = bake(decode, [near, far])
    assert baked.slots.tolist() == [0, 1, 2]
    assert baked.colours[:, 0].tolist() == [0.25, 0.75, 0.75]
    assert baked.primitives.opacities.tolist() == [0.25, 0.75, 0.75]
    torch.testing.assert_close(baked.primitives.means[2], 0.9 * far.centre)
    assert float(baked.primitives.scales.min()) > 0  # files keep logarithms

    def nothing(camera):
        return Decoded(*(one[:0] for one in decode(camera)))

    with pytest.raises(BadInputError, match="nothing to write"):
        bake(nothing, [near])
