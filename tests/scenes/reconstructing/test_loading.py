"""Captures as people have them: COLMAP's folders, transforms.json, images alone, and what cannot be read."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from papertrial.errors import BadInputError
from papertrial.scenes.ply import write_points
from papertrial.scenes.reconstructing import load_capture, structure_from_motion
from papertrial.scenes.reconstructing.capture import of_views
from papertrial.scenes.reconstructing.loading import Loading


def check_room(capture, photographed_room):
    """The capture must be the room's: cameras to what text keeps, pictures to a byte, points and tracks exactly."""
    names = [view.camera.name.removeprefix("images/") for view in capture.views]
    assert names == [f"{one.exact.camera.name}.png" for one in photographed_room.train]
    for view, truth in zip(capture.views, photographed_room.train, strict=True):
        # float32 poses that went through a quaternion or an inverse
        torch.testing.assert_close(view.camera.viewmat, truth.exact.camera.viewmat, atol=1e-5, rtol=0)
        torch.testing.assert_close(view.camera.intrinsics, truth.exact.camera.intrinsics)
        assert (view.image - truth.exact.colour).abs().max() <= 0.5 / 255 + 1e-6
    torch.testing.assert_close(capture.points, photographed_room.cloud.points)


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("model", ["sparse/0", "sparse", ".", "colmap/sparse/0"])
def test_colmaps_folders_are_found(model, as_text, photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room", model=model, as_text=as_text)
    capture = load_capture(folder, None)
    check_room(capture, photographed_room)
    assert torch.equal(capture.track_lengths, photographed_room.cloud.track_lengths)
    assert (capture.colours - photographed_room.cloud.colours).abs().max() <= 0.5 / 255 + 1e-6
    assert capture.root == folder
    # the model's own folder will do as well, and the images with the model beside them
    check_room(load_capture(folder / model, None), photographed_room)
    check_room(load_capture(folder / model, folder / "images"), photographed_room)
    if model != ".":
        check_room(load_capture(None, folder / "images"), photographed_room)


def test_images_may_lie_elsewhere(photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room")
    shutil.move(folder / "images", tmp_path / "pictures")
    with pytest.raises(
        BadInputError, match=r"'train_000.png' is in none of .*name their folder with --images"
    ):
        load_capture(folder, None)
    check_room(load_capture(folder, tmp_path / "pictures"), photographed_room)


def test_photographs_are_shrunk(photographed, tmp_path):
    capture = load_capture(photographed(tmp_path / "room"), None, Loading(longest=12))
    camera, image = capture.views[0]
    assert (camera.width, camera.height, tuple(image.shape)) == (12, 12, (12, 12, 3))


def transforms(folder, photographed_room, **changes):
    """Write what nerfstudio would; the poses' inverse is taken here, by numpy, in OpenGL's axes."""
    frames = []
    for view in photographed_room.train:
        pose = np.linalg.inv(view.exact.camera.viewmat.double().numpy())
        pose[:3, 1:3] *= -1
        frames.append(
            {"file_path": f"images/{view.exact.camera.name}.png", "transform_matrix": pose.tolist()}
        )
    matrix, width = (
        photographed_room.train[0].exact.camera.intrinsics,
        photographed_room.train[0].exact.camera.width,
    )
    content = {
        "w": width,
        "h": width,
        "fl_x": float(matrix[0, 0]),
        "fl_y": float(matrix[1, 1]),
        "cx": float(matrix[0, 2]),
        "cy": float(matrix[1, 2]),
        "camera_model": "OPENCV",
        "k1": 0.0,
        "k2": 0.0,
        "ply_file_path": "points.ply",
        "frames": frames,
        **changes,
    }
    write_points(folder / "points.ply", photographed_room.cloud.points, photographed_room.cloud.colours)
    (folder / "transforms.json").write_text(
        json.dumps({name: value for name, value in content.items() if value is not None})
    )
    return content


@pytest.mark.parametrize("given", [".", "images"])
def test_transforms_are_read(given, photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room", model=None)
    transforms(folder, photographed_room)
    capture = load_capture(None, folder / given)
    check_room(capture, photographed_room)
    assert capture.track_lengths is None
    assert capture.times is None
    assert capture.frame_times() == pytest.approx([at / 7 for at in range(8)])


def test_a_transforms_own_split_is_taken_unless_another_is_asked_for(
    photographed, photographed_room, tmp_path
):
    folder = photographed(tmp_path / "room")
    content = transforms(folder, photographed_room)
    files = sorted(frame["file_path"] for frame in content["frames"])
    for lists, held in (
        ({"val_filenames": files[1:3]}, [1, 2]),
        ({"val_filenames": files[:1], "test_filenames": files[-1:]}, [0, len(files) - 1]),
        ({"val_filenames": []}, []),
    ):
        (folder / "transforms.json").write_text(json.dumps({**content, **lists}))
        capture = load_capture(None, folder / "images")
        assert capture.split(None) == ([at for at in range(len(files)) if at not in held], held)
        assert capture.split(0) == (list(range(len(files))), [])
        assert capture.split(3)[1] == list(range(0, len(files), 3))
        kept, _ = capture.split(None)
        assert of_views(capture, kept).split(None) == (list(range(len(kept))), [])


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"val_filenames": "all"}, "val_filenames must be a list"),
        ({"test_filenames": [3]}, "test_filenames must be a list"),
        ({"val_filenames": ["images/nowhere.png"]}, "val_filenames name 'images/nowhere.png', which is no"),
    ],
)
def test_splits_that_cannot_be(lists, message, photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room")
    content = transforms(folder, photographed_room)
    (folder / "transforms.json").write_text(json.dumps({**content, **lists}))
    with pytest.raises(BadInputError, match=message):
        load_capture(None, folder / "images")


def test_a_split_that_leaves_nothing_to_train_on(photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room")
    content = transforms(folder, photographed_room)
    every = [frame["file_path"] for frame in content["frames"]]
    (folder / "transforms.json").write_text(json.dumps({**content, "test_filenames": every}))
    with pytest.raises(BadInputError, match=r"those that the capture names .* leaves none.*0 trains on all"):
        load_capture(None, folder / "images").split(None)


def test_transforms_as_blender_writes_them(photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room", model=None)
    matrix, width = (
        photographed_room.train[0].exact.camera.intrinsics,
        photographed_room.train[0].exact.camera.width,
    )
    content = transforms(
        folder,
        photographed_room,
        camera_angle_x=2 * math.atan(width / 2 / float(matrix[0, 0])),
        **dict.fromkeys(("w", "h", "fl_x", "fl_y", "cx", "cy", "camera_model", "k1", "k2")),
    )
    for place, frame in enumerate(content["frames"]):
        frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")
        frame["time"] = 1 - place / 7
    (folder / "transforms_train.json").write_text(
        json.dumps({k: v for k, v in content.items() if v is not None})
    )
    (folder / "transforms.json").unlink()
    capture = load_capture(None, folder)
    check_room(capture, photographed_room)
    assert capture.frame_times() == pytest.approx([1 - place / 7 for place in range(8)])


def test_lenses_of_transforms(photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room", model=None)
    transforms(folder, photographed_room, k1=-0.1, k2=0.03, p1=0.002, p2=-0.003)
    lens = load_capture(None, folder).photographs[0].lens
    assert lens.lens == "FULL_OPENCV"
    assert lens.parameters[4:] == (-0.1, 0.03, 0.002, -0.003, 0, 0, 0, 0)
    transforms(folder, photographed_room, k1=-0.1, k2=0.03, k3=0.01, k4=-0.01, camera_model="OPENCV_FISHEYE")
    lens = load_capture(None, folder).photographs[0].lens
    assert (lens.lens, lens.parameters[4:]) == ("OPENCV_FISHEYE", (-0.1, 0.03, 0.01, -0.01))
    transforms(folder, photographed_room, k1=0.1, is_fisheye=True)
    assert load_capture(None, folder).photographs[0].lens.lens == "OPENCV_FISHEYE"


def test_a_scale_in_the_axes_moves_nothing(photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room", model=None)
    content = transforms(folder, photographed_room)
    for frame in content["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, :3] *= 0.37
        frame["transform_matrix"] = pose[:3].tolist()  # and three rows are enough
    (folder / "transforms.json").write_text(json.dumps(content))
    check_room(load_capture(None, folder), photographed_room)


def spoilt(frame=None, **changes):
    """Return a function that spoils a transforms.json."""

    def spoil(content):
        content.update(changes)
        content["frames"][2].update(frame or {})
        return content

    return spoil


FLAT = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
SHEARED = [[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: [], "has no frames"),
        (lambda content: {**content, "frames": []}, "has no frames"),
        (lambda content: {**content, "frames": [3]}, "frame 0 is no object: 3"),
        (spoilt({"file_path": "images/none"}), "frame 2: there is no image 'images/none'"),
        (spoilt({"file_path": None}), "frame 2 has no file_path"),
        (spoilt({"file_path": "../../../../etc/hostname"}), "would be outside|there is no image"),
        (spoilt({"transform_matrix": None}), "frame 2: transform_matrix must be 4 x 4 numbers"),
        (spoilt({"transform_matrix": [[1, 0], [0, 1]]}), r"must be 4 x 4, got \[2, 2\]"),
        (spoilt({"transform_matrix": FLAT}), "frame 2: transform_matrix has no rotation"),
        (spoilt({"transform_matrix": SHEARED}), "frame 2: the axes .* not at right angles"),
        (spoilt(fl_x=None, fl_y=None), "frame 0 has no focal length: fl_x or camera_angle_x"),
        (spoilt(fl_x="wide"), "fl_x must be a number, got 'wide'"),
        (spoilt(fl_x=-5.0), "focal lengths must be above 0, got -5"),
        (spoilt(fl_x=None, fl_y=None, camera_angle_x=50), "camera_angle_x is in radians"),
        (spoilt(w=30), "is 24 x 24 pixels, its camera 30 x 24"),
        (spoilt(w="wide"), "w and h are whole numbers"),
        (spoilt(camera_model="EQUIRECTANGULAR"), "camera_model EQUIRECTANGULAR is not known"),
        (spoilt(camera_model="OPENCV_FISHEYE", p1=0.1), "a fisheye has k1 to k4"),
        (spoilt(ply_file_path="none.ply"), "there is no ply_file_path 'none.ply'"),
        (spoilt({"time": 0.5}), "frame 0: time must be within 0 and 1 in all frames, got None"),
    ],
)
def test_transforms_that_cannot_be_read_are_named(spoil, message, photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room", model=None)
    content = spoil(transforms(folder, photographed_room))
    (folder / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(BadInputError, match=message):
        load_capture(None, folder)


def test_broken_json_is_named(photographed, tmp_path):
    folder = photographed(tmp_path / "room", model=None)
    (folder / "transforms.json").write_text('{"frames": [')
    with pytest.raises(BadInputError, match=r"transforms\.json is no JSON"):
        load_capture(None, folder)


def test_poses_the_wrong_way_round_are_recognised(photographed, tmp_path):
    with pytest.raises(BadInputError, match="give world-to-camera"):
        load_capture(photographed(tmp_path / "room", turned=True), None)


def test_they_are_recognised_without_observations_too(photographed, tmp_path):
    """A model's images may name no points; then the poses as given are held against their inverses."""
    load_capture(photographed(tmp_path / "right", observed=False), None)
    with pytest.raises(BadInputError, match=r"8 cameras see points .*give world-to-camera"):
        load_capture(photographed(tmp_path / "wrong", observed=False, turned=True), None)


def test_poses_of_transforms_the_wrong_way_round_are_recognised(photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room", model=None)
    content = transforms(folder, photographed_room)
    for frame in content["frames"]:
        frame["transform_matrix"] = np.linalg.inv(np.array(frame["transform_matrix"])).tolist()
    (folder / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(BadInputError, match="OpenGL's axes, give camera-to-world"):
        load_capture(None, folder)


def test_no_points_may_be_replaced_by_random_ones(photographed, photographed_room, tmp_path):
    folder = photographed(tmp_path / "room", points=False)
    with pytest.raises(BadInputError, match=r"starts from sparse points.*--random-points"):
        load_capture(folder, None)
    capture = load_capture(folder, None, Loading(random_points=500, seed=3))
    assert capture.points.shape == (500, 3)
    assert capture.origin.endswith("500 random points")
    again = load_capture(folder, None, Loading(random_points=500, seed=3))
    assert torch.equal(capture.points, again.points)
    # the cube is round what the cameras look at, and holds them
    centres = torch.stack([view.camera.centre for view in capture.views])
    assert (capture.points.amin(0) < centres.amin(0)).all()
    assert (capture.points.amax(0) > centres.amax(0)).all()


def test_nothing_to_reconstruct(tmp_path):
    with pytest.raises(BadInputError, match=r"give --images .* or --colmap"):
        load_capture(None, None)
    with pytest.raises(BadInputError, match="images must be a folder; there is none at"):
        load_capture(None, tmp_path / "none")
    with pytest.raises(BadInputError, match="there is no COLMAP model in"):
        load_capture(tmp_path, None)
    with pytest.raises(BadInputError, match="there are no images in"):
        load_capture(None, tmp_path)


def test_images_without_poses_say_what_would_help(photographed, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", None)  # as if it were not installed
    folder = photographed(tmp_path / "room", model=None)
    with pytest.raises(
        BadInputError, match=r"8 images and no poses.*--colmap.*transforms.json.*papertrial\[capture\]"
    ):
        load_capture(None, folder / "images", Loading(workspace=tmp_path / "out"))


def test_images_are_listed_in_order(tmp_path):
    for name in ("b.JPG", "a.png", "below/c.jpeg", ".hidden/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert structure_from_motion.image_files(tmp_path) == ["a.png", "b.JPG", "below/c.jpeg"]


class Library:
    """What stands in for pycolmap: it finds two models, the second with more photographs."""

    class CameraMode:
        SINGLE, AUTO = "single", "auto"

    class logging:
        minloglevel = 0

        class Level:
            ERROR = 2

    def __init__(self, source, found=2):
        self.source, self.found, self.told = source, found, []

    def set_random_seed(self, seed):
        self.told.append(("seed", seed))

    def extract_features(self, database, folder, image_names, camera_mode):
        self.told.append(("features", len(image_names), camera_mode))

    def match_exhaustive(self, database):
        self.told.append("all pairs")

    def match_sequential(self, database):
        self.told.append("in order")

    def incremental_mapping(self, database, folder, models):
        return {at: Found(self.source, 2 + at) for at in range(self.found)}


class Found:
    def __init__(self, source, count):
        self.source, self.count = source, count

    def num_reg_images(self):
        return self.count

    def write_binary(self, folder):
        for path in self.source.iterdir():
            data = path.read_bytes() if self.count == 3 else b"the smaller model"
            (type(path)(folder) / path.name).write_bytes(data)


def test_poses_are_found_once_and_kept(photographed, photographed_room, monkeypatch, tmp_path):
    source = photographed(tmp_path / "known", as_text=False) / "sparse" / "0"
    folder = photographed(tmp_path / "room", model=None)
    library, told = Library(source), []
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", library)
    how = Loading(workspace=tmp_path / "out" / "poses", seed=4, tell=told.append)
    capture = load_capture(None, folder / "images", how)
    check_room(capture, photographed_room)
    assert capture.origin == "structure from motion, 8 of 8 images"
    assert library.told == [("seed", 4), ("features", 8, "single"), "all pairs"]
    assert told == ["finding features", "matching features", "finding poses", "reading photographs"]
    check_room(load_capture(None, folder / "images", how), photographed_room)
    assert len(library.told) == 3  # not again
    assert sorted(path.name for path in (tmp_path / "out" / "poses").iterdir()) == ["sparse"]


def test_photographs_that_do_not_fit_together(photographed, monkeypatch, tmp_path):
    folder = photographed(tmp_path / "room", model=None) / "images"
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", Library(tmp_path, found=0))
    with pytest.raises(BadInputError, match="found no poses for the 8 photographs"):
        load_capture(None, folder, Loading(workspace=tmp_path / "out"))
    for path in sorted(folder.iterdir())[2:]:
        path.unlink()
    with pytest.raises(BadInputError, match=r"needs 3 photographs or more, .* has 2"):
        load_capture(None, folder, Loading(workspace=tmp_path / "out"))
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"no image")
    with pytest.raises(BadInputError, match=r"image 'b\.png' cannot be read"):
        load_capture(None, folder, Loading(workspace=tmp_path / "out"))


def test_views_are_held_out(photographed, tmp_path):
    capture = load_capture(photographed(tmp_path / "room"), None)
    assert capture.split(0) == (list(range(8)), [])
    assert capture.split(3) == ([1, 2, 4, 5, 7], [0, 3, 6])
    for every in (-1, 1):
        with pytest.raises(BadInputError, match=f"got {every}"):
            capture.split(every)
    kept = of_views(capture, [1, 7])
    assert [view.camera.name for view in kept.views] == ["train_001.png", "train_007.png"]
    assert kept.frame_times() == pytest.approx([1 / 7, 1.0])


def test_fingerprints_are_of_what_is_shown(photographed, photographed_room, tmp_path):
    first, second = photographed(tmp_path / "a"), photographed(tmp_path / "b")
    one = load_capture(first, None).fingerprint()
    assert load_capture(second, None).fingerprint() == one  # where it lies does not matter
    path = second / "images" / "train_003.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[5, 7, 1] ^= 1
    Image.fromarray(pixels).save(path)
    assert load_capture(second, None).fingerprint() != one
