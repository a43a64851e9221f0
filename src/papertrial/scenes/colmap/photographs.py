"""Photographs of posed cameras, undistorted and shrunk as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.colmap.lenses import pinhole_for, resized, undistort
from papertrial.scenes.colmap.model import CameraRecord, Model


class Posed(NamedTuple):
    """A camera and its photograph: H x W x 3, within 0 and 1."""

    camera: Camera
    image: Tensor


@dataclass(frozen=True)
class Photograph:
    """A file, the lens that took it, and where that stood.

    Attributes:
        name: of the file, below the folder of images.
        lens: of any model.
        viewmat: world to camera.
    """

    name: str
    lens: CameraRecord
    viewmat: Float[Tensor, "4 4"]


def load_photographs(
    photographs: Sequence[Photograph], folder: Path, longest: int | None = None
) -> list[Posed]:
    """Read photographs; those of lenses that bend lines come as a pinhole would have taken them.

    What is transparent in a photograph is shown before black.

    Args:
        photographs: as `photographs_of` gives them.
        folder: of the images.
        longest: shrink images, and their cameras with them, to so many pixels on the longer side; None keeps them.

    Raises:
        BadInputError: a file that is missing, no image, outside the folder, or of another size than its lens's; or
            distortion that cannot be undone.
    """
    if longest is not None and longest < 1:
        raise BadInputError(f"the longer side of an image has at least 1 pixel, got {longest}")
    return [_load(one, folder, longest) for one in photographs]


def photographs_of(model: Model) -> list[Photograph]:
    """Return the photographs of a COLMAP model, by name."""
    images = sorted(model.images.values(), key=lambda one: one.name)
    return [Photograph(one.name, model.lenses[one.camera], one.viewmat()) for one in images]


def load_images(cameras: Sequence[Camera], folder: Path, longest: int | None = None) -> list[Posed]:
    """Read the photographs that pinhole cameras are named after; see `load_photographs`.

    Args:
        cameras: as `Model.cameras` gives them; their names are files below `folder`.
        folder: of the images.
        longest: as there.

    Raises:
        BadInputError: as there.
    """
    return load_photographs([_photograph(camera) for camera in cameras], folder, longest)


def _photograph(camera: Camera) -> Photograph:
    matrix = camera.intrinsics.double()
    if float(matrix[0, 1]):
        raise BadInputError(f"camera {camera.name!r} has slanted pixels (skew), which no photograph here has")
    places = ((0, 0), (1, 1), (0, 2), (1, 2))
    parameters = tuple(float(matrix[row, column]) for row, column in places)
    return Photograph(
        camera.name, CameraRecord("PINHOLE", camera.width, camera.height, parameters), camera.viewmat
    )


def _load(one: Photograph, folder: Path, longest: int | None) -> Posed:
    image, lens = _read(one, folder), one.lens
    if longest is not None and longest < max(image.size):
        share = longest / max(image.size)
        width, height = (max(1, round(side * share)) for side in image.size)
        image, lens = image.resize((width, height), Image.Resampling.LANCZOS), resized(lens, width, height)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
    if lens.bends:
        pinhole = pinhole_for(lens)
        pixels, lens = undistort(pixels, lens, pinhole), pinhole
    matrix = lens.intrinsics().to(one.viewmat)
    return Posed(Camera(one.viewmat, matrix, lens.width, lens.height, one.name), pixels)


def _read(one: Photograph, folder: Path) -> Image.Image:
    path, name = folder / one.name, one.name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInputError(f"image {name!r} would be outside {folder}")
    if not path.is_file():
        raise BadInputError(f"there is no image {name!r} in {folder}")
    image = _opened(path, name)
    if image.size != (one.lens.width, one.lens.height):
        raise BadInputError(
            f"image {name!r} is {image.size[0]} x {image.size[1]} pixels, its camera "
            f"{one.lens.width} x {one.lens.height}; give the images that the model was made of"
        )
    return image


def read_image(path: Path) -> Float[Tensor, "h w 3"]:
    """Return a photograph as it was taken, within 0 and 1; what is transparent is shown before black.

    Raises:
        BadInputError: no image, or one of more than 8 bits a channel.
    """
    return torch.from_numpy(np.asarray(_opened(path, path.name), dtype=np.float32) / 255)


def _opened(path: Path, name: str) -> Image.Image:
    try:
        with Image.open(path) as file:
            if file.mode.startswith(("I", "F")):
                raise BadInputError(f"image {name!r} has more than 8 bits a channel; save it with 8")
            if "A" in file.getbands() or "transparency" in file.info:
                black = Image.new("RGBA", file.size, (0, 0, 0, 255))
                return Image.alpha_composite(black, file.convert("RGBA")).convert("RGB")
            return file.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise BadInputError(f"image {name!r} cannot be read: {error}") from error
