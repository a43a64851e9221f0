"""The fused surface: exact depth gives the true one, and where it ends."""

from __future__ import annotations

import math

import torch

from papertrial.scenes.cameras import Camera, intrinsics_for
from papertrial.scenes.fitting import Rendering
from papertrial.scenes.geometry_metrics import compare_clouds
from papertrial.scenes.room_2dgs import fused_points
from papertrial.scenes.tsdf import Settings, bounded_settings


class Exactly:
    """A scene that is rendered as it is, but for what a pixel must cover to count."""

    def __init__(self, room, alpha=1.0):
        self.views = {view.exact.camera.name: view.exact for view in room.train}
        self.alpha = alpha

    def step(self, number):
        raise NotImplementedError

    state = restore = step

    def render(self, camera, time=0.0):
        view = self.views[camera.name]
        alpha = torch.full_like(view.depth, self.alpha).float()
        return Rendering(view.colour.float(), alpha, view.depth.float(), view.normals.float())


def test_exact_depth_gives_the_true_surface(room):
    """At 24 pixels of 80 degrees a pixel is 14 cm at 2 m: within 10 cm nearly all of it, wherever cameras look."""
    cameras = [view.exact.camera for view in room.train]
    points = fused_points(Exactly(room), cameras, Settings(0.1, 0.3, 10.0))
    scores = compare_clouds(points, room.truth, threshold=0.1)
    assert scores.recall > 0.95
    assert scores.accuracy < 0.1  # true points are some 14 cm apart


def test_what_covers_less_than_half_a_pixel_is_no_surface(room):
    cameras = [view.exact.camera for view in room.train]
    assert len(fused_points(Exactly(room, 0.4), cameras, Settings(0.1, 0.3, 10.0))) == 0


def test_a_wall_is_found_although_it_has_no_depth_of_its_own():
    """The box round what is shown is flat there; it is widened by what distances are cut at."""
    camera = Camera(torch.eye(4), intrinsics_for(20, 20, 60.0).float(), 20, 20)

    class Wall(Exactly):
        def __init__(self):
            pass

        def render(self, camera, time=0.0):
            depth = torch.full((20, 20), 2.0)
            return Rendering(torch.zeros(20, 20, 3), torch.ones(20, 20), depth, torch.zeros(20, 20, 3))

    points = fused_points(Wall(), [camera], Settings(0.07, 0.2, 10.0))
    assert len(points) > 200
    torch.testing.assert_close(points[:, 2], torch.full((len(points),), 2.0), rtol=0, atol=1e-5)


def test_the_released_cut_of_depth_loses_walls_of_a_room_seen_from_within(room):
    """Walls that a camera sees, and that the bounded rule's cut of depth leaves out."""
    cameras = [view.exact.camera for view in room.train]
    cut = bounded_settings(cameras).farthest
    depths = torch.stack([view.exact.depth for view in room.train])
    assert float((depths > cut).double().mean()) > 0.3
    whole = fused_points(Exactly(room), cameras, Settings(0.1, 0.3, math.inf))
    less = fused_points(Exactly(room), cameras, Settings(0.1, 0.3, cut))
    complete = [compare_clouds(points, room.truth, threshold=0.1).recall for points in (whole, less)]
    assert complete[1] < complete[0] - 0.05
