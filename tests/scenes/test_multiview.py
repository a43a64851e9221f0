"""Planes carried between views, against the projection of their points."""

from __future__ import annotations

import math

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, intrinsics_for, look_at, project_points, rays
from papertrial.scenes.multiview import (
    PlaneView,
    multi_view_loss,
    nearest_neighbours,
    patch_ncc,
    plane_homography,
    sample,
    warp,
)

NORMAL = torch.nn.functional.normalize(torch.tensor([0.15, -1.0, 0.2], dtype=torch.float64), dim=0)
LEVEL = -0.2  # of the plane: normal · p


def camera(eye, target=(0.0, 1.0, 1.0), size=24):
    return Camera(look_at(eye, target), intrinsics_for(size, size, 60.0), size, size)


def view(seen, normal=NORMAL, level=LEVEL):
    """A plane with a smooth texture, seen exactly."""
    direction = rays(seen)
    depth = (level - seen.centre @ normal) / (direction @ normal)
    points = seen.centre + depth[..., None] * direction
    grey = 0.5 + 0.2 * torch.sin(5 * points[..., 0]) + 0.2 * torch.cos(4 * points[..., 2] + 1)
    normals = (seen.rotation @ normal).expand(*depth.shape, 3)
    return PlaneView(seen, grey, depth, normals), points


REFERENCE, NEIGHBOUR = camera((0.0, -2.0, 1.0)), camera((0.3, -1.9, 1.2))


def test_the_homography_of_a_plane_is_the_projection_of_its_points():
    seen, points = view(REFERENCE)
    planes = seen.planes().reshape(-1, 4)
    assert (planes[:, 3] > 0).all()
    from_plane = plane_homography(REFERENCE, NEIGHBOUR, planes[:, :3].contiguous(), planes[:, 3].contiguous())
    pixels = project_points(points.reshape(-1, 3), REFERENCE)[0]
    landed, front = warp(from_plane, pixels)
    assert front.all()
    torch.testing.assert_close(landed, project_points(points.reshape(-1, 3), NEIGHBOUR)[0], rtol=0, atol=1e-9)


def test_sampling_hits_pixels_at_their_centres_and_lines_between_them():
    image = torch.arange(12, dtype=torch.float64).reshape(3, 4, 1)
    places = torch.tensor([[0.5, 0.5], [3.5, 2.5], [1.0, 0.5], [2.0, 1.5], [0.4, 0.5]], dtype=torch.float64)
    found, inside = sample(image, places)
    torch.testing.assert_close(found[:4, 0], torch.tensor([0.0, 11.0, 0.5, 5.5], dtype=torch.float64))
    assert inside.tolist() == [True, True, True, True, False]
    nothing, _ = sample(image, torch.zeros(0, 2, dtype=torch.float64))
    assert nothing.shape == (0, 1)


def test_correlation_does_not_see_brightness_and_contrast():
    patch = torch.rand(5, 121, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = patch_ncc(patch, 0.7 * patch + 0.2)
    torch.testing.assert_close(found.value, torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(patch_ncc(patch, -patch).value, -found.value, rtol=0, atol=1e-6)
    assert found.valid.all()
    assert not patch_ncc(patch, torch.ones_like(patch)).valid.any()


def test_exact_planes_cost_nothing():
    found = multi_view_loss(view(REFERENCE)[0], view(NEIGHBOUR)[0])
    assert found.compared > 200
    assert float(found.geometric) < 1e-6  # the clamp of the distance is 1e-8, bilinear planes are exact
    # what is left is bilinear sampling of a smooth texture
    assert float(found.photometric) < 5e-3


def test_a_plane_at_the_wrong_depth_costs_and_is_pulled_back():
    true, _ = view(REFERENCE)
    other, _ = view(NEIGHBOUR)
    factor = torch.tensor(1.03, dtype=torch.float64, requires_grad=True)
    wrong = PlaneView(true.camera, true.grey, factor * true.depth, true.normals)
    loss = multi_view_loss(wrong, other)
    right = multi_view_loss(true, other)
    assert loss.geometric > 0.05 > right.geometric
    assert loss.photometric > 2 * right.photometric
    loss.total.backward()
    assert factor.grad > 0  # too far: going nearer costs less
    # weights: 0.05 and 0.2
    torch.testing.assert_close(loss.total, 0.05 * loss.geometric + 0.2 * loss.photometric)


def test_what_comes_back_too_far_away_does_not_count():
    true, _ = view(REFERENCE)
    wrong = PlaneView(true.camera, true.grey, 3 * true.depth, true.normals)
    found = multi_view_loss(wrong, view(NEIGHBOUR)[0], most_error=1e-3)
    assert found.compared == 0
    assert float(found.total) == 0


def test_chosen_pixels_alone_are_compared():
    places = torch.tensor([[12.5, 12.5], [8.5, 14.5]], dtype=torch.float64)
    assert multi_view_loss(view(REFERENCE)[0], view(NEIGHBOUR)[0], pixels=places, patch=5).compared == 2
    with pytest.raises(BadInputError, match="odd number of pixels a side, got 4"):
        multi_view_loss(view(REFERENCE)[0], view(NEIGHBOUR)[0], patch=4)


@pytest.mark.parametrize(("degrees", "neighbours"), [(29.0, [1, 0]), (31.0, [None, None])])
def test_neighbours_look_at_most_thirty_degrees_elsewhere(degrees, neighbours):
    turned = math.radians(degrees)
    aside = (math.sin(turned), math.cos(turned) - 2.0, 1.0)
    cameras = [camera((0.0, -2.0, 1.0), (0.0, -1.0, 1.0)), camera((0.0, -2.0, 1.0), aside)]
    assert nearest_neighbours(cameras) == neighbours
    assert nearest_neighbours(cameras, most_degrees=degrees) == [1, 0]


def test_neighbours_are_the_nearest_that_look_the_same_way():
    cameras = [
        camera((0.0, -2.0, 1.0)),
        camera((0.1, -2.0, 1.0), (0.1, -9.0, 1.0)),  # the nearest, but it looks back
        camera((0.5, -2.0, 1.0), (0.5, 1.0, 1.0)),
        camera((2.0, -2.0, 1.0), (2.0, 1.0, 1.0)),
    ]
    assert nearest_neighbours(cameras) == [2, None, 0, 2]
    with pytest.raises(BadInputError, match="at least 2 cameras, got 1"):
        nearest_neighbours(cameras[:1])
