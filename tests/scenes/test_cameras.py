"""Cameras against hand-made cases, and maps of depth against the planes they were made of."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import (
    Camera,
    check_poses,
    depth_to_normal,
    depth_to_points,
    intrinsics_for,
    look_at,
    near_plane,
    pixel_grid,
    project_points,
    rays,
    scene_extent,
)
from papertrial.scenes.procedural_clip import make_clip
from papertrial.scenes.procedural_room import RoomSettings, make_room


def camera(eye=(0.0, -2.0, 1.0), target=(0.0, 0.0, 1.0), width=8, height=6, degrees=90.0, name="one"):
    return Camera(look_at(eye, target), intrinsics_for(width, height, degrees), width, height, name)


def test_a_camera_looks_right_down_and_forward():
    seen = camera()
    assert torch.allclose(seen.forward, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    assert torch.allclose(seen.rotation[0], torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    assert torch.allclose(seen.rotation[1], torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64))
    assert torch.allclose(seen.centre, torch.tensor([0.0, -2.0, 1.0], dtype=torch.float64))


def test_a_point_ahead_falls_into_the_middle_and_one_to_the_right_by_the_focal_length():
    points = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    pixels, depth, seen = project_points(points, camera())
    # 90 degrees on 8 pixels: focal length 4; one metre aside at depth 2 is 2 pixels; up is towards row 0
    assert torch.allclose(pixels, torch.tensor([[4.0, 3.0], [6.0, 3.0], [4.0, 1.0]], dtype=torch.float64))
    assert depth.tolist() == [2.0, 2.0, 2.0]
    assert seen.all()


def test_what_lies_behind_is_not_seen():
    points = torch.tensor([[0.0, -4.0, 1.0], [50.0, 0.0, 1.0]], dtype=torch.float64)
    assert not project_points(points, camera())[2].any()


@settings(max_examples=30, deadline=None)
@given(
    eye=st.tuples(*[st.floats(-3, 3)] * 3), target=st.tuples(*[st.floats(4, 9)] * 3), depth=st.floats(0.1, 9)
)
def test_rays_and_projection_are_inverse(eye, target, depth):
    view = camera(eye, target)
    points = depth_to_points(torch.full((6, 8), depth, dtype=torch.float64), view)
    pixels, found, seen = project_points(points.reshape(-1, 3), view)
    assert seen.all()
    # float64, numbers up to ten: 1e-9 is a thousand roundings
    torch.testing.assert_close(pixels, pixel_grid(view).reshape(-1, 2), rtol=0, atol=1e-9 / depth + 1e-9)
    torch.testing.assert_close(found, torch.full((48,), depth, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def plane_depth(view, normal, offset_along, offset=0.5):
    """Return the depth of the plane `normal · p = offset_along` along every ray."""
    along = rays(view, offset) @ normal
    return (offset_along - view.centre @ normal) / along


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_normals_of_a_plane_are_its_own_and_face_the_camera(offset):
    view = camera((0.3, -2.0, 1.2), (0.1, 0.4, 0.8))
    normal = torch.nn.functional.normalize(torch.tensor([0.2, -1.0, 0.3], dtype=torch.float64), dim=0)
    depth = plane_depth(view, normal, -0.1, offset)
    assert (depth > 0).all()
    found = depth_to_normal(depth, view, offset)
    torch.testing.assert_close(found[1:-1, 1:-1], normal.expand(4, 6, 3), rtol=0, atol=1e-9)
    border = torch.ones(6, 8, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert float(found[border].abs().max()) == 0
    towards = (view.centre - depth_to_points(depth, view, offset)) * found
    assert (towards.sum(-1)[1:-1, 1:-1] > 0).all()


def test_the_offset_moves_the_points_by_half_a_pixel():
    view = camera()
    depth = torch.full((6, 8), 2.0, dtype=torch.float64)
    moved = depth_to_points(depth, view, 0.5) - depth_to_points(depth, view, 0.0)
    expected = torch.tensor([0.25, 0.0, -0.25], dtype=torch.float64)  # half a pixel / focal 4 * depth 2
    torch.testing.assert_close(moved, expected.expand(6, 8, 3))


def test_gradients_pass_through_depth_to_normal():
    view = camera(width=5, height=5)
    draw = torch.Generator().manual_seed(0)
    depth = (2 + torch.rand(5, 5, generator=draw, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: depth_to_normal(one, view), depth, atol=1e-6)


def test_the_extent_of_two_cameras_is_half_their_distance_and_a_tenth():
    pair = [camera((0.0, -2.0, 1.0)), camera((0.0, -6.0, 1.0))]
    assert scene_extent(pair) == pytest.approx(1.1 * 2.0)
    assert scene_extent(pair[:1]) == 0.0
    with pytest.raises(BadInputError, match="at least one camera"):
        scene_extent([])


def test_a_resized_camera_sees_the_same_point_at_the_same_share_of_the_image():
    small, large = camera(), camera().resized(16, 24)
    point = torch.tensor([[0.4, 0.1, 1.3]], dtype=torch.float64)
    one, other = project_points(point, small)[0], project_points(point, large)[0]
    assert torch.allclose(one * torch.tensor([2.0, 4.0], dtype=torch.float64), other)


def test_poses_the_wrong_way_round_are_found():
    view = camera((3.0, -2.0, 1.0), (3.0, 4.0, 1.0))
    points = torch.tensor([[3.0, 3.0, 1.0]], dtype=torch.float64)
    check_poses([view], points)
    wrong = torch.linalg.inv(view.viewmat)
    wrong[3] = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    with pytest.raises(BadInputError, match="inverted, 1 of 1 cameras see points"):
        check_poses([Camera(wrong, view.intrinsics, 8, 6)], points)
    with pytest.raises(BadInputError, match=r"none of 1 cameras sees any of 1 points$"):
        check_poses([view], torch.tensor([[900.0, 3.0, 1.0]], dtype=torch.float64))


def inverted(camera, axes=(1.0, 1.0, 1.0, 1.0)):
    """The pose inverted by torch's solver, in axes that are turned before and after."""
    turn = torch.diag(torch.tensor(axes, dtype=torch.float64))
    pose = turn @ torch.linalg.inv(camera.viewmat.double()) @ turn
    pose[3] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    return Camera(pose.to(camera.viewmat), camera.intrinsics, camera.width, camera.height, camera.name)


@pytest.mark.parametrize("seed", [300, 301, 302, 303])
def test_poses_amid_a_room_are_told_from_their_inverses(seed):
    """Inverted, nearly every camera of the made room still sees points: far fewer than it should."""
    room = make_room(RoomSettings(seed=seed, pixels=24, test=0, sparse=800, truth=10))
    cameras, points = [view.exact.camera for view in room.train], room.cloud.points
    check_poses(cameras, points)
    check_poses(cameras, points.repeat(30, 1))  # of which one in twelve is looked for
    wrong = [inverted(camera) for camera in cameras]
    seeing = sum(bool(project_points(points, camera)[2].any()) for camera in wrong)
    assert seeing > 0
    with pytest.raises(
        BadInputError, match=r"24 cameras see points \d+ times; inverted, 24 of 24 .* give world-to-camera"
    ):
        check_poses(wrong, points)
    opengl = [inverted(camera, (1.0, -1.0, -1.0, 1.0)) for camera in cameras]
    with pytest.raises(BadInputError, match=r"OpenGL's axes, give camera-to-world$"):
        check_poses(opengl, points)


def test_poses_of_a_clip_pass():
    clip = make_clip(frames=6, pixels=16, points=200)
    for frames in (clip.train, clip.test):
        check_poses([frame.exact.camera for frame in frames], clip.points)


def test_one_point_that_is_seen_is_found_among_many():
    view = camera()
    points = torch.full((9_001, 3), -50.0, dtype=torch.float64)
    points[-2] = torch.tensor([0.0, 0.0, 1.0])  # every fifth is looked for first: this one is not among them
    check_poses([view], points)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"viewmat": 2 * torch.eye(4)}, "camera 'x': viewmat must be a rotation"),
        ({"viewmat": torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))}, "determinant 1"),
        ({"viewmat": torch.full((4, 4), math.nan)}, "viewmat must be a rotation"),
        ({"intrinsics": torch.zeros(3, 3)}, "focal lengths above 0"),
        ({"intrinsics": torch.tensor([[5.0, 0, 2], [0.1, 5, 2], [0, 0, 1]])}, "must be upper triangular"),
        ({"intrinsics": torch.tensor([[5.0, 0, 2], [0, 5, 2], [0, 0, 2]])}, "1 at the end"),
        ({"width": 0}, "needs an image, got 0 x 4"),
    ],
)
def test_a_camera_that_is_none_is_refused(change, message):
    good = {"viewmat": torch.eye(4), "intrinsics": torch.eye(3), "width": 4, "height": 4, "name": "x"}
    with pytest.raises(BadInputError, match=message):
        Camera(**(good | change))


def test_bad_views_are_refused():
    with pytest.raises(BadInputError, match="two places, not above each other"):
        look_at((0.0, 0.0, 0.0), (0.0, 0.0, 2.0))
    with pytest.raises(BadInputError, match="between 0 and 180 degrees, got 180"):
        intrinsics_for(4, 4, 180.0)
    with pytest.raises(BadInputError, match="a map of 3 x 3"):
        depth_to_points(torch.ones(3, 3, dtype=torch.float64), camera())


def test_the_near_plane_follows_scenes_in_small_units():
    cameras = [camera(eye=(x, -2.0, 1.0)) for x in (0.0, 2.0)]
    assert near_plane(cameras) == pytest.approx(
        0.1 * 1.1
    )  # a tenth of 1.1 times the distance from their middle
    far = [camera(eye=(x, -2.0, 1.0)) for x in (0.0, 20.0)]
    assert near_plane(far) == 0.2
