"""How near reconstructed points are to true ones, and how large a model is on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import save
from scipy.spatial import cKDTree
from torch import Tensor

from papertrial.errors import BadInputError

THRESHOLD = 0.05  # metres


class CloudScores(NamedTuple):
    """How two clouds of points compare.

    Attributes:
        accuracy: mean distance of a predicted point to the nearest true one, in the clouds' units; less is better.
        completeness: mean distance of a true point to the nearest predicted one; less is better.
        precision: share of predicted points with a true one nearer than the threshold.
        recall: share of true points with a predicted one nearer than the threshold.
        f_score: the harmonic mean of precision and recall; 0 where both are.
    """

    accuracy: float
    completeness: float
    precision: float
    recall: float
    f_score: float


def compare_clouds(
    predicted: Float[Tensor, "n 3"], truth: Float[Tensor, "m 3"], threshold: float = THRESHOLD
) -> CloudScores:
    """Return accuracy, completeness, precision, recall and F of predicted points.

    Args:
        predicted: points of the reconstruction.
        truth: points sampled on the true surface.
        threshold: below which a point counts as met; 5 cm where the clouds are in metres.

    Raises:
        BadInputError: an empty cloud, points that are not finite, or a threshold that is not above 0.

    Source: arXiv 2412.03428, table 3.
    """
    if threshold <= 0:
        raise BadInputError(f"the threshold is a distance above 0, got {threshold}")
    clouds = {"predicted": predicted, "true": truth}
    for name, points in clouds.items():
        if not len(points):
            raise BadInputError(f"there are no {name} points to compare")
        if not bool(torch.isfinite(points).all()):
            row = int((~torch.isfinite(points)).any(-1).nonzero()[0])
            raise BadInputError(f"{name} point {row} is not finite: {points[row].tolist()}")
    ours, theirs = (points.detach().double().cpu().numpy() for points in clouds.values())
    to_truth, _ = cKDTree(theirs).query(ours)
    to_predicted, _ = cKDTree(ours).query(theirs)
    precision, recall = float((to_truth < threshold).mean()), float((to_predicted < threshold).mean())
    both = precision + recall
    f_score = 2 * precision * recall / both if both else 0.0
    return CloudScores(float(to_truth.mean()), float(to_predicted.mean()), precision, recall, f_score)


def model_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes a safetensors file of these tensors has; a megabyte is 1e6 of them."""
    return len(save({name: tensor.detach().contiguous() for name, tensor in tensors.items()}))


def file_bytes(path: Path) -> int:
    """Return the size of a model's file.

    Raises:
        BadInputError: there is no such file.
    """
    if not path.is_file():
        raise BadInputError(f"there is no model file {path}")
    return path.stat().st_size
