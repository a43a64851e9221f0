"""Scenes in the layout of Nerfies and HyperNeRF, DyCheck's iPhone scenes, and Nvidia's: posed frames of moving things.

camera/<id>.json     orientation (3 x 3), position, focal_length, principal_point, image_size
metadata.json        for each id: time_id or warp_id, camera_id
dataset.json         ids, train_ids, val_ids
scene.json           scale, center, near, far
rgb/2x/<id>.png      frames at half of the cameras' size
points.npy           sparse points, in the cameras' coordinates
covisible/2x/val/<id>.png   DyCheck: pixels of the test frame that training frames see too
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.modec_gs.views import TimedView, spread_times, warn_of_unseen_times
from papertrial.scenes.pictures import colour_picture, write_png
from papertrial.scenes.ply import write_points

_DISTORTIONS = ("radial_distortion", "tangential_distortion", "skew")


@dataclass(frozen=True)
class MovingCapture:
    """Frames to train on and to test on, in the order of time, and points to start from.

    Attributes:
        train: in the order of time.
        test: likewise; their masks are there where they were asked for.
        points: in scene units (centred and scaled as scene.json says).
        near: of the scene, in scene units.
        far: likewise.
    """

    train: tuple[TimedView, ...]
    test: tuple[TimedView, ...]
    points: Float[Tensor, "n 3"]
    near: float
    far: float


def load_hypernerf(
    folder: Path, *, reduction: int = 2, masks: bool = False, longest: int | None = None
) -> MovingCapture:
    """Read a scene; see the module for its layout.

    Times are those of all frames, spread from 0 to 1. Frames at times that no training frame has are tested with a
    warning. Lenses that bend lines are taken for straight ones, as in the released loaders, with a warning.

    Args:
        folder: of the scene.
        reduction: by which the frames in `rgb/<reduction>x` are smaller than the cameras say.
        masks: read covisible masks of the test frames.
        longest: shrink frames, and their cameras and masks with them, to so many pixels on the longer side.

    Raises:
        BadInputError: a file that is missing or not as the layout says, frames of different sizes, a mask that is
            missing, or no two moments.

    Source: the layout of arXiv 2011.12948 and arXiv 2106.13228; masks as in arXiv 2210.13445.
    """
    lists = _object(folder / "dataset.json", ("train_ids", "val_ids"))
    metadata = _object(folder / "metadata.json", ())
    scene = _object(folder / "scene.json", ("scale", "center"))
    train, test = ([str(one) for one in lists[name]] for name in ("train_ids", "val_ids"))
    both = sorted(set(train) & set(test))
    if not train or both:
        fault = f"frame {both[0]!r} both to train and to test on" if both else "no frame to train on"
        raise BadInputError(f"{folder / 'dataset.json'} names {fault}")
    moments = [_moment(metadata, name, folder) for name in (*train, *test)]
    times = dict(zip((*train, *test), spread_times(moments), strict=True))

    def views(names: list[str], masked: bool) -> tuple[TimedView, ...]:
        ordered = sorted(names, key=lambda name: (times[name], name))
        return tuple(_view(folder, name, times[name], scene, reduction, longest, masked) for name in ordered)

    found = MovingCapture(
        views(train, False),
        views(test, masks),
        _points(folder, scene),
        float(scene.get("near", 0.0)),
        float(scene.get("far", float("inf"))),
    )
    _check_sizes(found)
    _warn_of_lenses(folder, train)
    warn_of_unseen_times(found.train, found.test)
    return found


def read_camera(path: Path, scale: float, centre: Float[Tensor, " 3"], reduction: int = 1) -> Camera:
    """Return the camera of one frame, in scene units and at the reduced size (float32).

    Orientations are world to camera; the position is moved by `-centre` and multiplied by `scale`.

    Raises:
        BadInputError: no such file, keys that are missing, or a pose that is none.
    """
    given = _object(path, ("orientation", "position", "focal_length", "principal_point", "image_size"))
    rotation = torch.tensor(given["orientation"], dtype=torch.float64)
    position = torch.tensor(given["position"], dtype=torch.float64)
    if rotation.shape != (3, 3) or position.shape != (3,):
        raise BadInputError(f"{path}: orientation must be 3 x 3 and position of 3 numbers")
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = rotation
    view[:3, 3] = -rotation @ ((position - centre.double()) * scale)
    focal = float(given["focal_length"])
    tall = focal * float(given.get("pixel_aspect_ratio", 1.0))
    across, down = (float(one) for one in given["principal_point"])
    matrix = torch.tensor([[focal, 0.0, across], [0.0, tall, down], [0.0, 0.0, 1.0]], dtype=torch.float64)
    matrix[:2] /= reduction
    width, height = (round(float(side) / reduction) for side in given["image_size"])
    return Camera(view, matrix, width, height, path.stem).to(torch.float32)


def _view(
    folder: Path,
    name: str,
    time: float,
    scene: dict[str, Any],
    reduction: int,
    longest: int | None,
    masked: bool,
) -> TimedView:
    if not re.fullmatch(r"[\w.-]+", name):
        raise BadInputError(f"{folder / 'dataset.json'}: {name!r} is no frame's id")
    centre = torch.tensor(scene["center"], dtype=torch.float64)
    camera = read_camera(folder / "camera" / f"{name}.json", float(scene["scale"]), centre, reduction)
    image = _picture(folder / "rgb" / f"{reduction}x" / f"{name}.png", "RGB")
    height, width = image.shape[:2]
    if abs(width - camera.width) > 1 or abs(height - camera.height) > 1:
        raise BadInputError(
            f"frame {name!r} is {width} x {height} pixels, its camera {camera.width} x {camera.height} at "
            f"1/{reduction}; give the reduction whose folder holds the frames"
        )
    camera = camera.resized(width, height)  # halves of odd sizes are rounded either way
    mask = _mask(folder, name, reduction, (height, width)) if masked else None
    if longest is not None and longest < max(width, height):
        share = longest / max(width, height)
        size = (max(1, round(width * share)), max(1, round(height * share)))
        camera, image = camera.resized(*size), _shrink(image, size)
        mask = None if mask is None else _shrink(mask.float(), size) > 0.5
    return TimedView(camera, time, image, mask)


def _mask(folder: Path, name: str, reduction: int, size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    path = folder / "covisible" / f"{reduction}x" / "val" / f"{name}.png"
    if not path.is_file():
        raise BadInputError(
            f"masked metrics need covisible masks; there is no {path}. Make them (DyCheck's covisible script), or "
            "leave the masks out to score all pixels"
        )
    mask = _picture(path, "L") > 0.5
    if tuple(mask.shape) != size:
        raise BadInputError(
            f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels, its frame {size[1]} x {size[0]}"
        )
    return mask


def _moment(metadata: dict[str, Any], name: str, folder: Path) -> float:
    entry = metadata.get(name)
    if not isinstance(entry, dict):
        raise BadInputError(f"{folder / 'metadata.json'} has no entry for frame {name!r}")
    for key in ("time_id", "warp_id"):
        if key in entry:
            return float(entry[key])
    raise BadInputError(
        f"{folder / 'metadata.json'}: frame {name!r} has neither time_id nor warp_id, "
        f"but {', '.join(entry) or 'nothing'}"
    )


def _points(folder: Path, scene: dict[str, Any]) -> Tensor:
    path = folder / "points.npy"
    if not path.is_file():
        raise BadInputError(f"there are no points to start from: {path} is missing")
    try:
        points = torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float64))
    except (ValueError, OSError) as problem:
        raise BadInputError(f"{path} cannot be read: {problem}") from problem
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise BadInputError(f"{path} must hold points in rows of 3, its shape is {tuple(points.shape)}")
    return ((points - torch.tensor(scene["center"], dtype=torch.float64)) * float(scene["scale"])).float()


def _check_sizes(capture: MovingCapture) -> None:
    sizes = {tuple(view.image.shape[:2]) for view in (*capture.train, *capture.test)}
    if len(sizes) > 1:
        found = ", ".join(f"{width} x {height}" for height, width in sorted(sizes))
        raise BadInputError(f"all frames must have one size, these have {found}; crop or shrink them first")


def _warn_of_lenses(folder: Path, names: list[str]) -> None:
    given = _object(folder / "camera" / f"{names[0]}.json", ())
    bent = {name: given[name] for name in _DISTORTIONS if np.any(given.get(name, 0.0))}
    if bent:
        warnings.warn(f"cameras are taken for pinholes; {bent} of {names[0]!r} is left out", stacklevel=3)


def _picture(path: Path, mode: str) -> Tensor:
    """Return an image within 0 and 1: H x W x 3, or H x W for grey."""
    if not path.is_file():
        raise BadInputError(f"there is no image {path}")
    try:
        with Image.open(path) as file:
            return torch.from_numpy(np.asarray(file.convert(mode), dtype=np.float32) / 255)
    except (OSError, Image.DecompressionBombError) as problem:
        raise BadInputError(f"image {path} cannot be read: {problem}") from problem


def _shrink(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return an image (H x W or H x W x C) with width and height `size`, each pixel the mean of what it covers."""
    flat = image[None, None] if image.ndim == 2 else image.permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(flat, size=size[::-1], mode="area")
    return small[0, 0] if image.ndim == 2 else small[0].permute(1, 2, 0).contiguous()


def _object(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the object in a JSON file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise BadInputError(
            f"there is no {path}; is {path.parent} a scene in HyperNeRF's layout?"
        ) from problem
    except (OSError, ValueError) as problem:
        raise BadInputError(f"{path} cannot be read as JSON: {problem}") from problem
    missing = [key for key in keys if not isinstance(found, dict) or key not in found]
    if missing or not isinstance(found, dict):
        raise BadInputError(f"{path} lacks {', '.join(missing) or 'an object'}")
    return found


def write_transforms(folder: Path, out: Path, *, reduction: int = 2, longest: int | None = None) -> None:
    """Write a scene's frames, their poses and times, and its points as a capture with a transforms.json.

    Frames to test on are named there as `val_filenames`, so that they are held out.

    Args:
        folder: of the scene, in HyperNeRF's layout.
        out: folder of the new capture.
        reduction: see `load_hypernerf`.
        longest: see `load_hypernerf`.

    Raises:
        BadInputError: see `load_hypernerf`.
    """
    found = load_hypernerf(folder, reduction=reduction, longest=longest)
    (out / "images").mkdir(parents=True, exist_ok=True)
    write_points(out / "points.ply", found.points)
    frames = []
    for view in (*found.train, *found.test):
        name = _file_of(view)
        write_png(out / name, colour_picture(view.image))
        camera = view.camera
        pose = torch.linalg.inv(camera.viewmat.double()) @ torch.diag(
            torch.tensor([1.0, -1.0, -1.0, 1.0]).double()
        )
        matrix = camera.intrinsics.tolist()
        frames.append(
            {
                "file_path": name,
                "time": view.time,
                "transform_matrix": pose.tolist(),
                "w": camera.width,
                "h": camera.height,
                "fl_x": matrix[0][0],
                "fl_y": matrix[1][1],
                "cx": matrix[0][2],
                "cy": matrix[1][2],
            }
        )
    split = {
        f"{which}_filenames": [_file_of(view) for view in views]
        for which, views in (("train", found.train), ("val", found.test))
    }
    content = {"ply_file_path": "points.ply", "frames": frames, **split}
    half = out / ".transforms.json"
    half.write_text(json.dumps(content), encoding="utf-8")
    half.replace(out / "transforms.json")  # appears last and whole: it says that everything else is there


def _file_of(view: TimedView) -> str:
    return f"images/{view.camera.name}.png"
