"""Guesses of depth and normals from one image: networks that are plugged in, checked, and asked once an image.

An estimator is any callable from an image (H x W x 3 within 0 and 1) to a map of its size: depth (H x W, larger is
farther) or normals (H x W x 3, of length 1 in the camera's frame: x right, y down, z forward, facing the camera).
`DepthEstimator` wraps the networks of transformers, `papertrial.scenes.marigold` those of diffusers. `keep_depths` and
`keep_normals` write what an estimator says beside a capture, where `apply reconstruct` finds it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError

Estimator = Callable[[Tensor], Tensor]

LEAST_DISPARITY = 0.02  # of the greatest: what is farther than 50 times the nearest counts as that far
_UNIT_SLACK = 0.02  # that a normal's length may differ from 1: half-precision networks say no better
_RECORD = "estimator.json"


def disparity_to_depth(disparity: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Return relative depth from relative disparity, between 1 (nearest) and 50 (as far as anything counts).

    Networks say disparity up to a scale and a shift, so near 0, and below it, it says nothing but "far": everything
    under a fiftieth of the greatest is set to that, which keeps the inverse finite.

    Raises:
        BadInputError: no disparity is positive.
    """
    greatest = disparity.max()
    if not float(greatest) > 0:
        raise BadInputError(
            f"no disparity is above 0 (the greatest is {float(greatest):.4g}): nothing is near"
        )
    return greatest / disparity.clamp(min=LEAST_DISPARITY * float(greatest))


def checked_depth(depth: Tensor, image: Float[Tensor, "h w 3"], name: str) -> Float[Tensor, "h w"]:
    """Return an estimator's depth (float32, on the CPU), if it is a depth map of the image.

    Raises:
        BadInputError: another shape, values that are not finite or negative, or one value everywhere.
    """
    depth = depth.detach().float().cpu()
    if depth.shape != image.shape[:2]:
        raise BadInputError(f"{name} gave depth of shape {tuple(depth.shape)}, the image has {_size(image)}")
    _check_finite(depth, name)
    low, high = float(depth.min()), float(depth.max())
    if low < 0:
        raise BadInputError(
            f"{name} gave depths down to {low:.4g}; a depth is at least 0 and larger when farther"
        )
    if low == high:
        raise BadInputError(f"{name} gave the depth {low:.4g} everywhere")
    return depth


def checked_normals(normals: Tensor, image: Float[Tensor, "h w 3"], name: str) -> Float[Tensor, "h w 3"]:
    """Return an estimator's normals (float32, on the CPU, exactly of length 1), if they are a normal map of the image.

    Zeros mean that there is no normal.

    Raises:
        BadInputError: another shape, values that are not finite, lengths other than 1 and 0, or most of the normals
            facing away from the camera, as they do where z points at the viewer.
    """
    normals = normals.detach().float().cpu()
    if normals.shape != image.shape:
        raise BadInputError(
            f"{name} gave normals of shape {tuple(normals.shape)}, the image has {_size(image)} x 3"
        )
    _check_finite(normals, name)
    lengths = normals.norm(dim=-1)
    known = lengths > 0
    wrong = known & ((lengths - 1).abs() > _UNIT_SLACK)
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        raise BadInputError(
            f"{name} gave a normal of length {float(lengths[row, column]):.4g} at row {row}, column {column}; "
            "normals have length 1, or 0 where there is none"
        )
    if int((normals[..., 2] > 0).sum()) > int(known.sum()) / 2:
        raise BadInputError(
            f"{name} gave normals that mostly face away from the camera; in its frame (x right, y down, z forward) "
            "visible surfaces have z below 0"
        )
    return torch.where(known[..., None], normals / lengths.clamp(min=0.5)[..., None], 0.0)


def keep_depths(images: Iterable[tuple[str, Tensor]], estimator: Estimator, folder: Path) -> int:
    """Write `folder/depth/NAME.npy` (float32, H x W) for every image that has none, and return how many were made.

    Maps that lie there already are kept: a run that was interrupted goes on, and maps of other makers may be put there
    by hand. A record says which estimator made them.

    Args:
        images: names, as of files below the capture's folder, and images H x W x 3 within 0 and 1.
        estimator: see the module.
        folder: the capture's.

    Raises:
        BadInputError: a name that leaves the folder, maps that lie there from another estimator, or an estimator that
            gives no depth.
    """
    return _keep("depth", images, estimator, folder, checked_depth)


def keep_normals(images: Iterable[tuple[str, Tensor]], estimator: Estimator, folder: Path) -> int:
    """Write `folder/normal/NAME.npy` (float32, H x W x 3), as `keep_depths` does for depth.

    Raises:
        BadInputError: as there; or an estimator that gives no normals.
    """
    return _keep("normal", images, estimator, folder, checked_normals)


@dataclass(frozen=True)
class DepthEstimator:
    """A network of transformers that says depth from one image.

    Attributes:
        name: what it was loaded from.
        model: the network.
        prepare: turns an image into what the network takes, on its device.
        finish: turns the network's output into a map of a size (height, width).
        disparity: whether that map is disparity, up to a scale and a shift; otherwise it is depth.
        metric: whether the depth is in metres.
    """

    name: str
    model: Any
    prepare: Callable[[Tensor], Any]
    finish: Callable[[Any, tuple[int, int]], Tensor]
    disparity: bool
    metric: bool

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        gives: str | None = None,
    ) -> DepthEstimator:
        """Load Depth Anything (1, 2; relative or metric), DPT/MiDaS, ZoeDepth, Depth Pro or GLPN.

        Args:
            name: a folder written by `save_pretrained`, or a hub id (from the cache where the hub is out of reach).
            device: where the network goes.
            dtype: of its weights.
            gives: "disparity" or "depth" (in metres), where the network's class says something else than its weights:
                DPT gives disparity, but those that were trained on NYU or KITTI alone (facebook/dpt-dinov2-…-nyu)
                give depth.

        Raises:
            BadInputError: no such folder or id, a checkpoint that lacks weights, or a network of another kind.
        """
        from papertrial.scenes.depth_networks import load_network

        return cls(str(name), *load_network(str(name), torch.device(device), dtype, gives))

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
        """Return the image's depth: in metres where `metric`, otherwise relative (1 is nearest).

        Raises:
            BadInputError: an image that is not within 0 and 1, or a network that says no depth of it.
        """
        check_image(image)
        output = self.model(**self.prepare(image))
        map_ = self.finish(output, (image.shape[0], image.shape[1])).float().cpu()
        _check_finite(map_, self.name)
        depth = disparity_to_depth(map_) if self.disparity else map_.clamp(min=0)
        return checked_depth(depth, image, self.name)


def check_image(image: Tensor) -> None:
    """Raise for what no estimator can look at.

    Raises:
        BadInputError: values outside 0 to 1 or not finite, or no pixels.
    """
    if image.numel() == 0:
        raise BadInputError(f"an image of shape {tuple(image.shape)} has no pixels")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise BadInputError(f"an image lies within 0 and 1, its values go from {low:.4g} to {high:.4g}")


def _keep(
    kind: str,
    images: Iterable[tuple[str, Tensor]],
    estimator: Estimator,
    folder: Path,
    checked: Callable[[Tensor, Tensor, str], Tensor],
) -> int:
    who = str(
        getattr(estimator, "name", None) or getattr(estimator, "__qualname__", type(estimator).__qualname__)
    )
    root = folder / kind
    made = 0
    for name, image in images:
        path = _inside(root, name)
        if path is None:
            continue
        if not made:
            _record(root, who, kind)
        check_image(image)
        _write(path, checked(estimator(image), image, f"{who}, asked about image {name!r},").numpy())
        made += 1
    return made


def _inside(root: Path, name: str) -> Path | None:
    """Return the file of an image's map; None where there is one, also under the name without the image's suffix."""
    given = PurePosixPath(name)
    if given.is_absolute() or ".." in given.parts or not given.name:
        raise BadInputError(f"an image's map lies below {root}, its name {name!r} leads elsewhere")
    path = root / f"{name}.npy"
    return None if path.exists() or (root / given.with_suffix(".npy")).exists() else path


def _record(root: Path, who: str, kind: str) -> None:
    """Write who makes the maps of a folder, or see that it was the same before."""
    path = root / _RECORD
    if not path.is_file():
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"estimator": who}), encoding="utf-8")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["estimator"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{path} is damaged: {error}; remove {root} to have its maps made anew"
        ) from error
    if before != who:
        raise BadInputError(
            f"{root} holds maps by {before}, now {who} is asked for the rest; remove the folder to have all {kind} "
            "maps made anew"
        )


def _write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".half-{secrets.token_hex(6)}-{path.name}")
    try:
        with half.open("xb") as file:
            np.save(file, values, allow_pickle=False)
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def _check_finite(values: Tensor, name: str) -> None:
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise BadInputError(f"{name} gave {bad} numbers that are not finite")


def _size(image: Tensor) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"
