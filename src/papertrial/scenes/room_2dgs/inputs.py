"""What a reconstruction of a room is given, and the truth it is held against: a made room or a user's capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.colmap import Posed
from papertrial.scenes.ply import read_points
from papertrial.scenes.procedural_room import Room
from papertrial.scenes.reconstructing import load_capture, read_priors
from papertrial.scenes.reconstructing.capture import of_views
from papertrial.scenes.reconstructing.loading import Loading
from papertrial.scenes.room_2dgs.priors import Prior


@dataclass(frozen=True)
class Inputs:
    """Photographs, priors and sparse points of a room, and what is known of the truth.

    Attributes:
        train: views to fit.
        priors: of each of them.
        test: views to hold renderings against.
        points: sparse points.
        colours: of the points.
        track_lengths: in how many photographs each point was found; None where nobody counted.
        truth: points on the true surface; None where nobody measured it.
    """

    train: tuple[Posed, ...]
    priors: tuple[Prior, ...]
    test: tuple[Posed, ...]
    points: Float[Tensor, "n 3"]
    colours: Float[Tensor, "n 3"]
    track_lengths: Int[Tensor, " n"] | None
    truth: Float[Tensor, "m 3"] | None

    def to(self, device: str) -> Inputs:
        """Return the inputs with what is fitted on a device; the truth stays where it is."""
        place = torch.device(device)

        def moved(views: tuple[Posed, ...]) -> tuple[Posed, ...]:
            return tuple(Posed(view.camera.to(place), view.image.to(place)) for view in views)

        priors = tuple(
            Prior(*(None if one is None else one.to(place) for one in prior)) for prior in self.priors
        )
        lengths = None if self.track_lengths is None else self.track_lengths.to(place)
        points, colours = self.points.to(place), self.colours.to(place)
        return Inputs(moved(self.train), priors, moved(self.test), points, colours, lengths, self.truth)


def of_room(room: Room) -> Inputs:
    """Return the inputs of a made room; depth priors are brought to 0 to 1, as networks for relative depth give."""
    train = tuple(Posed(view.exact.camera, view.exact.colour.float()) for view in room.train)
    priors = tuple(Prior(_unit_range(view.prior_depth), view.prior_normals) for view in room.train)
    test = tuple(Posed(view.camera, view.colour.float()) for view in room.test)
    cloud = room.cloud
    return Inputs(train, priors, test, cloud.points, cloud.colours, cloud.track_lengths, room.truth)


def of_capture(folder: Path, hold_out: int, longest: int | None = None, truth: Path | None = None) -> Inputs:
    """Read a user's capture: a COLMAP model with its images, priors beside them, and true points.

    Args:
        folder: with `sparse/0` and `images`; priors are `depth/NAME.npy` and `normal/NAME.npy` in it.
        hold_out: every so many photographs are kept for measuring; 0 for none.
        longest: pixels of the longer side that photographs are shrunk to; None keeps them.
        truth: PLY file with points on the true surface, in the model's frame and in metres.

    Raises:
        BadInputError: a folder that holds no capture, no sparse points, poses that see none of them, or files that
            cannot be read.
    """
    capture = load_capture(folder, None, Loading(longest=longest))
    kept, held = capture.split(hold_out)
    training = of_views(capture, kept)
    found = read_priors(training)
    priors = tuple(Prior(*pair) for pair in zip(found.depths, found.normals, strict=True))
    if not any(found.counts):
        raise BadInputError(
            f"{folder} has no priors: put depth/NAME.npy (H x W) or normal/NAME.npy (H x W x 3) beside its images"
        )
    points = None if truth is None else read_points(truth)[0]
    return Inputs(
        training.views,
        priors,
        of_views(capture, held).views if held else (),
        capture.points,
        capture.colours,
        capture.track_lengths,
        points,
    )


def save_inputs(inputs: Inputs, path: Path) -> None:
    """Write the inputs of a made room: photographs of one size, all with priors, tracks and truth.

    Raises:
        BadInputError: inputs of which something is missing.
    """
    stacked = {
        "points": inputs.points,
        "colours": inputs.colours,
        "track_lengths": inputs.track_lengths,
        "truth": inputs.truth,
        "prior_depths": _stack([prior.depth for prior in inputs.priors]),
        "prior_normals": _stack([prior.normals for prior in inputs.priors]),
    }
    for name, views in (("train", inputs.train), ("test", inputs.test)):
        stacked[f"{name}.images"] = _stack([view.image for view in views])
        stacked[f"{name}.viewmats"] = _stack([view.camera.viewmat for view in views])
        stacked[f"{name}.intrinsics"] = _stack([view.camera.intrinsics for view in views])
    missing = [name for name, tensor in stacked.items() if tensor is None]
    if missing:
        raise BadInputError(f"inputs of a made room have no {', '.join(missing)}")
    save_file({name: one.contiguous() for name, one in stacked.items() if one is not None}, path)


def load_inputs(path: Path) -> Inputs:
    """Read what `save_inputs` wrote."""
    tensors = load_file(path)

    def views(name: str) -> tuple[Posed, ...]:
        images = tensors[f"{name}.images"]
        height, width = images.shape[1:3]
        poses = zip(images, tensors[f"{name}.viewmats"], tensors[f"{name}.intrinsics"], strict=True)
        return tuple(
            Posed(Camera(viewmat, intrinsics, width, height, f"{name}_{at:03d}"), image)
            for at, (image, viewmat, intrinsics) in enumerate(poses)
        )

    priors = zip(tensors["prior_depths"], tensors["prior_normals"], strict=True)
    return Inputs(
        views("train"),
        tuple(Prior(depth, normals) for depth, normals in priors),
        views("test"),
        tensors["points"],
        tensors["colours"],
        tensors["track_lengths"],
        tensors["truth"],
    )


def _unit_range(depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    low, high = depth.min(), depth.max()
    return (depth - low) / (high - low)


def _stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
    whole = [one for one in tensors if one is not None]
    return torch.stack(whole) if whole and len(whole) == len(tensors) else None
