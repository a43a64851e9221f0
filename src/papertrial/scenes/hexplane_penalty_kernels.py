"""The compiled kernels of a six-plane field's regularisers: all planes of all scales in one walk over the cells."""

from __future__ import annotations

from typing import Any, no_type_check

import numba
import numpy as np

from papertrial.scenes.hexplane_kernels import FAST, PAIRS

_COLUMN_AXIS = np.array([pair[0] for pair in PAIRS])
_ROW_AXIS = np.array([pair[1] for pair in PAIRS])
_SIX, _TIME = len(PAIRS), 3
_jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
_in_place: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, inline="always")


@_jit
@no_type_check
def regularise(
    planes: Any, starts: Any, sizes: Any, variation: float, smoothness: float, distance: float
) -> float:
    """Return the penalty of all planes of all scales.

    Args:
        planes: cells, channels.
        starts: scales, 6.
        sizes: scales, 4.
        variation: weighs the mean of squared second differences from row to row in planes of two places.
        smoothness: weighs the same in planes of a place and time.
        distance: weighs the mean distance from 1 in planes of a place and time.
    """
    total = 0.0
    for scale in range(starts.shape[0]):
        for pair in range(_SIX):
            plane = _plane(planes, starts, sizes, scale, pair)
            if _ROW_AXIS[pair] == _TIME:
                total += _penalty(plane, smoothness, distance)
            else:
                total += _penalty(plane, variation, 0.0)
    return total


@_jit
@no_type_check
def regularise_backward(
    planes: Any,
    starts: Any,
    sizes: Any,
    variation: float,
    smoothness: float,
    distance: float,
    push: float,
    to_planes: Any,
) -> None:
    """Add the gradient of `regularise`, times `push`."""
    for scale in range(starts.shape[0]):
        for pair in range(_SIX):
            plane = _plane(planes, starts, sizes, scale, pair)
            to_plane = _plane(to_planes, starts, sizes, scale, pair)
            if _ROW_AXIS[pair] == _TIME:
                _push_penalty(plane, smoothness, distance, push, to_plane)
            else:
                _push_penalty(plane, variation, 0.0, push, to_plane)


@_in_place
@no_type_check
def _plane(planes: Any, starts: Any, sizes: Any, scale: int, pair: int) -> Any:
    """Return a plane: rows, columns times channels."""
    rows, columns = sizes[scale, _ROW_AXIS[pair]], sizes[scale, _COLUMN_AXIS[pair]]
    first = starts[scale, pair]
    return planes[first : first + rows * columns].reshape(rows, columns * planes.shape[1])


@_jit
@no_type_check
def _penalty(plane: Any, roughness: float, distance: float) -> float:
    rows, width = plane.shape
    none, one, two = plane.dtype.type(0), plane.dtype.type(1), plane.dtype.type(2)
    away, bent = 0.0, 0.0
    for row in range(rows):
        part = none
        if distance:
            for column in range(width):
                part += abs(plane[row, column] - one)
        away += part
        part = none
        if 0 < row < rows - 1:
            for column in range(width):
                bend = plane[row - 1, column] - two * plane[row, column] + plane[row + 1, column]
                part += bend * bend
        bent += part
    return distance * away / (rows * width) + roughness * bent / max((rows - 2) * width, 1)


@_jit
@no_type_check
def _push_penalty(plane: Any, roughness: float, distance: float, push: float, to_plane: Any) -> None:
    """Add one plane's gradient; second differences go along, so that every row is written once."""
    rows, width = plane.shape
    none, one, two = plane.dtype.type(0), plane.dtype.type(1), plane.dtype.type(2)
    near = plane.dtype.type(push * distance / (rows * width))
    twice = plane.dtype.type(2 * push * roughness / max((rows - 2) * width, 1))
    bends = np.zeros((3, width), plane.dtype)  # of the row before, this one and the next; none at the ends
    for row in range(rows):
        before, here, after = bends[(row + 2) % 3], bends[row % 3], bends[(row + 1) % 3]
        if row + 2 < rows:
            for column in range(width):
                after[column] = plane[row, column] - two * plane[row + 1, column] + plane[row + 2, column]
        else:
            after[:] = none
        for column in range(width):
            to_plane[row, column] += twice * (before[column] - two * here[column] + after[column])
        if distance:
            for column in range(width):
                away = plane[row, column] - one
                to_plane[row, column] += near if away > none else (-near if away < none else none)
