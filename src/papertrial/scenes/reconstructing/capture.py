"""Posed photographs of one place, with sparse points of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, check_poses
from papertrial.scenes.colmap import Photograph, Posed, load_photographs
from papertrial.scenes.tsdf import focus_point

IMAGE_FOLDERS = ("images", "input", "rgb")  # as people and programs name them
_FINGERPRINT = 16  # hexadecimal digits
_REACH = 1.5  # of random points, in units of the farthest camera's distance from what all look at


@dataclass(frozen=True)
class Capture:
    """What a reconstruction starts from, in the order of the photographs' names.

    Attributes:
        views: pinhole cameras and photographs, undistorted and shrunk (float32).
        photographs: the files they come from, with the lenses that took them.
        points: sparse points, in the world of the cameras.
        colours: of the points, within 0 and 1.
        track_lengths: in how many photographs each point was found; None where nobody counted.
        times: of the photographs, within 0 and 1; None where all are of one moment or nobody wrote them down.
        root: the folder beside whose images `depth` and `normal` may lie.
        origin: where the poses come from, in words.
        held_out: whether the capture itself keeps a photograph for measuring; None where it says nothing.
    """

    views: tuple[Posed, ...]
    photographs: tuple[Photograph, ...]
    points: Float[Tensor, "n 3"]
    colours: Float[Tensor, "n 3"]
    track_lengths: Int[Tensor, " n"] | None
    times: tuple[float, ...] | None
    root: Path
    origin: str
    held_out: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        if not self.views:
            raise BadInputError("a capture needs at least one photograph")
        if len(self.points) < 2:
            raise BadInputError(
                f"a reconstruction starts from sparse points, {self.origin} has {len(self.points)}; give a COLMAP "
                "model with points3D, a transforms.json with ply_file_path, or --random-points 5000"
            )
        check_poses([view.camera for view in self.views], self.points)

    def split(self, every: int | None) -> tuple[list[int], list[int]]:
        """Return which views are trained on and which are held out.

        Args:
            every: hold out every so many, the first one first; 0 for none, None for those that the capture names.

        Raises:
            BadInputError: a number below 0, or one that leaves no view to train on.
        """
        if every is not None and (every < 0 or every == 1):
            raise BadInputError(f"hold_out is 0 for none, or every 2nd view or fewer, got {every}")
        own = self.held_out or (False,) * len(self.views)
        held = [
            at for at in range(len(self.views)) if (own[at] if every is None else every and at % every == 0)
        ]
        kept = [at for at in range(len(self.views)) if at not in set(held)]
        if not kept:
            which = "those that the capture names" if every is None else f"every {every}th"
            raise BadInputError(
                f"holding out {which} of {len(self.views)} views leaves none to train on; 0 trains on all of them"
            )
        return kept, held

    def frame_times(self) -> list[float]:
        """Return each view's time: as written down, or else evenly spread in the order of the names."""
        if self.times is not None:
            return list(self.times)
        return [at / max(1, len(self.views) - 1) for at in range(len(self.views))]

    def fingerprint(self) -> str:
        """Return digits that change where photographs, poses or points do."""
        found = hashlib.sha256()
        for camera, image in self.views:
            found.update(camera.name.encode())
            for tensor in (camera.viewmat, camera.intrinsics, image):
                found.update(tensor.contiguous().numpy().tobytes())
        for tensor in (self.points, self.colours):
            found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()[:_FINGERPRINT]


def make_capture(
    photographs: Sequence[Photograph],
    folder: Path,
    points: Float[Tensor, "n 3"],
    colours: Float[Tensor, "n 3"],
    *,
    root: Path,
    origin: str,
    longest: int | None = None,
    random_points: int = 0,
    seed: int = 0,
    track_lengths: Int[Tensor, " n"] | None = None,
    times: Sequence[float] | None = None,
    held_out: Sequence[bool] | None = None,
) -> Capture:
    """Read the photographs and return the capture.

    Args:
        photographs: with lenses and poses.
        folder: of their files.
        points: sparse points; may be none where `random_points` are wanted.
        colours: of the points.
        root: see `Capture`.
        origin: see `Capture`.
        longest: pixels of the longer side that images are shrunk to; None keeps them.
        random_points: drawn where there are no sparse points, in a cube round what the cameras look at.
        seed: of the random points.
        track_lengths: see `Capture`.
        times: see `Capture`; one for each photograph.
        held_out: see `Capture`; one for each photograph.

    Raises:
        BadInputError: no photographs, files that cannot be read, no points, or poses that see none of them.
    """
    if not photographs:
        raise BadInputError(f"{origin} names no photographs")
    order = sorted(range(len(photographs)), key=lambda at: photographs[at].name)
    chosen = [photographs[at] for at in order]
    views = tuple(
        Posed(camera.to(torch.float32), image) for camera, image in load_photographs(chosen, folder, longest)
    )
    if not len(points) and random_points:
        points, colours = _random_points([view.camera for view in views], random_points, seed)
        origin = f"{origin}, {random_points} random points"
    return Capture(
        views,
        tuple(chosen),
        points.float(),
        colours.float(),
        track_lengths,
        None if times is None else tuple(times[at] for at in order),
        root,
        origin,
        None if held_out is None else tuple(held_out[at] for at in order),
    )


def of_views(capture: Capture, chosen: Sequence[int]) -> Capture:
    """Return the capture with some of its views alone; they keep the times that they have among all."""
    times = capture.frame_times()
    held = capture.held_out
    return replace(
        capture,
        views=tuple(capture.views[at] for at in chosen),
        photographs=tuple(capture.photographs[at] for at in chosen),
        times=tuple(times[at] for at in chosen),
        held_out=None if held is None else tuple(held[at] for at in chosen),
    )


def _random_points(cameras: Sequence[Camera], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return grey points, uniform in a cube round what the cameras look at and large enough to hold them all."""
    try:
        middle = focus_point(cameras).float()
    except BadInputError as error:
        raise BadInputError(f"random points need something that the cameras look at: {error}") from error
    reach = _REACH * max(float((camera.centre - middle).norm()) for camera in cameras)
    draw = torch.Generator().manual_seed(seed)
    points = middle + reach * (2 * torch.rand(count, 3, generator=draw) - 1)
    return points, torch.full((count, 3), 0.5)
