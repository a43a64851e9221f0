"""`transforms.json`: poses as instant-ngp, nerfstudio and Blender's scenes write them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.colmap import CameraRecord, Photograph
from papertrial.scenes.ply import read_points

_NAMES = ("transforms.json", "transforms_train.json")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG", ".webp")
_HELD_OUT = ("val_filenames", "test_filenames")
_RIGID = 1e-3  # how far from orthonormal the axes of a pose may be


@dataclass(frozen=True)
class Transforms:
    """What the file says.

    Attributes:
        photographs: names are below the file's folder.
        points: of its `ply_file_path`; none where it has none.
        colours: of the points, grey where the file has none.
        times: of its frames where all have `time`; else None.
        held_out: whether the file keeps a frame for measuring: it is named in `val_filenames` or `test_filenames`, as
            nerfstudio writes them; None where there are no such lists.
    """

    photographs: list[Photograph]
    points: Float[Tensor, "n 3"]
    colours: Float[Tensor, "n 3"]
    times: list[float] | None
    held_out: list[bool] | None = None


def find_transforms(images: Path) -> Path | None:
    """Return the file in the folder of images, or beside it, if there is one."""
    for folder in (images, images.parent):
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
    return None


def read_transforms(path: Path) -> Transforms:
    """Read lenses, poses and points.

    Poses are `transform_matrix`: camera to world, x right, y up, z backward. Focal lengths are `fl_x`, `fl_y` in
    pixels, or follow from `camera_angle_x`; sizes are `w`, `h`, or the image's own. Distortion is `k1` to `k6`, `p1`,
    `p2` of OpenCV, or `k1` to `k4` of its fisheye (`camera_model` OPENCV_FISHEYE, or `is_fisheye`). All of these may
    stand in each frame instead. `file_path` may lack its suffix.

    Raises:
        BadInputError: no JSON, a frame that lacks something or whose numbers cannot be; the message names the frame.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} is no JSON: {error}") from error
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise BadInputError(f"{path} has no frames: a list of file_path and transform_matrix is wanted")
    photographs = []
    for place, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise BadInputError(f"{path}, frame {place} is no object: {frame!r}")
        photographs.append(_photograph({**content, **frame}, path, place))
    times = [frame.get("time") for frame in frames]
    points, colours = _points(content, path)
    return Transforms(photographs, points, colours, _times(times, path), _held_out(content, frames, path))


def _photograph(given: Mapping[str, Any], path: Path, place: int) -> Photograph:
    where = f"{path}, frame {place}"
    name = _file(given.get("file_path"), path.parent, where)
    try:
        width, height = int(given["w"]), int(given["h"])
    except KeyError:
        width, height = _size(path.parent / name, where)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{where}: w and h are whole numbers: {error}") from error
    return Photograph(
        name, _lens(given, width, height, where), _viewmat(given.get("transform_matrix"), where)
    )


def _file(given: object, folder: Path, where: str) -> str:
    """Return a photograph's path below the folder; the suffix is looked for where it is left out."""
    if not isinstance(given, str) or not given:
        raise BadInputError(f"{where} has no file_path")
    path = Path(given)
    choices = [path, *(path.with_name(path.name + suffix) for suffix in _SUFFIXES)]
    for choice in choices:
        if (folder / choice).is_file():
            return choice.as_posix()
    raise BadInputError(f"{where}: there is no image {given!r} in {folder}, with or without a suffix")


def _size(path: Path, where: str) -> tuple[int, int]:
    try:
        with Image.open(path) as file:
            return file.size
    except OSError as error:
        raise BadInputError(f"{where}: {path.name} cannot be read: {error}") from error


def _lens(given: Mapping[str, Any], width: int, height: int, where: str) -> CameraRecord:
    across, down = _focal(given, "x", width, where), _focal(given, "y", height, where)
    known = [focal for focal in (across, down) if focal is not None]
    if not known:
        raise BadInputError(f"{where} has no focal length: fl_x or camera_angle_x is wanted")
    fx, fy = known[0], known[-1]  # square pixels where one of the two is left out
    cx = _number(given, "cx", where, width / 2)
    cy = _number(given, "cy", where, height / 2)
    terms = {
        name: _number(given, name, where, 0.0) for name in ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
    }
    model = str(given.get("camera_model", "OPENCV")).upper()
    fisheye = bool(given.get("is_fisheye")) or model == "OPENCV_FISHEYE"
    if not fisheye and model not in (
        "OPENCV",
        "PINHOLE",
        "SIMPLE_PINHOLE",
        "SIMPLE_RADIAL",
        "RADIAL",
        "PERSPECTIVE",
    ):
        raise BadInputError(
            f"{where}: camera_model {model} is not known here; OPENCV, OPENCV_FISHEYE and PINHOLE are"
        )
    first = (fx, fy, cx, cy)
    if fisheye:
        if terms["p1"] or terms["p2"]:
            raise BadInputError(f"{where}: a fisheye has k1 to k4 and no p1, p2")
        return CameraRecord(
            "OPENCV_FISHEYE", width, height, (*first, *(terms[name] for name in ("k1", "k2", "k3", "k4")))
        )
    if not any(terms.values()):
        return CameraRecord("PINHOLE", width, height, first)
    order = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    return CameraRecord("FULL_OPENCV", width, height, (*first, *(terms[name] for name in order)))


def _focal(given: Mapping[str, Any], axis: str, pixels: int, where: str) -> float | None:
    """Return the focal length along an axis, in pixels; None where nothing says it."""
    if given.get(f"fl_{axis}") is not None:
        focal = _number(given, f"fl_{axis}", where, 0.0)
    elif given.get(f"camera_angle_{axis}") is not None:
        angle = _number(given, f"camera_angle_{axis}", where, 0.0)
        if not 0 < angle < math.pi:
            raise BadInputError(f"{where}: camera_angle_{axis} is in radians, within 0 and pi, got {angle}")
        focal = pixels / 2 / math.tan(angle / 2)
    else:
        return None
    if focal <= 0:
        raise BadInputError(f"{where}: focal lengths must be above 0, got {focal}")
    return focal


def _number(given: Mapping[str, Any], name: str, where: str, otherwise: float) -> float:
    value = given.get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInputError(f"{where}: {name} must be a number, got {value!r}")
    return float(value)


def _viewmat(given: object, where: str) -> Float[Tensor, "4 4"]:
    """Return world to camera, in OpenCV's axes, of a pose in OpenGL's."""
    try:
        pose = torch.tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInputError(f"{where}: transform_matrix must be 4 x 4 numbers: {error}") from error
    if tuple(pose.shape) not in ((4, 4), (3, 4)):
        raise BadInputError(f"{where}: transform_matrix must be 4 x 4, got {list(pose.shape)}")
    turn = pose[:3, :3] * pose.new_tensor([1.0, -1.0, -1.0])  # y down and z forward
    length = float(torch.linalg.det(turn))
    if not (bool(torch.isfinite(pose).all()) and length > 0):
        raise BadInputError(f"{where}: transform_matrix has no rotation (determinant {length:.4g})")
    turn = turn / length ** (1 / 3)  # some programs leave a scale in the axes, which moves nothing
    if float((turn @ turn.T - torch.eye(3, dtype=torch.float64)).abs().max()) > _RIGID:
        raise BadInputError(f"{where}: the axes of transform_matrix are not at right angles: {pose.tolist()}")
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3], view[:3, 3] = turn.T, -turn.T @ pose[:3, 3]
    return view


def _points(content: Mapping[str, Any], path: Path) -> tuple[Tensor, Tensor]:
    given = content.get("ply_file_path")
    if given is None:
        return torch.zeros(0, 3), torch.zeros(0, 3)
    file = path.parent / str(given)
    if not file.is_file():
        raise BadInputError(f"{path}: there is no ply_file_path {str(given)!r} in {path.parent}")
    points, colours = read_points(file)
    return points, torch.full_like(points, 0.5) if colours is None else colours


def _times(given: list[Any], path: Path) -> list[float] | None:
    if all(time is None for time in given):
        return None
    for place, time in enumerate(given):
        if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time <= 1:
            raise BadInputError(
                f"{path}, frame {place}: time must be within 0 and 1 in all frames, got {time!r}"
            )
    return [float(time) for time in given]


def _held_out(content: Mapping[str, Any], frames: list[Any], path: Path) -> list[bool] | None:
    """Return which frames the file's own lists keep for measuring; None where it has no lists."""
    lists = {name: content[name] for name in _HELD_OUT if content.get(name) is not None}
    for name, given in lists.items():
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise BadInputError(f"{path}: {name} must be a list of the frames' file_path")
    named = {one for given in lists.values() for one in given}
    files = [frame.get("file_path") for frame in frames]
    unknown = sorted(named - {one for one in files if isinstance(one, str)})
    if unknown:
        raise BadInputError(
            f"{path}: {' and '.join(lists)} name {unknown[0]!r}, which is no frame's file_path"
        )
    return [file in named for file in files] if named else None
