"""Depth and normals beside a capture: read, shrunk, undistorted, and refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.colmap import CameraRecord, Photograph
from papertrial.scenes.colmap.lenses import pinhole_for, undistort
from papertrial.scenes.reconstructing import load_capture, read_priors
from papertrial.scenes.reconstructing.loading import Loading
from papertrial.scenes.reconstructing.priors import match_map


@pytest.fixture
def with_priors(photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room")
    for kind in ("depth", "normal"):
        (folder / kind).mkdir()
    for place, view in enumerate(photographed_room.train):
        name = view.exact.camera.name
        np.save(folder / "depth" / f"{name}{'.png' if place == 3 else ''}.npy", view.prior_depth.numpy())
        if place != 5:
            np.save(folder / "normal" / f"{name}.npy", view.prior_normals.numpy())
    return folder


def test_maps_beside_the_images_are_read(with_priors, photographed_room):
    found = read_priors(load_capture(with_priors, None))
    assert found.origin == "files"
    assert found.counts == (8, 7)
    for at, view in enumerate(photographed_room.train):
        assert torch.equal(found.depths[at], view.prior_depth)
        if at != 5:
            torch.testing.assert_close(found.normals[at], view.prior_normals)
    assert found.normals[5] is None


def test_maps_shrink_with_their_images(with_priors, photographed_room):
    found = read_priors(load_capture(with_priors, None, Loading(longest=12)))
    depth = photographed_room.train[2].prior_depth
    mean = (depth[::2, ::2] + depth[1::2, ::2] + depth[::2, 1::2] + depth[1::2, 1::2]) / 4
    torch.testing.assert_close(found.depths[2], mean)
    lengths = found.normals[2].norm(dim=-1)
    torch.testing.assert_close(lengths[lengths > 0], torch.ones(int((lengths > 0).sum())))


def test_a_capture_without_maps_says_so(photographed, tmp_path):
    found = read_priors(load_capture(photographed(tmp_path / "room"), None))
    assert (found.origin, found.counts) == ("none", (0, 0))


@pytest.mark.parametrize(
    ("kind", "array", "message"),
    [
        ("depth", np.zeros((24, 20)), "is 20 x 24 pixels; its image has 24 x 24"),
        ("depth", np.zeros((24, 24, 3)), r"must be H x W numbers, got float64 \[24, 24, 3\]"),
        ("depth", np.full((24, 24), np.nan), "576 numbers that are not finite"),
        ("depth", np.full((24, 24), "near"), "must be H x W numbers"),
        ("normal", np.zeros((24, 24)), "must be H x W x 3 numbers"),
        ("normal", np.full((24, 24, 3), 255.0), "normals lie within -1 and 1, got 255"),
    ],
)
def test_maps_that_cannot_be_used_are_named(kind, array, message, with_priors):
    np.save(with_priors / kind / "train_001.npy", array)
    capture = load_capture(with_priors, None)
    with pytest.raises(BadInputError, match=rf"train_001\.npy.*{message}"):
        read_priors(capture)


def test_files_that_are_no_arrays_are_named(with_priors):
    (with_priors / "depth" / "train_001.npy").write_bytes(b"\x93NUMPY and then nothing")
    with pytest.raises(BadInputError, match=r"train_001\.npy is no array of numpy"):
        read_priors(load_capture(with_priors, None))


def test_maps_of_bent_photographs_are_straightened():
    lens = CameraRecord("SIMPLE_RADIAL", 32, 24, (30.0, 16.0, 12.0, -0.2))
    pinhole = pinhole_for(lens)
    camera = Camera(torch.eye(4), pinhole.intrinsics().float(), 32, 24, "a.png")
    depth = torch.rand(24, 32, 1, generator=torch.Generator().manual_seed(0))
    found = match_map(depth, Photograph("a.png", lens, torch.eye(4)), camera, "depth")
    expected = undistort(depth.expand(-1, -1, 3).contiguous(), lens, pinhole)[..., :1]
    assert torch.equal(found, expected)
    assert not torch.allclose(found, depth, atol=1e-2)
