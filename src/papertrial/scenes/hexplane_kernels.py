"""The compiled kernels of a six-plane field: all planes of all scales in one walk over the points.

Layout: the cells of every plane lie row after row in one matrix, a cell's channels side by side, so that a sample
reads four short runs of memory. Plane (i, j) of a pair of axes has its rows along axis j and its columns along axis i;
`starts[scale, pair]` is its first cell. Coordinates lie within 0 and 1; what lies outside is taken to the border.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numba
import numpy as np

PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # xy, xz, xt, yz, yt, zt
_COLUMN_AXIS = np.array([pair[0] for pair in PAIRS])
_ROW_AXIS = np.array([pair[1] for pair in PAIRS])
_SIX = len(PAIRS)

_FAST = {"contract", "nsz", "arcp", "reassoc"}
_jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
# What every point calls is put in place: a call passes arrays by their eight parts, which costs more than its sums.
_in_place: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST, inline="always")


@_in_place
@no_type_check
def _locate(at: Any, point: int, sizes: Any, scale: int, cells: Any, shares: Any, slopes: Any) -> None:
    """Write the lower cell, the share of the upper one, and d share / d coordinate, for each of the four axes."""
    for axis in range(4):
        last = sizes[scale, axis] - 1
        place = at[point, axis] * at.dtype.type(last)
        slopes[axis] = last if 0 < place < last else 0
        place = min(max(place, at.dtype.type(0)), at.dtype.type(last))
        cells[axis] = min(int(place), last - 1)
        shares[axis] = place - at.dtype.type(cells[axis])


@_in_place
@no_type_check
def _take_samples(
    planes: Any, starts: Any, sizes: Any, scale: int, cells: Any, shares: Any, firsts: Any, samples: Any
) -> None:
    """Write the six bilinear samples of one scale, and the first cell that each of them reads."""
    one = planes.dtype.type(1)  # a plain 1 would take all of it to float64
    for pair in range(_SIX):
        i, j = _COLUMN_AXIS[pair], _ROW_AXIS[pair]
        low = starts[scale, pair] + cells[j] * sizes[scale, i] + cells[i]
        high = low + sizes[scale, i]
        firsts[pair] = low
        a, b = (one - shares[i]) * (one - shares[j]), shares[i] * (one - shares[j])
        c, d = (one - shares[i]) * shares[j], shares[i] * shares[j]
        for channel in range(planes.shape[1]):
            samples[pair, channel] = (
                a * planes[low, channel]
                + b * planes[low + 1, channel]
                + c * planes[high, channel]
                + d * planes[high + 1, channel]
            )


@_jit
@no_type_check
def sample(planes: Any, starts: Any, sizes: Any, at: Any, out: Any) -> None:
    """Write the product of six bilinear samples for every point, scale beside scale.

    Args:
        planes: cells, channels.
        starts: scales, 6.
        sizes: scales, 4: cells along x, y, z and t.
        at: points, 4: coordinates within 0 and 1.
        out: points, scales * channels.
    """
    channels = planes.shape[1]
    cells, shares, slopes = np.empty(4, np.int64), np.empty(4, at.dtype), np.empty(4, at.dtype)
    firsts, samples = np.empty(_SIX, np.int64), np.empty((_SIX, channels), planes.dtype)
    for point in range(at.shape[0]):
        for scale in range(starts.shape[0]):
            _locate(at, point, sizes, scale, cells, shares, slopes)
            _take_samples(planes, starts, sizes, scale, cells, shares, firsts, samples)
            for channel in range(channels):
                product = samples[0, channel]
                for pair in range(1, _SIX):
                    product *= samples[pair, channel]
                out[point, scale * channels + channel] = product


@_jit
@no_type_check
def sample_backward(
    planes: Any, starts: Any, sizes: Any, at: Any, grad: Any, to_planes: Any, to_at: Any
) -> None:
    """Add the gradients of planes and coordinates, given that of `sample`'s outcome.

    The samples are taken again: reading them anew costs less than having kept them.
    """
    channels = planes.shape[1]
    cells, shares, slopes = np.empty(4, np.int64), np.empty(4, at.dtype), np.empty(4, at.dtype)
    firsts, samples = np.empty(_SIX, np.int64), np.empty((_SIX, channels), planes.dtype)
    pushes, running = np.empty((_SIX, channels), planes.dtype), np.empty(channels, planes.dtype)
    for point in range(at.shape[0]):
        for scale in range(starts.shape[0]):
            _locate(at, point, sizes, scale, cells, shares, slopes)
            _take_samples(planes, starts, sizes, scale, cells, shares, firsts, samples)
            _part_the_product(samples, grad, point, scale * channels, running, pushes)
            for pair in range(_SIX):
                i, j = _COLUMN_AXIS[pair], _ROW_AXIS[pair]
                low = firsts[pair]
                high = low + sizes[scale, i]
                _add_to_coordinates(planes, low, high, pushes, pair, shares, slopes, i, j, to_at, point)
                _add_to_cells(low, high, pushes, pair, shares[i], shares[j], to_planes)


@_in_place
@no_type_check
def _part_the_product(samples: Any, grad: Any, point: int, base: int, running: Any, pushes: Any) -> None:
    """Write the gradient of each sample: that of the product times the other five. Zeros need no special case."""
    channels = samples.shape[1]
    for channel in range(channels):
        running[channel] = grad[point, base + channel]
    for pair in range(_SIX):
        for channel in range(channels):
            pushes[pair, channel] = running[channel]
            running[channel] *= samples[pair, channel]
    for channel in range(channels):
        running[channel] = samples[_SIX - 1, channel]
    for pair in range(_SIX - 2, -1, -1):
        for channel in range(channels):
            pushes[pair, channel] *= running[channel]
            running[channel] *= samples[pair, channel]


@_in_place
@no_type_check
def _add_to_coordinates(
    planes: Any,
    low: int,
    high: int,
    pushes: Any,
    pair: int,
    shares: Any,
    slopes: Any,
    i: int,
    j: int,
    to_at: Any,
    point: int,
) -> None:
    """Add one sample's share of the gradient of its two coordinates."""
    none, one = planes.dtype.type(0), planes.dtype.type(1)
    a, b, c, d = none, none, none, none
    for channel in range(planes.shape[1]):
        push = pushes[pair, channel]
        a += push * planes[low, channel]
        b += push * planes[low + 1, channel]
        c += push * planes[high, channel]
        d += push * planes[high + 1, channel]
    to_at[point, i] += slopes[i] * ((one - shares[j]) * (b - a) + shares[j] * (d - c))
    to_at[point, j] += slopes[j] * ((one - shares[i]) * (c - a) + shares[i] * (d - b))


@_in_place
@no_type_check
def _add_to_cells(
    low: int, high: int, pushes: Any, pair: int, share: float, up: float, to_planes: Any
) -> None:
    """Add one sample's gradient to its four cells; a loop for each, for loops that write once become vectors."""
    one = to_planes.dtype.type(1)
    a, b, c, d = (one - share) * (one - up), share * (one - up), (one - share) * up, share * up
    for channel in range(to_planes.shape[1]):
        to_planes[low, channel] += a * pushes[pair, channel]
    for channel in range(to_planes.shape[1]):
        to_planes[low + 1, channel] += b * pushes[pair, channel]
    for channel in range(to_planes.shape[1]):
        to_planes[high, channel] += c * pushes[pair, channel]
    for channel in range(to_planes.shape[1]):
        to_planes[high + 1, channel] += d * pushes[pair, channel]


@_jit
@no_type_check
def regularise(plane: Any, roughness: float, distance: float, to_plane: Any) -> float:
    """Return a plane's penalty and write its gradient.

    `roughness` weighs the mean of squared second differences from row to row, `distance` the mean distance from 1.

    Args:
        plane: rows, columns times channels.
        roughness: its weight.
        distance: its weight.
        to_plane: like `plane`; is written over.
    """
    rows, width = plane.shape
    total = 0.0
    near, one, two = plane.dtype.type(distance / (rows * width)), plane.dtype.type(1), plane.dtype.type(2)
    for row in range(rows):
        part = plane.dtype.type(0)
        for column in range(width):
            away = plane[row, column] - one
            part += abs(away)
            to_plane[row, column] = near * np.sign(away)
        total += distance / (rows * width) * part
    if rows < 3:
        return total
    weight = roughness / ((rows - 2) * width)
    twice = plane.dtype.type(2 * weight)
    for row in range(1, rows - 1):
        part = plane.dtype.type(0)
        for column in range(width):
            bend = plane[row - 1, column] - two * plane[row, column] + plane[row + 1, column]
            part += bend * bend
            push = twice * bend
            to_plane[row - 1, column] += push
            to_plane[row, column] -= two * push
            to_plane[row + 1, column] += push
        total += weight * part
    return total
