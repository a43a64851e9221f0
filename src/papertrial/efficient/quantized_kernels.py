"""Compiled loops of the packed product y = x Wᵀ: codes are read as bytes and never written out as floats.

One row of the weight at a time: Σ_j s·(q_j − z)·x_j = s·(Σ_j q_j·x_j − z·Σ_j x_j) over each group. The inputs
come in planes, so that neighbouring bytes meet neighbouring inputs and the compiler can use vector registers:
plane k holds inputs k, k + p, k + 2p, … where p codes share a run of bytes (4 bits: p = 2; 3 bits: p = 8).
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # infinities and NaN stay exact

# numba computes with 64 bits, which the processor turns into floats one by one: results are cut to 32 at once.
_TWO, _THREE, _FOUR, _SIX, _SEVEN, _FIFTEEN = (np.int32(value) for value in (2, 3, 4, 6, 7, 15))

INPUTS_A_RUN = {2: 4, 3: 8, 4: 2, 8: 1}
"""How many codes share a run of whole bytes, by width."""


@njit(nogil=True, fastmath=_FAST, error_model="numpy", cache=True)
@no_type_check
def product_4(planes, sums, packed, scales, zeros, output, first, last):
    """Write rows first … last of one output vector; planes (2, in / 2), sums (groups,)."""
    groups = sums.shape[0]
    width = packed.shape[1] // groups
    even = planes[0]
    odd = planes[1]
    for row in range(first, last):
        total = np.float32(0)
        codes = packed[row]
        for group in range(groups):
            low = np.float32(0)
            start = group * width
            for j in range(start, start + width):
                byte = np.int32(codes[j])
                low += (
                    np.float32(np.int32(byte & _FIFTEEN)) * even[j]
                    + np.float32(np.int32(byte >> _FOUR)) * odd[j]
                )
            total += scales[row, group] * (low - np.float32(zeros[row, group]) * sums[group])
        output[row] = total


@njit(nogil=True, fastmath=_FAST, error_model="numpy", cache=True)
@no_type_check
def product_2(planes, sums, packed, scales, zeros, output, first, last):
    """Write rows first … last of one output vector; planes (4, in / 4), sums (groups,)."""
    groups = sums.shape[0]
    width = packed.shape[1] // groups
    x0 = planes[0]
    x1 = planes[1]
    x2 = planes[2]
    x3 = planes[3]
    for row in range(first, last):
        total = np.float32(0)
        codes = packed[row]
        for group in range(groups):
            part = np.float32(0)
            start = group * width
            for j in range(start, start + width):
                byte = np.int32(codes[j])
                part += (
                    np.float32(np.int32(byte & _THREE)) * x0[j]
                    + np.float32(np.int32(byte >> _TWO & _THREE)) * x1[j]
                    + np.float32(np.int32(byte >> _FOUR & _THREE)) * x2[j]
                    + np.float32(np.int32(byte >> _SIX)) * x3[j]
                )
            total += scales[row, group] * (part - np.float32(zeros[row, group]) * sums[group])
        output[row] = total


@njit(nogil=True, fastmath=_FAST, error_model="numpy", cache=True)
@no_type_check
def product_3(planes, sums, packed, scales, zeros, output, first, last):
    """Write rows first … last of one output vector; planes (8, in / 8), three bytes for eight codes."""
    groups = sums.shape[0]
    runs = packed.shape[1] // 3 // groups
    for row in range(first, last):
        total = np.float32(0)
        codes = packed[row]
        for group in range(groups):
            part = np.float32(0)
            start = group * runs
            for j in range(start, start + runs):
                word = (
                    np.int32(codes[3 * j])
                    | np.int32(codes[3 * j + 1]) << np.int32(8)
                    | np.int32(codes[3 * j + 2]) << np.int32(16)
                )
                part += (
                    np.float32(np.int32(word & _SEVEN)) * planes[0, j]
                    + np.float32(np.int32(word >> np.int32(3) & _SEVEN)) * planes[1, j]
                    + np.float32(np.int32(word >> np.int32(6) & _SEVEN)) * planes[2, j]
                    + np.float32(np.int32(word >> np.int32(9) & _SEVEN)) * planes[3, j]
                    + np.float32(np.int32(word >> np.int32(12) & _SEVEN)) * planes[4, j]
                    + np.float32(np.int32(word >> np.int32(15) & _SEVEN)) * planes[5, j]
                    + np.float32(np.int32(word >> np.int32(18) & _SEVEN)) * planes[6, j]
                    + np.float32(np.int32(word >> np.int32(21) & _SEVEN)) * planes[7, j]
                )
            total += scales[row, group] * (part - np.float32(zeros[row, group]) * sums[group])
        output[row] = total


@njit(nogil=True, fastmath=_FAST, error_model="numpy", cache=True)
@no_type_check
def product_8(planes, sums, packed, scales, zeros, output, first, last):
    """Write rows first … last of one output vector; planes (1, in), sums (groups,)."""
    groups = sums.shape[0]
    width = packed.shape[1] // groups
    inputs = planes[0]
    for row in range(first, last):
        total = np.float32(0)
        codes = packed[row]
        for group in range(groups):
            part = np.float32(0)
            start = group * width
            for j in range(start, start + width):
                part += np.float32(np.int32(codes[j])) * inputs[j]
            total += scales[row, group] * (part - np.float32(zeros[row, group]) * sums[group])
        output[row] = total


PRODUCTS = {2: product_2, 3: product_3, 4: product_4, 8: product_8}
"""The loop for each width."""
