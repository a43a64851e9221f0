"""A small room, and views of it that are exact."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from papertrial.scenes.colmap import CameraRecord, ImageRecord, Model, PointCloud, Posed, write_model
from papertrial.scenes.ply import write_points
from papertrial.scenes.procedural_room import RoomSettings, make_room
from papertrial.scenes.room_2dgs.inputs import of_room
from papertrial.scenes.splatting import RenderOut
from papertrial.scenes.surface_views import SurfaceView


def quaternion(rotation):
    """(w, x, y, z) of a rotation whose trace is above -1, by its skew part."""
    x, y, z, w = Rotation.from_matrix(rotation.double().numpy()).as_quat()
    return (float(w), float(x), float(y), float(z))


def capture_of(room, folder, priors=True):
    """Photographs, model, priors and true points of a room, in the layout that the sheet of the paper names."""
    (folder / "images").mkdir(parents=True)
    images = {}
    for number, view in enumerate(room.train, start=1):
        camera = view.exact.camera
        pixels = (view.exact.colour.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / "images" / f"{camera.name}.png")
        shift = tuple(float(one) for one in camera.viewmat[:3, 3])
        images[number] = ImageRecord(quaternion(camera.rotation), shift, 1, f"{camera.name}.png")
        for kind, values in (("depth", view.prior_depth), ("normal", view.prior_normals)):
            if priors:
                (folder / kind).mkdir(exist_ok=True)
                np.save(folder / kind / f"{camera.name}.npy", values.numpy())
    matrix = room.train[0].exact.camera.intrinsics
    lens = CameraRecord(
        "PINHOLE", 24, 24, tuple(float(matrix[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    )
    cloud = room.cloud
    tracks = tuple(np.zeros((int(length), 2), dtype=np.int64) for length in cloud.track_lengths)
    points = PointCloud(
        np.arange(1, len(cloud.points) + 1, dtype=np.int64),
        cloud.points.double().numpy(),
        (cloud.colours * 255).round().to(torch.uint8).numpy(),
        np.zeros(len(cloud.points)),
        tracks,
    )
    write_model(Model({1: lens}, images, points), folder / "sparse" / "0", as_text=True)
    write_points(folder / "truth.ply", room.truth)
    return folder


@pytest.fixture
def write_capture(room):
    """A function that writes the room as a capture into a folder."""
    return partial(capture_of, room)


@pytest.fixture(scope="session")
def room():
    """24 x 24 pixels, 16 views to train on, 200 sparse points."""
    return make_room(RoomSettings(seed=3, pixels=24, train=16, test=2, sparse=200, truth=3000))


@pytest.fixture(scope="session")
def inputs(room):
    return of_room(room)


@pytest.fixture(scope="session")
def show():
    """Return a function that makes the view of a surface that covers everything."""

    def make(camera, depth, normals, colour=None):
        full, none = torch.ones_like(depth), torch.zeros_like(depth)
        colour = torch.zeros(*depth.shape, 3) if colour is None else colour
        out = RenderOut(
            features=torch.cat([colour, normals], dim=-1),
            alpha=full,
            depth=depth,
            distortion=none,
            median_depth=depth,
            visible=torch.zeros(0, dtype=torch.long),
            probe=None,
            size=(camera.width, camera.height),
        )
        return SurfaceView(camera, colour, full, depth, normals, none, out)

    return make


@pytest.fixture(scope="session")
def exact(room, show):
    """Return the exact view of a training camera, as if rendered."""

    def make(at, depth=None, normals=None):
        view = room.train[at].exact
        return show(
            view.camera,
            view.depth.float() if depth is None else depth,
            view.normals.float() if normals is None else normals,
            view.colour.float(),
        )

    return make


@pytest.fixture
def photographs(inputs):
    """A function that gives the first so many training views."""

    def take(count):
        return [Posed(*view) for view in inputs.train[:count]]

    return take
