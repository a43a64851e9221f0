"""Exact views against primitives met one by one, and normals against differences of depth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, depth_to_normal, depth_to_points, intrinsics_for, look_at, rays
from papertrial.scenes.procedural_clip import (
    BALL,
    BOX,
    BUMP,
    FLOOR,
    box_shift,
    bump_centre,
    bump_radius,
    make_clip,
    world_at,
)
from papertrial.scenes.procedural_room import SIZE, RoomSettings, make_room
from papertrial.scenes.raytracing import Paint, World, box, look, random_waves, sample_rectangles

GREY = Paint((0.5, 0.5, 0.5))


def slab(origin, direction, low, high):
    """Where a ray enters and leaves a box, by the overlap of three slabs; None where it misses."""
    enter, leave = -math.inf, math.inf
    for start, way, one, two in zip(origin, direction, low, high, strict=True):
        if way == 0:
            if not one <= start <= two:
                return None
            continue
        first, last = sorted(((one - start) / way, (two - start) / way))
        enter, leave = max(enter, first), min(leave, last)
    return (enter, leave) if enter <= leave and leave > 0 else None


def ball(origin, direction, centre, radius):
    """Where a ray comes nearest to a centre, and from there back to the surface."""
    away = np.subtract(centre, origin)
    along = away @ direction / (direction @ direction)
    gap = radius**2 - ((away - along * direction) ** 2).sum()
    return along - math.sqrt(gap / (direction @ direction)) if gap >= 0 else None


def nearest(origin, direction, room, boxes, balls):
    found = [slab(origin, direction, *room)[1]]
    found += [hit[0] for one in boxes if (hit := slab(origin, direction, *one)) and hit[0] > 0]
    found += [hit for one in balls if (hit := ball(origin, direction, *one)) and hit > 0]
    return min(found)


ROOM_BOXES = [
    ((1.4, 1.1, 0.71), (2.6, 1.9, 0.75)),
    *[((x, y, 0.0), (x + 0.08, y + 0.08, 0.71)) for x in (1.45, 2.47) for y in (1.15, 1.77)],
    ((0.0, 0.6, 0.0), (0.8, 2.2, 0.42)),
    ((0.0, 0.6, 0.42), (0.25, 2.2, 0.85)),
    ((1.3, 2.99, 1.0), (2.7, 2.99, 2.0)),
]


@pytest.fixture(scope="module")
def room():
    return make_room(RoomSettings(pixels=32, sparse=300, truth=3000))


@pytest.fixture(scope="module")
def clip():
    return make_clip(pixels=32)


def check_depths(view, boxes, balls, hall):
    exact = view.camera.to(torch.float64)
    directions, origin = rays(exact).reshape(-1, 3).numpy(), exact.centre.numpy()
    expected = [nearest(origin, one, hall, boxes, balls) for one in directions]
    # depth is kept in float32: 2e-7 of some metres
    np.testing.assert_allclose(view.depth.reshape(-1).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("place", [0, 9, 17])
def test_depths_of_the_room_are_those_of_every_box_met_alone(room, place):
    check_depths(room.train[place].exact, ROOM_BOXES, [], ((0.0, 0.0, 0.0), SIZE))


@pytest.mark.parametrize("place", [0, 4, 15])
def test_depths_of_the_clip_are_those_of_every_shape_met_alone(clip, place):
    time = place / 23
    shift = np.array([0.8 * min(4 * time, 1), 0, 0])
    boxes = [(np.array([-1.3, 0.2, 0.0]) + shift, np.array([-0.7, 0.7, 0.5]) + shift)]
    balls = [((0.9, 0.6, 0.45), 0.45), (bump_centre(), bump_radius(time))]
    for frames in (clip.train, clip.test):
        assert frames[place].time == pytest.approx(time)
        check_depths(frames[place].exact, boxes, balls, ((-3.0, -4.0, 0.0), (3.0, 2.0, 3.0)))


def test_normals_are_those_of_differences_of_depth(room, clip):
    for view, tolerance in ((room.train[3].exact, 1e-3), (clip.train[7].exact, None)):
        found = depth_to_normal(view.depth.double(), view.camera.to(torch.float64))
        whole = torch.ones_like(view.items, dtype=torch.bool)
        whole[[0, -1]], whole[:, [0, -1]] = False, False
        for axis in (0, 1):
            for way in (-1, 1):
                whole &= view.items.roll(way, axis) == view.items
                whole &= (view.normals.roll(way, axis) - view.normals).abs().amax(-1) < 0.5
        cosine = (found * view.normals).sum(-1)[whole]
        assert whole.float().mean() > 0.5
        if tolerance:  # flat surfaces: float32 depths over a pixel of some centimetres
            assert (1 - cosine).max() < tolerance
        else:  # round ones bend within a pixel
            assert cosine.median() > 0.9999
            assert cosine.min() > 0.8


def test_the_camera_sees_what_it_looks_at_and_nothing_behind():
    front, back = (
        box((-1.0, 1.0, -1.0), (1.0, 1.5, 1.0), GREY, 1),
        box((-3.0, 3.0, -3.0), (3.0, 4.0, 3.0), GREY, 2),
    )
    camera = Camera(look_at((0.0, -2.0, 0.0), (0.0, 0.0, 0.0)), intrinsics_for(21, 21, 90.0), 21, 21)
    world = World((*front, *back))
    view = look(world, camera)
    assert view.items[10, 10] == 1
    assert float(view.depth[10, 10]) == pytest.approx(3.0)
    assert view.normals[10, 10].tolist() == [0, -1, 0]
    assert view.items[10, 4] == 2
    assert view.items[0, 0] == -1
    assert float(view.depth[0, 0]) == 0
    points = np.array([[0.0, 1.0, 0.0], [0.0, 1.5, 0.0], [0.0, 3.0, 0.0], [2.5, 3.0, 0.0], [0.0, -3.0, 0.0]])
    assert world.sees(camera, points).tolist() == [True, False, False, True, False]


def test_points_lie_on_rectangles_as_often_as_their_areas_ask():
    sides = box((0.0, 0.0, 0.0), (1.0, 2.0, 3.0), GREY)
    found = sample_rectangles(sides, 22000, np.random.default_rng(0))
    on_face = np.isclose(found.points, 0.0).any(1)
    assert (on_face | np.isclose(found.points, (1.0, 2.0, 3.0)).any(1)).all()
    shares = np.bincount(found.shape, minlength=6) / 22000
    areas = np.array([6, 6, 3, 3, 2, 2]) / 22
    np.testing.assert_allclose(shares, areas, atol=0.015)  # four standard deviations of a share of 22,000
    with pytest.raises(BadInputError, match="0 rectangles have no area"):
        sample_rectangles([], 4, np.random.default_rng(0))


def test_truth_is_seen_and_lies_on_surfaces(room):
    points = room.truth.double().numpy()
    hit = np.zeros(len(points), dtype=bool)
    for low, high in [((0, 0, 0), SIZE), *ROOM_BOXES]:
        outside = np.maximum(np.subtract(low, points), np.subtract(points, high)).max(1)
        hit |= np.abs(outside) < 1e-6  # float32 of four metres
    assert hit.all()
    # nothing under the sofa, nothing behind the poster
    assert not (
        (points[:, 0] < 0.79)
        & (np.abs(points[:, 1] - 1.4) < 0.79)
        & (points[:, 2] < 0.41)
        & (points[:, 0] > 0)
    ).any()
    assert not (
        (points[:, 1] == 3.0) & (np.abs(points[:, 0] - 2) < 0.69) & (np.abs(points[:, 2] - 1.5) < 0.49)
    ).any()


def test_the_cloud_is_noisy_sparse_on_walls_and_has_outliers(room):
    cloud = room.cloud
    assert len(cloud.points) == 300
    assert cloud.outliers == 9
    inliers = cloud.points[:-9].double().numpy()
    distances = []
    for low, high in [
        ((0, 0, 0), (4, 3, 0)),
        *ROOM_BOXES,
    ]:  # the floor, the furniture, the poster: what has texture
        nearest_ = np.clip(inliers, low, high)
        inside = np.minimum(inliers - low, np.subtract(high, inliers)).min(1).clip(0)
        distances.append(np.linalg.norm(inliers - nearest_, axis=1) + inside)
    away = np.min(distances, axis=0)
    assert away.max() < 0.06  # six standard deviations
    assert 0.003 < away.mean() < 0.012  # mean of |N(0, 1 cm)| is 0.8 cm
    assert cloud.track_lengths.min() >= 2
    assert cloud.track_lengths[-9:].max() <= 3


def test_walls_have_one_colour_each_and_the_rest_has_texture(room):
    view = room.train[0].exact
    wall = view.items == 0
    for normal in view.normals[wall].unique(dim=0):
        chosen = wall & (view.normals == normal).all(-1)
        assert float(view.colour[chosen].std(dim=0).max()) < 1e-6
    assert float(view.colour[view.items == 2].std(dim=0).max()) > 0.05


def test_the_depth_prior_is_affine_in_the_truth_but_for_its_noise(room):
    for view in room.train[:4]:
        depth, prior = (
            view.exact.depth.double().flatten().numpy(),
            view.prior_depth.double().flatten().numpy(),
        )
        fit = np.polyfit(depth, prior, 1)
        left = (prior - np.polyval(fit, depth)) / fit[0]
        assert 0.4 < fit[0] < 2.1
        assert 0.002 < left.std() < 0.06
    slopes = {
        round(float(np.polyfit(one.exact.depth.flatten(), one.prior_depth.flatten(), 1)[0]), 3)
        for one in room.train
    }
    assert len(slopes) > 20  # each image its own


def test_normal_priors_are_unit_in_the_cameras_frame_and_five_degrees_off(room):
    angles = []
    for view in room.train:
        truth = view.exact.normals.double() @ view.exact.camera.rotation.double().T
        prior = view.prior_normals.double()
        torch.testing.assert_close(
            prior.norm(dim=-1), torch.ones(32, 32, dtype=torch.float64), rtol=0, atol=1e-6
        )
        angles.append(torch.rad2deg(torch.arccos((truth * prior).sum(-1).clamp(-1, 1))))
        points = depth_to_points(view.exact.depth, view.exact.camera) - view.exact.camera.centre
        assert ((view.exact.normals * points).sum(-1) < 0).all()  # facing the camera
    mean = float(torch.cat(angles).mean())
    assert mean == pytest.approx(5 * math.sqrt(math.pi / 2), rel=0.02)  # 6.3 degrees, as the docstring says
    square = torch.cat(angles).square().mean()
    assert float(square.sqrt()) == pytest.approx(5 * math.sqrt(2), rel=0.02)  # two directions, 24,576 pixels


def test_the_room_is_the_same_for_a_seed(room):
    again = make_room(RoomSettings(pixels=32, sparse=300, truth=3000))
    assert torch.equal(again.train[5].exact.colour, room.train[5].exact.colour)
    assert torch.equal(again.cloud.points, room.cloud.points)
    other = make_room(RoomSettings(seed=1, pixels=32, sparse=300, truth=3000))
    assert not torch.equal(other.cloud.points, room.cloud.points)
    assert (len(room.train), len(room.test)) == (24, 6)


def test_what_moves_moves_as_it_should(clip):
    assert len(clip.train) == len(clip.test) == 24
    for frame in clip.train:
        boxed, still = frame.exact.items == BOX, frame.exact.items == FLOOR
        assert float(frame.motion[still].abs().sum()) == 0
        step = box_shift(frame.time + 1 / 23)[0] - box_shift(frame.time)[0]
        if bool(boxed.any()):
            torch.testing.assert_close(
                frame.motion[boxed], torch.tensor([step, 0.0, 0.0]).expand(int(boxed.sum()), 3)
            )
        assert float(frame.motion[frame.exact.items == BALL].abs().sum()) == 0
    fast = [bool((frame.exact.items[frame.moving] == BOX).any()) for frame in clip.train]
    assert fast == [place / 23 < 0.25 for place in range(24)]


def test_the_moved_surface_of_the_bump_is_the_surface_of_the_next_frame(clip):
    for frame, later in zip(clip.train[:-1], clip.train[1:], strict=True):
        on_bump = frame.exact.items == BUMP
        points = depth_to_points(frame.exact.depth, frame.exact.camera)[on_bump] + frame.motion[on_bump]
        radius = (points - torch.tensor(bump_centre())).norm(dim=-1)
        torch.testing.assert_close(
            radius, torch.full_like(radius, bump_radius(later.time)), rtol=0, atol=1e-5
        )
    assert any(bool((frame.exact.items == BUMP).any()) for frame in clip.train)


def test_the_boxs_texture_moves_with_it():
    draw = np.random.default_rng(0)
    paints = {item: Paint((0.5, 0.5, 0.5), random_waves(draw, 4, 0.3, 1.0)) for item in range(6)}
    early, late = world_at(0.0, paints), world_at(0.1, paints)
    points, up = np.random.default_rng(9).uniform(0, 0.5, size=(20, 3)), np.tile([0.0, 0.0, 1.0], (20, 1))
    for item, moves in ((BOX, True), (FLOOR, False)):
        shape = np.full(20, [one.item for one in early.shapes].index(item))
        first = early.colour(points, up, shape)
        np.testing.assert_allclose(
            late.colour(points + moves * np.array(box_shift(0.1)), up, shape), first, atol=1e-12
        )
        assert first.std() > 0.02


def test_starting_points_lie_near_surfaces_of_the_first_frame(clip):
    start = clip.points[: len(clip.points) // 2]
    seen = depth_to_points(clip.train[0].exact.depth, clip.train[0].exact.camera).reshape(-1, 3)
    assert torch.cdist(start, seen).min(dim=1).values.max() < 0.06  # six standard deviations
    assert len(clip.points) == 1500


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_clip(frames=1), "a clip needs 2 frames"),
        (lambda: RoomSettings(train=1), "at least 2 training cameras"),
        (lambda: RoomSettings(outliers=1.0), "share of outliers below 1"),
        (lambda: box((0.0, 0.0, 0.0), (1.0, 0.0, 1.0), GREY), "from a lower to a higher corner"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(BadInputError, match=message):
        make()
