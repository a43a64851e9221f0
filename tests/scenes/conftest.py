"""Shared by the tests of scenes: a small capture of the procedural room, on disk as COLMAP leaves it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from papertrial.scenes.cameras import project_points
from papertrial.scenes.colmap import CameraRecord, ImageRecord, Model, PointCloud, write_model
from papertrial.scenes.procedural_room import RoomSettings, make_room

PIXELS = 24


@pytest.fixture(scope="session")
def photographed_room():
    """Return a room that is photographed by eight cameras."""
    return make_room(RoomSettings(pixels=PIXELS, train=8, test=0, sparse=150, truth=300))


def quaternion(rotation):
    """Return (w, x, y, z) of a rotation, by the eigenvector of Bar-Itzhack's matrix."""
    r = rotation.double().numpy()
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[1, 2] - r[2, 1]],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[2, 0] - r[0, 2]],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], r[0, 1] - r[1, 0]],
            [r[1, 2] - r[2, 1], r[2, 0] - r[0, 2], r[0, 1] - r[1, 0], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    x, y, z, w = np.linalg.eigh(k)[1][:, -1]
    return (float(w), -float(x), -float(y), -float(z))


@pytest.fixture
def photographed(photographed_room):
    """Return a function that writes the room's photographs, and its model where it is wanted, into a folder."""

    room = photographed_room

    def write(folder, *, model="sparse/0", as_text=True, points=True, turned=False, observed=True):
        (folder / "images").mkdir(parents=True)
        images = {}
        for number, view in enumerate(room.train, start=1):
            camera = view.exact.camera
            pixels = (view.exact.colour.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / "images" / f"{camera.name}.png")
            pose = torch.linalg.inv(camera.viewmat) if turned else camera.viewmat
            shift = tuple(float(one) for one in pose[:3, 3])
            nothing = np.zeros((0, 2)), np.zeros(0, dtype=np.int64)
            places, found = seen(room, camera) if points and observed else nothing
            images[number] = ImageRecord(
                quaternion(pose[:3, :3]), shift, 1, f"{camera.name}.png", places, found
            )
        matrix = room.train[0].exact.camera.intrinsics
        lens = CameraRecord(
            "PINHOLE", PIXELS, PIXELS, tuple(float(matrix[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
        )
        if model is not None:
            write_model(Model({1: lens}, images, cloud(room, points)), folder / model, as_text=as_text)
        return folder

    return write


def seen(room, camera):
    """Return where a camera sees the sparse points, and their numbers."""
    pixels, _, inside = project_points(room.cloud.points, camera)
    return pixels[inside].double().numpy(), inside.nonzero()[:, 0].numpy() + 1


def cloud(room, points):
    """Return the room's sparse points with tracks of the right lengths."""
    count = len(room.cloud.points) if points else 0
    tracks = [np.zeros((int(length), 2), dtype=np.int64) for length in room.cloud.track_lengths[:count]]
    return PointCloud(
        np.arange(1, count + 1, dtype=np.int64),
        room.cloud.points[:count].double().numpy(),
        (room.cloud.colours[:count] * 255).round().to(torch.uint8).numpy(),
        np.zeros(count),
        tuple(tracks),
    )


@pytest.fixture
def silent():
    """Return what a deed tells its progress to; it keeps it."""

    class Silent(list):
        def __call__(self, done, total, what=""):
            self.append((done, total, what))

    return Silent()
