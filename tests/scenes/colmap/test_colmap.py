"""COLMAP models: files packed by hand as the format's description says, round trips, and hostile bytes."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from papertrial.errors import BadInputError
from papertrial.scenes.colmap import (
    CameraRecord,
    ImageRecord,
    Model,
    PointCloud,
    load_images,
    read_model,
    write_model,
)

CAMERAS_TXT = """# Camera list
# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]
1 PINHOLE 640 480 500.5 501.5 320.0 240.0
7 SIMPLE_PINHOLE 64 48 50 32 24
"""
IMAGES_TXT = """# Image list with two lines of data per image
3 0.5 0.5 -0.5 0.5 0.10 -0.20 1.50 1 room one/frame_000.png
10.5 20.25 9 30 40.0 -1
1 1 0 0 0 0 0 0 7 frame_001.png

"""
POINTS_TXT = """# 3D point list
9 1.0 2.0 3.5 255 0 17 0.75 3 0 1 4
12 -1.0 0.5 2.0 1 2 3 0.5
"""


def packed(folder):
    """The same model in bytes, packed here from the description of the format."""
    lenses = struct.pack("<Q", 2)
    lenses += struct.pack("<iiQQ4d", 1, 1, 640, 480, 500.5, 501.5, 320.0, 240.0)
    lenses += struct.pack("<iiQQ3d", 7, 0, 64, 48, 50.0, 32.0, 24.0)
    images = struct.pack("<Q", 2)
    images += struct.pack("<i4d3di", 3, 0.5, 0.5, -0.5, 0.5, 0.1, -0.2, 1.5, 1) + b"room one/frame_000.png\0"
    images += struct.pack("<Q", 2) + struct.pack("<ddQ", 10.5, 20.25, 9) + struct.pack("<ddq", 30.0, 40.0, -1)
    images += struct.pack("<i4d3di", 1, 1.0, 0, 0, 0, 0, 0, 0, 7) + b"frame_001.png\0" + struct.pack("<Q", 0)
    points = struct.pack("<Q", 2)
    points += struct.pack("<Q3d3BdQ4i", 9, 1.0, 2.0, 3.5, 255, 0, 17, 0.75, 2, 3, 0, 1, 4)
    points += struct.pack("<Q3d3BdQ", 12, -1.0, 0.5, 2.0, 1, 2, 3, 0.5, 0)
    for name, data in (("cameras", lenses), ("images", images), ("points3D", points)):
        (folder / f"{name}.bin").write_bytes(data)


def written(folder):
    for name, data in (("cameras", CAMERAS_TXT), ("images", IMAGES_TXT), ("points3D", POINTS_TXT)):
        (folder / f"{name}.txt").write_text(data)


def check(model):
    assert model.lenses[1] == CameraRecord("PINHOLE", 640, 480, (500.5, 501.5, 320.0, 240.0))
    assert model.lenses[7].intrinsics().tolist() == [[50, 0, 32], [0, 50, 24], [0, 0, 1]]
    image = model.images[3]
    assert (image.name, image.camera) == ("room one/frame_000.png", 1)
    assert image.translation == (0.1, -0.2, 1.5)
    assert image.places.tolist() == [[10.5, 20.25], [30, 40]]
    assert image.points.tolist() == [9, -1]
    assert len(model.images[1].points) == 0
    cloud = model.cloud
    assert cloud.numbers.tolist() == [9, 12]
    assert cloud.places.tolist() == [[1, 2, 3.5], [-1, 0.5, 2]]
    assert cloud.colours.tolist() == [[255, 0, 17], [1, 2, 3]]
    assert cloud.errors.tolist() == [0.75, 0.5]
    assert cloud.track_lengths.tolist() == [2, 0]
    assert cloud.tracks[0].tolist() == [[3, 0], [1, 4]]


@pytest.mark.parametrize("make", [written, packed])
def test_models_written_by_hand_are_read(make, tmp_path):
    folder = tmp_path / "sparse" / "0"
    folder.mkdir(parents=True)
    make(folder)
    check(read_model(tmp_path))


def test_the_pose_is_the_quaternions(tmp_path):
    written(tmp_path)
    cameras = read_model(tmp_path).cameras()
    assert [camera.name for camera in cameras] == ["frame_001.png", "room one/frame_000.png"]
    # 0.5 (1 + i - j + k): a turn by 120 degrees about (1, -1, 1): by Rodrigues x goes to z, y to -x, z to -y
    expected = [[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]
    torch.testing.assert_close(cameras[1].rotation, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("as_text", [True, False])
def test_models_survive_writing(as_text, tmp_path):
    written(tmp_path)
    write_model(read_model(tmp_path), tmp_path / "again", as_text=as_text)
    check(read_model(tmp_path / "again"))
    if not as_text:
        packed(tmp_path)
        for name in ("cameras", "images", "points3D"):
            mine, by_hand = (tmp_path / at / f"{name}.bin" for at in ("again", "."))
            assert mine.read_bytes() == by_hand.read_bytes()


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_text_keeps_every_digit(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    cloud = PointCloud(
        np.array([1], dtype=np.int64),
        np.array([values[:3]]),
        np.zeros((1, 3), dtype=np.uint8),
        np.array(values[3:]),
        (np.zeros((0, 2), dtype=np.int64),),
    )
    write_model(Model({}, {}, cloud), folder, as_text=True)
    found = read_model(folder).cloud
    assert found.places.tolist() == [values[:3]]
    assert found.errors.tolist() == values[3:]


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_files_that_are_cut_or_go_on_are_refused(name, tmp_path):
    packed(tmp_path)
    path = tmp_path / f"{name}.bin"
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(BadInputError, match=rf"{name}\.bin"):
            read_model(tmp_path)
    path.write_bytes(whole + b"x")
    with pytest.raises(BadInputError, match="goes on after its records"):
        read_model(tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(["cameras", "images", "points3D"]))
def test_spoilt_bytes_give_one_clear_error_or_a_model(data, name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    packed(folder)
    path = folder / f"{name}.bin"
    raw = bytearray(path.read_bytes())
    for _ in range(3):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    with contextlib.suppress(BadInputError):  # any other error fails
        read_model(folder)


def test_a_huge_count_is_refused_before_memory_is_asked_for(tmp_path):
    packed(tmp_path)
    (tmp_path / "points3D.bin").write_bytes(struct.pack("<Q", 2**60))
    with pytest.raises(
        BadInputError, match=r"1152921504606846976 records of .* are announced .* 0 bytes follow"
    ):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("cameras", "1 PINHOLE 640 480 500.5\n", "line 1: PINHOLE has 4 parameters, got 1"),
        ("cameras", "1 PINHOL 640 480 1 2 3 4\n", "did you mean PINHOLE"),
        ("cameras", "1 PINHOLE x 480 1 2 3 4\n", "line 1: invalid literal .* wanted: CAMERA_ID MODEL"),
        ("cameras", "1 PINHOLE 4 4 1 1 2 2\n1 PINHOLE 4 4 1 1 2 2\n", "line 2: number 1 comes twice"),
        ("images", "3 0.5 0.5\n\n", "line 1: .*wanted: IMAGE_ID QW"),
        ("images", "3 0 0 0 0 1 1 1 1 a.png\n\n", "image 'a.png' has no pose"),
        ("images", "3 nan 0 0 0 1 1 1 1 a.png\n\n", "image 'a.png' has no pose"),
        ("images", "3 1 0 0 0 1 1 1 1 a.png\n1 2\n", "line 2: 2 numbers are no triples"),
        ("images", "3 1 0 0 0 1 1 1 5 a.png\n\n", r"of camera 5; there are \[1, 7\]"),
        ("points3D", "1 nan 0 0 1 2 3 0.5\n", "point 1 lies nowhere"),
        ("points3D", "1 0 0 0 1 2 300 0.5\n", "is not within 0 and 255"),
        ("points3D", "1 0 0 0 1 2 3\n", "line 1: 7 words; wanted: POINT3D_ID"),
    ],
)
def test_bad_lines_are_named(name, line, message, tmp_path):
    written(tmp_path)
    (tmp_path / f"{name}.txt").write_text(line)
    with pytest.raises(BadInputError, match=message):
        read_model(tmp_path)


def test_lenses_that_bend_lines_are_refused_and_straight_ones_taken():
    straight = CameraRecord("SIMPLE_RADIAL", 8, 6, (5.0, 4.0, 3.0, 0.0))
    assert straight.intrinsics().tolist() == [[5, 0, 4], [0, 5, 3], [0, 0, 1]]
    with pytest.raises(BadInputError, match=r"distortion \(0.1,\) bends lines .* load_photographs"):
        CameraRecord("SIMPLE_RADIAL", 8, 6, (5.0, 4.0, 3.0, 0.1)).intrinsics()
    with pytest.raises(BadInputError, match=r"OPENCV_FISHEYE .* bends lines"):
        CameraRecord("OPENCV_FISHEYE", 8, 6, (5.0, 5.0, 4.0, 3.0, 0.0, 0.0, 0.0, 0.0)).intrinsics()


def test_no_model_says_what_is_wanted(tmp_path):
    with pytest.raises(BadInputError, match="there is no COLMAP model in"):
        read_model(tmp_path)


def one_camera(name, width=6, height=4):
    lens = CameraRecord("PINHOLE", width, height, (5.0, 5.0, width / 2, height / 2))
    pose = ImageRecord((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1, name)
    cloud = PointCloud(
        np.zeros(0, dtype=np.int64), np.zeros((0, 3)), np.zeros((0, 3), dtype=np.uint8), np.zeros(0), ()
    )
    return Model({1: lens}, {1: pose}, cloud).cameras()


def test_photographs_come_with_their_cameras(tmp_path):
    pixels = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (found,) = load_images(one_camera("a.png"), tmp_path)
    assert torch.equal((found.image * 255).round().to(torch.uint8), torch.from_numpy(pixels))
    (small,) = load_images(one_camera("a.png"), tmp_path, longest=3)
    assert small.image.shape == (2, 3, 3)
    assert (small.camera.width, small.camera.height) == (3, 2)
    assert small.camera.intrinsics[0, 0] == 2.5


def test_photographs_that_cannot_be_used_are_named(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image at all")
    with pytest.raises(BadInputError, match=r"'a\.png' is 4 x 4 pixels, its camera 6 x 4"):
        load_images(one_camera("a.png"), tmp_path)
    with pytest.raises(BadInputError, match=r"'b\.png' cannot be read"):
        load_images(one_camera("b.png"), tmp_path)
    with pytest.raises(BadInputError, match=r"there is no image 'c\.png'"):
        load_images(one_camera("c.png"), tmp_path)
    with pytest.raises(BadInputError, match="would be outside"):
        load_images(one_camera("../a.png"), tmp_path)
