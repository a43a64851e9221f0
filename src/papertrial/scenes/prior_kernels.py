"""The compiled kernels that hold a rendering against priors: a loss and its gradient in one walk."""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numba
import numpy as np

_jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
_LEAST_SPREAD = 1e-30


@_jit
@no_type_check
def align(depth: Any, prior: Any, valid: Any, singular: float) -> tuple[float, float]:
    """Return the scale and the shift that bring a depth nearest to its prior over the valid pixels.

    The scale is 0 where the depth's variance is at most `singular` of its mean square.
    """
    count, mean, target = 0, 0.0, 0.0
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            if valid[row, column]:
                count += 1
                mean += depth[row, column]
                target += prior[row, column]
    mean, target = mean / count, target / count
    spread, covariance, square = 0.0, 0.0, 0.0
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            if valid[row, column]:
                away = depth[row, column] - mean
                spread += away * away
                covariance += away * (prior[row, column] - target)
                square += depth[row, column] ** 2
    constant = spread <= singular * square
    scale = 0.0 if constant else covariance / max(spread, _LEAST_SPREAD * count)
    return scale, target - scale * mean


@_jit
@no_type_check
def squares(residual: Any, valid: Any, gradient: Any) -> float:
    """Return the mean square over valid pixels; add its gradient to `gradient`."""
    count, total = 0, 0.0
    for row in range(residual.shape[0]):
        for column in range(residual.shape[1]):
            count += valid[row, column]
    for row in range(residual.shape[0]):
        for column in range(residual.shape[1]):
            if valid[row, column]:
                total += residual[row, column] ** 2
                gradient[row, column] += 2 * residual[row, column] / count
    return total / count


@_jit
@no_type_check
def octaves(residual: Any, valid: Any, count: int, share: float, gradient: Any) -> float:
    """Return the mean absolute differences of valid neighbours in x and in y, summed over octaves.

    Args:
        residual: height, width.
        valid: height, width.
        count: octaves: every 1st, 2nd, 4th, … pixel.
        share: that the gradient is multiplied by.
        gradient: height, width; added to.
    """
    height, width = residual.shape
    total = 0.0
    for octave in range(count):
        step = 2**octave
        for axis in range(2):
            down, right = step * (axis == 0), step * (axis == 1)
            pairs, change = 0, 0.0
            for row in range(0, height - down, step):
                for column in range(0, width - right, step):
                    if valid[row, column] and valid[row + down, column + right]:
                        pairs += 1
            if pairs == 0:
                continue
            for row in range(0, height - down, step):
                for column in range(0, width - right, step):
                    if valid[row, column] and valid[row + down, column + right]:
                        apart = residual[row + down, column + right] - residual[row, column]
                        change += abs(apart)
                        pull = share * np.sign(apart) / pairs
                        gradient[row + down, column + right] += pull
                        gradient[row, column] -= pull
            total += change / pairs
    return total


@_jit
@no_type_check
def normals(
    found: Any, prior: Any, valid: Any, l1_weight: float, cosine_weight: float, least: float, gradient: Any
) -> float:
    """Return weighted means of |N - prior| and of 1 - cosine over valid pixels; write the gradient of both.

    Args:
        found: height, width, 3.
        prior: height, width, 3.
        valid: height, width.
        l1_weight: of the absolute differences, summed over the three components.
        cosine_weight: of 1 - cosine.
        least: product of lengths by which a smaller one is divided.
        gradient: height, width, 3; zeros.
    """
    count, total = 0, 0.0
    for row in range(valid.shape[0]):
        for column in range(valid.shape[1]):
            count += valid[row, column]
    for row in range(valid.shape[0]):
        for column in range(valid.shape[1]):
            if not valid[row, column]:
                continue
            dot, own, theirs, apart = 0.0, 0.0, 0.0, 0.0
            for axis in range(3):
                one, two = found[row, column, axis], prior[row, column, axis]
                dot += one * two
                own += one * one
                theirs += two * two
                apart += abs(one - two)
            lengths = math.sqrt(own) * math.sqrt(theirs)
            below = max(lengths, least)
            total += l1_weight * apart + cosine_weight * (1 - dot / below)
            for axis in range(3):
                one, two = found[row, column, axis], prior[row, column, axis]
                bend = dot * one / own if lengths >= least else 0.0
                pull = l1_weight * np.sign(one - two) - cosine_weight * (two - bend) / below
                gradient[row, column, axis] = pull / count
    return total / count
