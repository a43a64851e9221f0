"""Compiled errors of BiLLM's candidates: every one from sorted values and running sums, none by binarising a block."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}, cache=True)
@no_type_check
def _residual_error(values, first, last):
    """Return the squared error of values[first:last] after a second-order residual binarisation."""
    count = last - first
    if count == 0:
        return 0.0
    mean = 0.0
    for j in range(first, last):
        mean += values[j]
    mean /= count
    size = 0.0
    balance = 0.0
    for j in range(first, last):
        centred = values[j] - mean
        size += abs(centred)
        balance += np.sign(centred)
    size /= count
    second_mean = (
        -size * balance / count
    )  # the first residual's mean: the centred values themselves add to zero
    second_size = 0.0
    squares = 0.0
    unsigned = 0.0
    for j in range(first, last):
        centred = values[j] - mean
        rest = centred - size * np.sign(centred) - second_mean
        second_size += abs(rest)
        squares += rest * rest
        unsigned += 1.0 - abs(np.sign(rest))
    second_size /= count
    # Σ(|r| − a)² over the entries with a sign, and r = 0 stays as it is: sign(0) is 0.
    return squares - 2.0 * second_size * second_size * count + second_size * second_size * (count - unsigned)


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def salient_errors(ranked, most, errors, first, last):
    """Add to errors[k − 1] the error of taking the first k columns of `ranked` (rows, columns) as salient."""
    columns = ranked.shape[1]
    for row in range(first, last):
        values = ranked[row]
        for count in range(1, most + 1):
            errors[count - 1] += _residual_error(values, 0, count) + _residual_error(values, count, columns)


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _absolute_distance(ordered, sums, low, high, mean):
    """Return Σ|v − mean| over ordered[low:high] and how many of them equal the mean."""
    if high <= low:
        return 0.0, 0
    below = low + np.searchsorted(ordered[low:high], mean)
    above = low + np.searchsorted(ordered[low:high], mean, side="right")
    left = mean * (below - low) - (sums[below] - sums[low])
    right = (sums[high] - sums[above]) - mean * (high - above)
    return left + right, above - below


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def _first_order_error(squares, total, distance, count, unsigned):
    """Return Σ(|d| − a)² for centred values d whose mean size is a; entries with d = 0 have no error."""
    if count == 0:
        return 0.0
    size = distance / count
    return squares - total * total / count - size * size * count - size * size * unsigned


@njit(nogil=True, error_model="numpy", cache=True)
@no_type_check
def split_errors(ordered, thresholds, errors, first, last):
    """Add to errors[c] the error of splitting rows at |v| < thresholds[c], each part binarised once.

    `ordered` (rows, columns) holds the non-salient values of each row in rising order: those below a
    threshold in size are one run in the middle, the others the two ends.
    """
    columns = ordered.shape[1]
    sums = np.zeros(columns + 1)
    squares = np.zeros(columns + 1)
    for row in range(first, last):
        values = ordered[row]
        for j in range(columns):
            sums[j + 1] = sums[j] + values[j]
            squares[j + 1] = squares[j] + values[j] * values[j]
        for c in range(thresholds.shape[0]):
            low = np.searchsorted(values, -thresholds[c], side="right")
            high = max(low, np.searchsorted(values, thresholds[c]))
            inner = high - low
            total = sums[high] - sums[low]
            square = squares[high] - squares[low]
            if inner > 0:
                distance, equal = _absolute_distance(values, sums, low, high, total / inner)
                errors[c] += _first_order_error(square, total, distance, inner, equal)
            outer = columns - inner
            if outer > 0:
                total = sums[columns] - total
                square = squares[columns] - square
                mean = total / outer
                left, equal_left = _absolute_distance(values, sums, 0, low, mean)
                right, equal_right = _absolute_distance(values, sums, high, columns, mean)
                errors[c] += _first_order_error(square, total, left + right, outer, equal_left + equal_right)
