"""The compiled kernels of depth maps: their normals, with an analytic gradient, and their fusion in a volume."""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numba
import numpy as np

_jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
_in_place: Any = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")


@_in_place
@no_type_check
def _place(depth: Any, turn: Any, row: int, column: int, offset: float, place: Any) -> None:
    """Write a pixel's point, seen from the camera's centre but in the world's axes."""
    x, y, z = column + offset, row + offset, depth[row, column]
    for axis in range(3):
        place[axis] = z * (turn[axis, 0] * x + turn[axis, 1] * y + turn[axis, 2])


@_in_place
@no_type_check
def _differences(
    depth: Any, turn: Any, row: int, column: int, offset: float, first: Any, down: Any, across: Any
) -> None:
    """Write the central differences of a pixel's neighbours, along its column and along its row."""
    _place(depth, turn, row + 1, column, offset, down)
    _place(depth, turn, row - 1, column, offset, first)
    down -= first
    _place(depth, turn, row, column + 1, offset, across)
    _place(depth, turn, row, column - 1, offset, first)
    across -= first


@_in_place
@no_type_check
def _cross(one: Any, two: Any, out: Any) -> None:
    out[0] = one[1] * two[2] - one[2] * two[1]
    out[1] = one[2] * two[0] - one[0] * two[2]
    out[2] = one[0] * two[1] - one[1] * two[0]


@_jit
@no_type_check
def normals(depth: Any, turn: Any, offset: float, least: float, out: Any) -> None:
    """Write the unit normals of the inner pixels.

    Args:
        depth: height, width.
        turn: 3 x 3, from (x, y, 1) in pixels to the world's direction at depth 1.
        offset: of a pixel's place.
        least: length by which a shorter cross product is divided.
        out: height, width, 3; its border stays as it is.
    """
    first, down, across, cross = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for row in range(1, depth.shape[0] - 1):
        for column in range(1, depth.shape[1] - 1):
            _differences(depth, turn, row, column, offset, first, down, across)
            _cross(down, across, cross)
            length = max(math.sqrt(cross[0] ** 2 + cross[1] ** 2 + cross[2] ** 2), least)
            for axis in range(3):
                out[row, column, axis] = cross[axis] / length


@_in_place
@no_type_check
def _give(turn: Any, row: int, column: int, offset: float, gradient: Any, sign: float, out: Any) -> None:
    """Add what a point's gradient says to the depth of its pixel."""
    x, y, total = column + offset, row + offset, 0.0
    for axis in range(3):
        total += gradient[axis] * (turn[axis, 0] * x + turn[axis, 1] * y + turn[axis, 2])
    out[row, column] += sign * total


@_jit
@no_type_check
def normals_backward(depth: Any, turn: Any, offset: float, least: float, gradient: Any, out: Any) -> None:
    """Add to `out` (height, width) the gradient of the depth, from that of its normals (height, width, 3)."""
    first, down, across, cross = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    to_cross, to_down, to_across = np.empty(3), np.empty(3), np.empty(3)
    for row in range(1, depth.shape[0] - 1):
        for column in range(1, depth.shape[1] - 1):
            _differences(depth, turn, row, column, offset, first, down, across)
            _cross(down, across, cross)
            length = math.sqrt(cross[0] ** 2 + cross[1] ** 2 + cross[2] ** 2)
            along = 0.0
            if length >= least:
                for axis in range(3):
                    along += gradient[row, column, axis] * cross[axis] / length
            for axis in range(3):
                straight = along * cross[axis] / max(length, least)
                to_cross[axis] = (gradient[row, column, axis] - straight) / max(length, least)
            _cross(across, to_cross, to_down)
            _cross(to_cross, down, to_across)
            _give(turn, row + 1, column, offset, to_down, 1.0, out)
            _give(turn, row - 1, column, offset, to_down, -1.0, out)
            _give(turn, row, column + 1, offset, to_across, 1.0, out)
            _give(turn, row, column - 1, offset, to_across, -1.0, out)


@_jit
@no_type_check
def fuse(
    depth: Any,
    way: Any,
    low: Any,
    voxel: float,
    truncation: float,
    farthest: float,
    distance: Any,
    weight: Any,
) -> None:
    """Add one depth map to the voxels of a box: truncated distances, and how many maps gave one.

    Args:
        depth: height, width; 0 where nothing was seen.
        way: 3 x 4, the camera's matrix times its rotation and shift: pixels, times depth.
        low: centre of the first voxel.
        voxel: edge.
        truncation: distance that counts 1.
        farthest: depth beyond which nothing is fused.
        distance: x, y, z, summed.
        weight: x, y, z, counted.
    """
    height, width = depth.shape
    ends = distance.shape
    for i in range(ends[0]):
        for j in range(ends[1]):
            x, y = low[0] + voxel * i, low[1] + voxel * j
            across = way[0, 0] * x + way[0, 1] * y + way[0, 3]
            down = way[1, 0] * x + way[1, 1] * y + way[1, 3]
            ahead = way[2, 0] * x + way[2, 1] * y + way[2, 3]
            for k in range(ends[2]):
                z = low[2] + voxel * k
                deep = ahead + way[2, 2] * z
                if deep <= 0:
                    continue
                column = math.floor((across + way[0, 2] * z) / deep)
                row = math.floor((down + way[1, 2] * z) / deep)
                if column < 0 or column >= width or row < 0 or row >= height:
                    continue
                seen = depth[int(row), int(column)]
                share = (seen - deep) / truncation
                if 0 < seen <= farthest and share > -1:
                    distance[i, j, k] += min(share, 1.0)
                    weight[i, j, k] += 1
