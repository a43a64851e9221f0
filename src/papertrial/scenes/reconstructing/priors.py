"""Guesses of depth and normals that lie beside a capture's photographs, or that a network makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.colmap import Photograph
from papertrial.scenes.colmap.lenses import pinhole_for, resized, undistort
from papertrial.scenes.reconstructing.capture import IMAGE_FOLDERS, Capture

_LEAST_LENGTH = 0.5  # of a normal that is one, after maps were shrunk
_UNIT_SLACK = 1e-3  # that a component may be beyond 1


@dataclass(frozen=True)
class Priors:
    """One map, or None, for each view of a capture.

    Attributes:
        depths: H x W, relative: larger is farther.
        normals: H x W x 3 in the camera's frame (x right, y down, z forward), facing it; zeros where there is none.
        origin: where they come from, in words.
    """

    depths: tuple[Tensor | None, ...]
    normals: tuple[Tensor | None, ...]
    origin: str

    @property
    def counts(self) -> tuple[int, int]:
        """How many views have a depth, and how many have normals."""
        return sum(one is not None for one in self.depths), sum(one is not None for one in self.normals)


def read_priors(capture: Capture) -> Priors:
    """Read `depth/NAME.npy` (H x W) and `normal/NAME.npy` (H x W x 3 within -1 and 1) beside a capture's images.

    NAME is the image's, with or without its suffix and the folder `images` that it may begin with. Maps are of the
    photographs as they were taken, in their size or that of the capture's views; they are shrunk and undistorted as
    those were.

    Raises:
        BadInputError: a file that is no such array, of another size, or not finite.
    """
    depths = [_read(capture, at, "depth") for at in range(len(capture.views))]
    normals = [_read(capture, at, "normal") for at in range(len(capture.views))]
    found = Priors(tuple(depths), tuple(None if one is None else _unit(one) for one in normals), "files")
    if not any(found.counts):
        return Priors(found.depths, found.normals, "none")
    return found


def _read(capture: Capture, at: int, kind: str) -> Tensor | None:
    photograph, camera = capture.photographs[at], capture.views[at].camera
    path = _file(capture.root / kind, photograph.name)
    if path is None:
        return None
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(f"{path} is no array of numpy: {error}") from error
    rank = 2 if kind == "depth" else 3
    if array.ndim != rank or array.dtype.kind not in "fiu" or (rank == 3 and array.shape[2] != 3):
        raise BadInputError(
            f"{path} must be {'H x W' if rank == 2 else 'H x W x 3'} numbers, "
            f"got {array.dtype} {list(array.shape)}"
        )
    values = torch.from_numpy(array.astype(np.float32))
    if not bool(torch.isfinite(values).all()):
        raise BadInputError(f"{path} has {int((~torch.isfinite(values)).sum())} numbers that are not finite")
    if kind == "normal" and float(values.abs().max()) > 1 + _UNIT_SLACK:
        raise BadInputError(f"{path}: normals lie within -1 and 1, got {float(values.abs().max()):.4g}")
    matched = match_map(values.reshape(*values.shape[:2], -1), photograph, camera, str(path))
    return matched[..., 0] if kind == "depth" else matched


def match_map(
    values: Float[Tensor, "h w c"], photograph: Photograph, camera: Camera, what: str
) -> Float[Tensor, "height width c"]:
    """Return a map of a photograph as its view sees it: as small, and undistorted.

    Args:
        values: of the photograph's size, or of the view's.
        photograph: that the map is of.
        camera: of the view.
        what: names the map in messages.

    Raises:
        BadInputError: another size.
    """
    lens, size = photograph.lens, (values.shape[1], values.shape[0])
    wanted = (camera.width, camera.height)
    if size not in ((lens.width, lens.height), wanted):
        raise BadInputError(
            f"{what} is {size[0]} x {size[1]} pixels; its image has {lens.width} x {lens.height}, "
            f"shrunk to {wanted[0]} x {wanted[1]}"
        )
    if size != wanted:
        shrunk = torch.nn.functional.interpolate(
            values.permute(2, 0, 1)[None], size=(wanted[1], wanted[0]), mode="area"
        )
        values = shrunk[0].permute(1, 2, 0)
    if lens.bends:
        small = lens if (lens.width, lens.height) == wanted else resized(lens, *wanted)
        channels = values.shape[2]
        three = values if channels == 3 else values.expand(-1, -1, 3)
        values = undistort(three.contiguous(), small, pinhole_for(small))[..., :channels]
    return values.contiguous()


def _unit(normals: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """Return normals of length 1; what shrinking blended out of normals that disagree is none."""
    length = normals.norm(dim=-1, keepdim=True)
    return torch.where(length > _LEAST_LENGTH, normals / length.clamp(min=_LEAST_LENGTH), 0.0)


def _file(folder: Path, name: str) -> Path | None:
    image = PurePosixPath(name)
    names = [image]
    if len(image.parts) > 1 and image.parts[0] in IMAGE_FOLDERS:
        names.append(PurePosixPath(*image.parts[1:]))
    for one in names:
        for choice in (one.with_suffix(".npy"), one.with_name(f"{one.name}.npy")):
            if (folder / choice).is_file():
                return folder / choice
    return None
