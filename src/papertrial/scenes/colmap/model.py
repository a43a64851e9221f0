"""What a COLMAP model holds, checked once whichever file it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.cameras import Camera
from papertrial.scenes.splatting.geometry import quaternion_to_matrix

# name: (number in binary files, parameters, how many of them come first and are not distortion)
LENSES = {
    "SIMPLE_PINHOLE": (0, 3, 3),
    "PINHOLE": (1, 4, 4),
    "SIMPLE_RADIAL": (2, 4, 3),
    "RADIAL": (3, 5, 3),
    "OPENCV": (4, 8, 4),
    "OPENCV_FISHEYE": (5, 8, 4),
    "FULL_OPENCV": (6, 12, 4),
    "FOV": (7, 5, 4),
    "SIMPLE_RADIAL_FISHEYE": (8, 4, 3),
    "RADIAL_FISHEYE": (9, 5, 3),
    "THIN_PRISM_FISHEYE": (10, 12, 4),
}
_STRAIGHT = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "FOV")
NO_POINT = -1


@dataclass(frozen=True)
class CameraRecord:
    """A lens: its model's name, the size of its images in pixels, and its parameters in COLMAP's order."""

    lens: str
    width: int
    height: int
    parameters: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.lens not in LENSES:
            raise unknown("lens model", self.lens, LENSES)
        wanted = LENSES[self.lens][1]
        if len(self.parameters) != wanted:
            raise BadInputError(f"{self.lens} has {wanted} parameters, got {len(self.parameters)}")
        if self.width <= 0 or self.height <= 0 or not np.isfinite(self.parameters).all():
            raise BadInputError(
                f"a camera of {self.width} x {self.height} pixels with parameters {self.parameters} is none"
            )

    @property
    def focal(self) -> tuple[float, float]:
        """The focal lengths in x and in y, in pixels."""
        kept = LENSES[self.lens][2]
        return (self.parameters[0], self.parameters[1 if kept == 4 else 0])

    @property
    def centre(self) -> tuple[float, float]:
        """Where the optical axis meets the image, in pixels."""
        kept = LENSES[self.lens][2]
        return (self.parameters[kept - 2], self.parameters[kept - 1])

    @property
    def bends(self) -> bool:
        """Whether straight lines may come out bent: all fisheyes do, other lenses where they have distortion."""
        kept = LENSES[self.lens][2]
        return self.lens not in _STRAIGHT or any(self.parameters[kept:])

    def intrinsics(self) -> Float[Tensor, "3 3"]:
        """Return the camera matrix (float64).

        Raises:
            BadInputError: a lens that bends lines; `load_photographs` undistorts its images.
        """
        if self.bends:
            kept = LENSES[self.lens][2]
            raise BadInputError(
                f"{self.lens} with distortion {self.parameters[kept:]} bends lines and has no camera matrix: "
                "load_photographs undistorts its images"
            )
        (fx, fy), (cx, cy) = self.focal, self.centre
        return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float64)


@dataclass(frozen=True)
class ImageRecord:
    """A photograph: its pose, its lens, its file, and the points found in it.

    Attributes:
        rotation: quaternion (w, x, y, z) from the world to the camera.
        translation: of the same transform.
        camera: number of its lens.
        name: of its file, below the folder of images.
        places: where points were found, in pixels.
        points: their numbers in the cloud; -1 for none.
    """

    rotation: tuple[float, float, float, float]
    translation: tuple[float, float, float]
    camera: int
    name: str
    places: Float64[ndarray, "k 2"] = field(default_factory=lambda: np.zeros((0, 2)))
    points: Int64[ndarray, " k"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        pose = np.array([*self.rotation, *self.translation])
        if not np.isfinite(pose).all() or not pose[:4].any():
            raise BadInputError(f"image {self.name!r} has no pose: {pose.tolist()}")
        if not self.name:
            raise BadInputError("an image has no name")

    def viewmat(self) -> Float[Tensor, "4 4"]:
        """Return the world-to-camera transform (float64)."""
        view = torch.eye(4, dtype=torch.float64)
        view[:3, :3] = quaternion_to_matrix(torch.tensor([self.rotation], dtype=torch.float64))[0]
        view[:3, 3] = torch.tensor(self.translation, dtype=torch.float64)
        return view


@dataclass(frozen=True)
class PointCloud:
    """Sparse points, row by row.

    Attributes:
        numbers: COLMAP's own of each point.
        places: in the world.
        colours: 0 to 255.
        errors: mean reprojection error, in pixels.
        tracks: for each point the images it was found in and which of their places it is, one row each.
    """

    numbers: Int64[ndarray, " n"]
    places: Float64[ndarray, "n 3"]
    colours: UInt8[ndarray, "n 3"]
    errors: Float64[ndarray, " n"]
    tracks: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.tracks) != len(self.numbers):
            raise BadInputError(f"{len(self.numbers)} points have {len(self.tracks)} tracks")
        bad = ~np.isfinite(self.places).all(axis=1)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise BadInputError(
                f"point {self.numbers[row]} lies nowhere: {self.places[row].tolist()}; drop it or rebuild the model"
            )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def track_lengths(self) -> Int64[ndarray, " n"]:
        """In how many images each point was found."""
        return np.array([len(track) for track in self.tracks], dtype=np.int64)


@dataclass(frozen=True)
class Model:
    """Lenses and photographs by number, and the cloud.

    Raises:
        BadInputError: an image of a lens that is not there.
    """

    lenses: dict[int, CameraRecord]
    images: dict[int, ImageRecord]
    cloud: PointCloud

    def __post_init__(self) -> None:
        for number, image in self.images.items():
            if image.camera not in self.lenses:
                raise BadInputError(
                    f"image {number} ({image.name!r}) is of camera {image.camera}; there are {sorted(self.lenses)}"
                )

    def cameras(self) -> list[Camera]:
        """Return the posed cameras, by their images' names.

        Raises:
            BadInputError: a lens that bends lines; `load_photographs` takes those too.
        """
        found = []
        for image in sorted(self.images.values(), key=lambda one: one.name):
            lens = self.lenses[image.camera]
            found.append(Camera(image.viewmat(), lens.intrinsics(), lens.width, lens.height, image.name))
        return found
