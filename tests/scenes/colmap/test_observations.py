"""Poses held against what photographs saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import look_at
from papertrial.scenes.colmap import CameraRecord, ImageRecord, Model, PointCloud
from papertrial.scenes.colmap.lenses import to_pixels
from papertrial.scenes.colmap.observations import check_observations

LENS = CameraRecord("OPENCV", 640, 480, (500.0, 500.0, 320.0, 240.0, -0.1, 0.02, 0.001, 0.002))


@pytest.fixture
def model():
    """Return a model of three views whose 40 points were seen where the lens shows them, to a pixel."""
    draw = np.random.default_rng(0)
    points = draw.uniform(-1, 1, size=(40, 3))
    numbers = np.arange(5, 45)
    images = {}
    for number, eye in enumerate([(4.0, 0.5, 1.0), (0.5, -4.0, 0.5), (-3.0, 3.0, -1.0)], start=1):
        view = look_at(eye, (0.0, 0.0, 0.0))
        in_camera = torch.from_numpy(points) @ view[:3, :3].T + view[:3, 3]
        pixels = to_pixels(in_camera[:, :2] / in_camera[:, 2:], LENS).numpy() + draw.normal(size=(40, 2))
        seen = numbers.copy()
        seen[::7] = -1  # places where features were found and no point
        shift = tuple(float(one) for one in view[:3, 3])
        images[number] = ImageRecord(of_rotation(view[:3, :3]), shift, 1, f"{number}.png", pixels, seen)
    blank = np.zeros((40, 3), dtype=np.uint8)
    tracks = tuple(np.zeros((3, 2), dtype=np.int64) for _ in range(40))
    return Model({1: LENS}, images, PointCloud(numbers, points, blank, np.zeros(40), tracks))


def of_rotation(rotation):
    """Return (w, x, y, z); none of the views here turns by half a circle."""
    w = float((1 + rotation.diagonal().sum()).sqrt()) / 2
    parts = (
        rotation[2, 1] - rotation[1, 2],
        rotation[0, 2] - rotation[2, 0],
        rotation[1, 0] - rotation[0, 1],
    )
    return (w, *(float(part) / (4 * w) for part in parts))


def turned(model):
    images = {}
    for number, image in model.images.items():
        pose = torch.linalg.inv(image.viewmat())
        shift = tuple(float(one) for one in pose[:3, 3])
        images[number] = replace(image, rotation=of_rotation(pose[:3, :3]), translation=shift)
    return replace(model, images=images)


def test_poses_that_fit_pass(model):
    check_observations(model)


def test_some_wrong_matches_pass(model):
    for image in model.images.values():
        image.places[:15] += 300.0
    check_observations(model)


def test_poses_the_wrong_way_round_are_told(model):
    with pytest.raises(
        BadInputError, match=r"do not fit the points.*camera-to-world poses, give world-to-camera"
    ):
        check_observations(turned(model))


def test_poses_of_something_else_are_told(model):
    moved = {
        number: replace(image, translation=(image.translation[0] + 2.0, *image.translation[1:]))
        for number, image in model.images.items()
    }
    with pytest.raises(
        BadInputError, match=r"half of 102 observations are off by \d+ % of the image or more$"
    ):
        check_observations(replace(model, images=moved))


def test_models_without_observations_pass(model):
    bare = {
        number: replace(image, places=np.zeros((0, 2)), points=np.zeros(0, dtype=np.int64))
        for number, image in turned(model).images.items()
    }
    check_observations(replace(model, images=bare))
