"""Compiled loops of AWQ's searches: what torch does in a dozen passes over a weight, in one or two.

Every number is computed as the plain expressions in `grids` compute it, in the same order and in float32: the
results are the same bit for bit.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit


# Without NaN (weights are finite) and with one zero, least and largest values can be kept in vector registers.
@njit(nogil=True, fastmath={"nnan", "nsz"}, error_model="numpy", cache=True)
@no_type_check
def scaled_ranges(weight, scales, group, low, high, first, last):
    """Write the least and largest w · c of each group, both (rows, groups), for rows first … last."""
    for row in range(first, last):
        for number in range(low.shape[1]):
            values = weight[row, number * group : (number + 1) * group]
            columns = scales[number * group : (number + 1) * group]
            least = values[0] * columns[0]
            largest = least
            for j in range(group):
                value = values[j] * columns[j]
                least = min(least, value)
                largest = max(largest, value)
            low[row, number] = least
            high[row, number] = largest


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def round_scaled(weight, scales, grid_scale, grid_zero, levels, group, output, first, last):
    """Write Q(W · c) / c for rows first … last; grids (rows, groups)."""
    most = np.float32(levels)
    for row in range(first, last):
        for number in range(grid_scale.shape[1]):
            step = grid_scale[row, number]
            zero = grid_zero[row, number]
            values = weight[row, number * group : (number + 1) * group]
            columns = scales[number * group : (number + 1) * group]
            rounded = output[row, number * group : (number + 1) * group]
            for j in range(group):
                code = np.rint(values[j] * columns[j] / step) + zero
                code = min(max(code, np.float32(0)), most)
                rounded[j] = (code - zero) * step / columns[j]


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def clipped_changes(weight, limits, grid_scale, grid_zero, levels, output, first, last):
    """Write Q(clamp(W, ±limit)) − W for rows first … last, group by group: output (groups, rows, group)."""
    most = np.float32(levels)
    group = output.shape[2]
    for number in range(output.shape[0]):
        for row in range(first, last):
            step = grid_scale[row, number]
            zero = grid_zero[row, number]
            limit = limits[row, number]
            values = weight[row, number * group : (number + 1) * group]
            changes = output[number, row]
            for j in range(group):
                clipped = min(max(values[j], -limit), limit)
                code = np.rint(clipped / step) + zero
                code = min(max(code, np.float32(0)), most)
                changes[j] = (code - zero) * step - values[j]
