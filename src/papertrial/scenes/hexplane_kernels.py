"""The compiled kernels of a six-plane field: all planes of all scales in one walk over the points.

Layout: the cells of every plane lie row after row in one matrix, a cell's channels side by side, so that a sample
reads four short runs of memory. Plane (i, j) of a pair of axes has its rows along axis j and its columns along axis i;
`starts[scale, pair]` is its first cell. Coordinates lie within 0 and 1; what lies outside is taken to the border.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # xy, xz, xt, yz, yt, zt
_COLUMN_AXIS = np.array([pair[0] for pair in PAIRS])
_ROW_AXIS = np.array([pair[1] for pair in PAIRS])
_SIX = len(PAIRS)

FAST = {"contract", "nsz", "arcp", "reassoc"}
_jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
# What every point calls is put in place: a call passes arrays by their eight parts, which costs more than its sums.
_in_place: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST, inline="always")


_LINE = 64  # bytes that a processor fetches at once


@intrinsic
@no_type_check
def _fetch(typing: Any, array: Any, row: Any, byte: Any) -> Any:
    """Ask for a place in a row of a matrix before it is written to, and do not wait for it."""

    def build(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        held = context.make_array(signature.args[0])(context, builder, given[0])
        row_, byte_ = (
            context.cast(builder, one, kind, types.intp)
            for one, kind in zip(given[1:], signature.args[1:], strict=True)
        )
        wide = builder.extract_value(held.strides, 0)
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.gep(
            builder.bitcast(held.data, pointer), [builder.add(builder.mul(row_, wide), byte_)]
        )
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        builder.call(fetch, [place, number(1), number(3), number(1)])  # to write, keep near, data
        return context.get_dummy_value()

    return types.void(array, row, byte), build


@_in_place
@no_type_check
def _locate(at: Any, point: int, sizes: Any, scale: int, cells: Any, shares: Any, slopes: Any) -> None:
    """Write the lower cell, the share of the upper one, and d share / d coordinate, for each of the four axes.

    A coordinate that is no number is taken to the lower border, as `grid_sample` does: no cell lies outside.
    """
    for axis in range(4):
        last = sizes[scale, axis] - 1
        place = at[point, axis] * at.dtype.type(last)
        slopes[axis] = last if 0 < place < last else 0
        if not place > 0:  # a maximum would keep what is no number
            place = at.dtype.type(0)
        place = min(place, at.dtype.type(last))
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
def sample(planes: Any, starts: Any, sizes: Any, scale: int, at: Any, out: Any) -> None:
    """Write the product of six bilinear samples of one scale for every point, into that scale's columns.

    Args:
        planes: cells, channels.
        starts: scales, 6.
        sizes: scales, 4: cells along x, y, z and t.
        scale: which of them.
        at: points, 4: coordinates within 0 and 1.
        out: points, scales * channels.
    """
    channels = planes.shape[1]
    cells, shares, slopes = np.empty(4, np.int64), np.empty(4, at.dtype), np.empty(4, at.dtype)
    firsts, samples = np.empty(_SIX, np.int64), np.empty((_SIX, channels), planes.dtype)
    for point in range(at.shape[0]):
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
    planes: Any, starts: Any, sizes: Any, scale: int, at: Any, grad: Any, to_planes: Any, to_at: Any
) -> None:
    """Add the gradients of one scale's planes and of the coordinates, given that of `sample`'s outcome.

    The samples are taken again: reading them anew costs less than having kept them. Cells of the gradient are asked
    for ahead of the sums that are added to them, for large planes fill no cache.
    """
    channels = planes.shape[1]
    wide = channels * planes.itemsize
    cells, shares, slopes = np.empty(4, np.int64), np.empty(4, at.dtype), np.empty(4, at.dtype)
    firsts, samples = np.empty(_SIX, np.int64), np.empty((_SIX, channels), planes.dtype)
    pushes, running = np.empty((_SIX, channels), planes.dtype), np.empty(channels, planes.dtype)
    for point in range(at.shape[0]):
        _locate(at, point, sizes, scale, cells, shares, slopes)
        _take_samples(planes, starts, sizes, scale, cells, shares, firsts, samples)
        for pair in range(_SIX):
            high = firsts[pair] + sizes[scale, _COLUMN_AXIS[pair]]
            for byte in range(0, wide, _LINE):
                _fetch(to_planes, firsts[pair], byte)
                _fetch(to_planes, firsts[pair] + 1, byte)
                _fetch(to_planes, high, byte)
                _fetch(to_planes, high + 1, byte)
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
