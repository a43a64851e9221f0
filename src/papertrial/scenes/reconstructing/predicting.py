"""Depth and normals that networks predict of a capture's views, kept so that they are asked once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from papertrial.scenes.marigold import MarigoldDepth, MarigoldNormals
from papertrial.scenes.monocular_priors import DepthEstimator, Estimator, keep_depths, keep_normals
from papertrial.scenes.reconstructing.capture import Capture
from papertrial.scenes.reconstructing.priors import Priors

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
