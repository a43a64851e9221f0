"""Photographs of posed cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera


class Posed(NamedTuple):
    """A camera and its photograph: H x W x 3, within 0 and 1."""

    camera: Camera
    image: Tensor


def load_images(cameras: Sequence[Camera], folder: Path, longest: int | None = None) -> list[Posed]:
    """Read the photographs that cameras are named after.

    Args:
        cameras: as `Model.cameras` gives them; their names are files below `folder`.
        folder: of the images.
        longest: shrink images, and their cameras with them, to so many pixels on the longer side; None keeps them.

    Raises:
        BadInputError: a file that is missing, no image, outside the folder, or of another size than its camera.
    """
    if longest is not None and longest < 1:
        raise BadInputError(f"the longer side of an image has at least 1 pixel, got {longest}")
    return [_load(camera, folder, longest) for camera in cameras]


def _load(camera: Camera, folder: Path, longest: int | None) -> Posed:
    path = folder / camera.name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInputError(f"image {camera.name!r} would be outside {folder}")
    if not path.is_file():
        raise BadInputError(f"there is no image {camera.name!r} in {folder}")
    try:
        with Image.open(path) as file:
            if file.size != (camera.width, camera.height):
                raise BadInputError(
                    f"image {camera.name!r} is {file.size[0]} x {file.size[1]} pixels, its camera "
                    f"{camera.width} x {camera.height}; give the images that the model was made of"
                )
            image = file.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise BadInputError(f"image {camera.name!r} cannot be read: {error}") from error
    if longest is not None and longest < max(image.size):
        share = longest / max(image.size)
        width, height = (max(1, round(side * share)) for side in image.size)
        image, camera = image.resize((width, height), Image.Resampling.LANCZOS), camera.resized(width, height)
    return Posed(camera, torch.from_numpy(np.asarray(image, dtype=np.float32) / 255))
