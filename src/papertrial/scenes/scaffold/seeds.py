"""From the sparse points of structure from motion to the places of anchors."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from papertrial.errors import BadInputError, unknown

LEAST_TRACK = 3  # photographs in which a point must have been found; the paper names no number
OUTLIER_NEIGHBOURS = 20
OUTLIER_SIGMAS = 2.0
_BEHAVIOURS = ("distance", "released")


def filter_tracks(lengths: Int[Tensor, " n"], least: int = LEAST_TRACK) -> Bool[Tensor, " n"]:
    """Return which points were found in at least so many photographs.

    Raises:
        BadInputError: a threshold below 1, or none of the points reaches it.

    Source: arXiv 2412.03428, equation 7; its threshold is not given.
    """
    if least < 1:
        raise BadInputError(f"a point is found in at least 1 photograph, got the threshold {least}")
    kept = lengths >= least
    if not bool(kept.any()):
        longest = int(lengths.max()) if len(lengths) else 0
        raise BadInputError(
            f"none of {len(lengths)} points was found in {least} photographs or more; the longest track has {longest}"
        )
    return kept


def remove_outliers(
    points: Float[Tensor, "n 3"], neighbours: int = OUTLIER_NEIGHBOURS, sigmas: float = OUTLIER_SIGMAS
) -> Bool[Tensor, " n"]:
    """Return which points stay where clouds have no tracks: those whose neighbours are not unusually far.

    A point goes if its mean distance to its nearest neighbours exceeds the mean of that over all points by more than
    so many standard deviations. A cloud that has no more points than neighbours uses all the others.

    Raises:
        BadInputError: fewer than two points, or a number of neighbours or sigmas that is not above 0.
    """
    if neighbours < 1 or sigmas <= 0:
        raise BadInputError(f"neighbours and sigmas must be above 0, got {neighbours} and {sigmas}")
    away = _distances(points, neighbours).mean(-1)
    return away <= away.mean() + sigmas * away.std(correction=0)


def voxelise(points: Float[Tensor, "n 3"], voxel: float) -> Float[Tensor, "m 3"]:
    """Return `unique(round(points / voxel)) * voxel`: one place for each cell that holds points, in cells' order.

    Cells are centred on multiples of the voxel and sorted by x, then y, then z; halves round to even.

    Raises:
        BadInputError: no points, points that are not finite, or a voxel that is not above 0.

    Source: arXiv 2412.03428, equation 8.
    """
    _check_points(points, 1)
    if not 0 < voxel < float("inf"):
        raise BadInputError(f"a voxel's edge must be above 0, got {voxel}")
    cells = torch.round(points.double() / voxel)
    return (cells.unique(dim=0) * voxel).to(points.dtype)


def nearest_distances(points: Float[Tensor, "n 3"], neighbours: int = 3) -> Float[Tensor, " n"]:
    """Return the root of each point's mean squared distance to its nearest neighbours, in the points' unit.

    Fewer neighbours are taken where there are not so many other points.

    Raises:
        BadInputError: fewer than two points, or points that are not finite.
    """
    return _distances(points, neighbours).square().mean(-1).sqrt().to(points.dtype)


def median_distance(points: Float[Tensor, "n 3"], behaviour: str = "distance") -> float:
    """Return the voxel for points that come without one: the median of `nearest_distances`.

    Args:
        points: of the sparse cloud.
        behaviour: "distance", or "released", which leaves out the root as Scaffold-GS's code does: it gives a squared
            length, so that the number of anchors depends on the unit the scene is measured in.

    Raises:
        BadInputError: fewer than two points, points that are not finite, most points in one place, or an unknown
            behaviour.

    Source: Scaffold-GS's released `gaussian_model.py`, whose order statistic (the lower median) is followed.
    """
    if behaviour not in _BEHAVIOURS:
        raise unknown("behaviour", behaviour, _BEHAVIOURS)
    distances = nearest_distances(points).double()
    middle = float(distances.sort().values[max(len(distances) // 2 - 1, 0)])
    if middle <= 0:
        raise BadInputError("most points lie in one place; give a voxel's edge above 0")
    return middle**2 if behaviour == "released" else middle


def _distances(points: Tensor, neighbours: int) -> Tensor:
    """Return the distances to the nearest other points (float64), one row a point."""
    _check_points(points, 2)
    places = points.detach().double().cpu().numpy()
    nearest = min(neighbours, len(places) - 1)
    found, _ = cKDTree(places).query(places, k=nearest + 1)
    return torch.from_numpy(found[:, 1:]).to(points.device)


def _check_points(points: Tensor, least: int) -> None:
    if len(points) < least:
        raise BadInputError(
            f"seeds come from the sparse points of structure from motion: at least {least} are needed, "
            f"got {len(points)}"
        )
    if not bool(torch.isfinite(points).all()):
        row = int((~torch.isfinite(points)).any(-1).nonzero()[0])
        raise BadInputError(f"point {row} is not finite: {points[row].tolist()}")
