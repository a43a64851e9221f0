"""Depth and normals that networks predict of a capture's photographs, kept so that they are asked once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.colmap.photographs import read_image
from papertrial.scenes.marigold import MarigoldDepth, MarigoldNormals
from papertrial.scenes.monocular_priors import DepthEstimator, Estimator, keep_depths, keep_normals
from papertrial.scenes.reconstructing.capture import IMAGE_FOLDERS, Capture, of_views
from papertrial.scenes.reconstructing.priors import Priors
from papertrial.scenes.reconstructing.structure_from_motion import image_files

_PIPELINE = "model_index.json"  # that every pipeline's folder has


def predict_priors(
    capture: Capture,
    folder: Path,
    *,
    depth_model: str | None,
    normal_model: str | None,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda what: None,
) -> Priors:
    """Ask networks about every view, and keep what they say in a folder.

    Args:
        capture: whose views are looked at, shrunk and undistorted as they are.
        folder: where maps are kept; those that are there already are not made again.
        depth_model: hub id or folder of a network of transformers, or of Marigold; None for no depth.
        normal_model: hub id or folder of Marigold; None for no normals.
        device: where the networks run.
        tell: is told what is being done.

    Raises:
        BadInputError: a network that cannot be loaded, or says nothing useful of a view.
        MissingExtraError: a library that the network needs is missing.
    """
    none: tuple[Tensor | None, ...] = (None,) * len(capture.views)
    depths = normals = none
    if depth_model is not None:
        tell("predicting depth")
        depths = _kept(capture, _depth_estimator(depth_model, device), folder, "depth")
    if normal_model is not None:
        tell("predicting normals")
        normals = _kept(capture, MarigoldNormals.load(normal_model, device=device), folder, "normal")
    return Priors(
        depths, normals, " and ".join(one for one in (depth_model, normal_model) if one is not None)
    )


def complete_priors(
    found: Priors,
    capture: Capture,
    folder: Path,
    *,
    depth_model: str | None,
    normal_model: str | None,
    device: str = "cpu",
) -> Priors:
    """Return the priors that lie beside a capture, and a network's where an image has none.

    Args:
        found: as `read_priors` gives them.
        capture: whose priors they are.
        folder: where predicted maps are kept.
        depth_model: see `predict_priors`; it is asked about images without a depth, and not loaded where all have one.
        normal_model: likewise, about images without normals.
        device: where the networks run.

    Raises:
        BadInputError: see `predict_priors`.
        MissingExtraError: see `predict_priors`.
    """

    def ask(places: list[int], depth: str | None, normals: str | None) -> Priors:
        views = of_views(capture, places)
        return predict_priors(views, folder, depth_model=depth, normal_model=normals, device=device)

    depths, asked_depths = _filled(
        found.depths, depth_model, lambda places: ask(places, depth_model, None).depths
    )
    normals, asked_normals = _filled(
        found.normals, normal_model, lambda places: ask(places, None, normal_model).normals
    )
    files = any(found.counts)
    parts = ["files"] if files else []
    for model, kind, asked in (
        (depth_model, "depth", asked_depths),
        (normal_model, "normals", asked_normals),
    ):
        if model is not None:
            parts.append(f"{model} ({kind} of {asked})" if files else model)
    return Priors(depths, normals, " and ".join(parts) or found.origin)


def _filled(
    maps: tuple[Tensor | None, ...],
    model: str | None,
    predict: Callable[[list[int]], tuple[Tensor | None, ...]],
) -> tuple[tuple[Tensor | None, ...], int]:
    """Return maps with predicted ones in the places that have none, and how many were predicted."""
    empty = [at for at, one in enumerate(maps) if one is None] if model is not None else []
    if not empty:
        return maps, 0
    made = dict(zip(empty, predict(empty), strict=True))
    return tuple(made.get(at, one) for at, one in enumerate(maps)), len(empty)


def write_priors(
    folder: Path,
    *,
    depth_model: str | None = None,
    normal_model: str | None = None,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda what: None,
) -> tuple[int, int]:
    """Write `depth/NAME.npy` and `normal/NAME.npy` beside photographs, and return how many of each were made.

    That is where `read_priors` finds them. The photographs are shown to the networks as they were taken, in their full
    size. Those that have maps already are left out, so that an interrupted run goes on.

    Args:
        folder: of the capture, with the photographs in its `images` (or `input`, `rgb`), or in itself.
        depth_model: hub id or folder of a network of transformers, or of Marigold; None for no depth.
        normal_model: hub id or folder of Marigold; None for no normals.
        device: where the networks run.
        tell: is told what is being done.

    Raises:
        BadInputError: no network, no photographs, ones that cannot be read, or what `predict_priors` raises.
        MissingExtraError: a library that the network needs is missing.
    """
    if depth_model is None and normal_model is None:
        raise BadInputError("name a network to ask: depth_model, normal_model, or both")
    images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), folder)
    names = image_files(images) if images.is_dir() else []
    if not names:
        raise BadInputError(f"there are no photographs in {images}")
    made = [0, 0]
    if depth_model is not None:
        tell("predicting depth")
        estimator = _depth_estimator(depth_model, device)
        made[0] = keep_depths(((name, read_image(images / name)) for name in names), estimator, folder)
    if normal_model is not None:
        tell("predicting normals")
        normals = MarigoldNormals.load(normal_model, device=device)
        made[1] = keep_normals(((name, read_image(images / name)) for name in names), normals, folder)
    return made[0], made[1]


def _depth_estimator(name: str, device: str) -> Estimator:
    """Return a pipeline of diffusers where the name is one's, else a network of transformers."""
    if "marigold" in name.lower() or (Path(name) / _PIPELINE).is_file():
        return MarigoldDepth.load(name, device=device)
    return DepthEstimator.load(name, device=device)


def _kept(capture: Capture, estimator: Estimator, folder: Path, kind: str) -> tuple[Tensor | None, ...]:
    keep = keep_depths if kind == "depth" else keep_normals
    keep(((view.camera.name, view.image) for view in capture.views), estimator, folder)
    arrays = [np.load(folder / kind / f"{view.camera.name}.npy") for view in capture.views]
    return tuple(torch.from_numpy(array) for array in arrays)
