"""What a camera sees of primitives: surfaces of known depth and normals."""

from __future__ import annotations

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, intrinsics_for, look_at
from papertrial.scenes.splatting import Primitives, RenderOut, Rules
from papertrial.scenes.surface_views import facing_normals, look_at_shape, look_at_surface, surface_depth


def camera_from(eye):
    return Camera(look_at(eye, (0.0, 0.0, 0.0)), intrinsics_for(32, 32, 40.0), 32, 32).to(torch.float64)


def wall(opacity=0.99, tilt=(1.0, 0.0, 0.0, 0.0)):
    """One large surfel in the plane z = 0, tilted by a quaternion."""
    like = {"dtype": torch.float64}
    return Primitives(
        torch.zeros(1, 3, **like),
        torch.tensor([tilt], **like),
        torch.tensor([[30.0, 30.0, 0.0]], **like),
        torch.tensor([opacity], **like),
    )


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_a_wall_has_its_depth_and_normals(ratio):
    camera = camera_from((0.5, 0.3, 3.0))
    view = look_at_surface(
        wall(), torch.ones(1, 3, dtype=torch.float64), camera, depth_ratio=ratio, backend="dense"
    )
    from papertrial.scenes.cameras import rays

    expected = -camera.centre[2] / rays(camera)[..., 2]  # where each pixel's ray meets z = 0
    torch.testing.assert_close(view.depth, expected, atol=1e-6, rtol=0)  # one surfel: mean and median agree
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(view.normals, view.alpha[..., None] * up)
    inner = (slice(1, -1), slice(1, -1))
    torch.testing.assert_close(
        view.surface_normals[inner], (view.alpha[..., None] * up)[inner], atol=1e-6, rtol=0
    )
    assert not view.surface_normals[0].any()


def test_normals_face_the_camera_from_both_sides():
    for height, sign in ((3.0, 1.0), (-3.0, -1.0)):
        normals = facing_normals(wall(), camera_from((0.5, 0.3, height)))
        torch.testing.assert_close(normals, torch.tensor([[0.0, 0.0, sign]], dtype=torch.float64))


def test_gaussians_have_the_normals_of_their_depth():
    prims = wall()
    flat = Primitives(
        prims.means, prims.quats, torch.tensor([[9.0, 9.0, 0.01]], dtype=torch.float64), prims.opacities
    )
    view = look_at_surface(
        flat,
        torch.ones(1, 3, dtype=torch.float64),
        camera_from((0.0, 0.1, 3.0)),
        rules=Rules("gaussian"),
        backend="dense",
    )
    assert torch.equal(view.normals, view.surface_normals)


def test_backgrounds_show_where_nothing_is():
    prims = wall(opacity=0.5)
    colour = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    view = look_at_surface(
        prims, colour, camera_from((0.0, 0.1, 3.0)), background=(0.0, 1.0, 0.5), backend="dense"
    )
    alpha = view.alpha[..., None]
    torch.testing.assert_close(
        view.colour, torch.cat([alpha, 1 - alpha, 0.5 * (1 - alpha)], dim=-1), atol=1e-12, rtol=0
    )


def test_pixels_without_anything_have_depth_zero_and_a_gradient():
    nothing = torch.zeros(2, 2, requires_grad=True)
    depth = torch.zeros(2, 2, requires_grad=True)
    out = RenderOut(
        torch.zeros(2, 2, 3),
        nothing,
        depth,
        torch.zeros(2, 2),
        torch.zeros(2, 2),
        torch.zeros(0, dtype=torch.int64),
        None,
        (2, 2),
    )
    found = surface_depth(out, 0.5)
    found.sum().backward()
    assert not found.any()
    assert torch.isfinite(nothing.grad).all()
    with pytest.raises(BadInputError, match="depth_ratio lies between 0"):
        surface_depth(out, 1.5)


def test_a_ratio_between_is_the_share_of_the_median():
    """Expected depths 3 / 0.75 = 4 and 1 / 0.5 = 2, medians 5 and 2.5; a quarter of the median."""
    none = torch.zeros(1, 2)
    out = RenderOut(
        torch.zeros(1, 2, 3),
        torch.tensor([[0.75, 0.5]]),
        torch.tensor([[3.0, 1.0]]),
        none,
        torch.tensor([[5.0, 2.5]]),
        torch.zeros(0, dtype=torch.int64),
        None,
        (2, 1),
    )
    for ratio, expected in ((0.0, [4.0, 2.0]), (0.25, [4.25, 2.125]), (1.0, [5.0, 2.5])):
        torch.testing.assert_close(surface_depth(out, ratio), torch.tensor([expected]))


def several(count=12):
    """Surfels about the origin, turned at random."""
    draw = torch.Generator().manual_seed(5)
    like = {"generator": draw, "dtype": torch.float64}
    scales = torch.rand(count, 3, **like) * torch.tensor([0.5, 0.5, 0.0]) + 0.1
    return Primitives(
        torch.randn(count, 3, **like) * 0.5, torch.randn(count, 4, **like), scales, torch.rand(count, **like)
    )


def test_normals_are_the_third_axis_turned_to_the_camera():
    """Against scipy's rotations."""
    from scipy.spatial.transform import Rotation

    prims, camera = several(), camera_from((0.5, 0.3, 3.0))
    w, x, y, z = prims.quats.numpy().T
    axes = torch.from_numpy(
        Rotation.from_quat(list(zip(x, y, z, w, strict=True))).as_matrix()[:, :, 2].copy()
    )
    towards = camera.centre - prims.means
    expected = axes * torch.sign((axes * towards).sum(-1, keepdim=True))
    torch.testing.assert_close(facing_normals(prims, camera), expected)


@pytest.mark.parametrize("kind", ["surfel", "gaussian"])
@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
def test_a_shape_is_that_of_the_whole_view(kind, ratio):
    prims, camera = several(), camera_from((0.5, 0.3, 3.0))
    given = {"rules": Rules(kind), "depth_ratio": ratio, "backend": "dense"}
    whole = look_at_surface(prims, torch.rand(12, 3, dtype=torch.float64), camera, **given)
    shape = look_at_shape(prims, camera, **given)
    assert shape.camera is camera
    assert torch.equal(shape.depth, whole.depth)
    torch.testing.assert_close(shape.normals, whole.normals)  # sums over other numbers of channels


def test_a_shape_has_no_gradient():
    prims = several()
    prims.means.requires_grad_()
    shape = look_at_shape(prims, camera_from((0.5, 0.3, 3.0)), backend="dense")
    assert not shape.depth.requires_grad
    assert not shape.normals.requires_grad
