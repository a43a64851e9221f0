"""Where a primitive meets a row of pixels: the exact interval, and what four neighbours see of it.

On a row, alpha reaches 1/255 within an interval that one quadratic gives: nothing is listed and nothing is lost.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np
from numpy.polynomial import chebyshev

from papertrial.scenes.splatting.kernel_basis import GAUSSIAN, SLACK, SURFEL, in_place, jit
from papertrial.scenes.splatting.lanes import but_not, lanes, where
from papertrial.scenes.splatting.primitives import LEAST_DEPTH

_NO_LINE = (0.0,) * 6
_MOST_RHO = 12.0  # beyond 2 ln 255, where the alpha of an opaque primitive falls below 1/255
# exp(-rho / 16) as a polynomial of 1 - rho / 6: Chebyshev's, whose error is even
_NODES = chebyshev.chebpts1(10)
_FALL = tuple(
    chebyshev.cheb2poly(chebyshev.chebfit(_NODES, np.exp((_NODES - 1) * _MOST_RHO / 32), 9)).tolist()
)


@jit
@no_type_check
def taken(screen: Any, n: int) -> tuple[float, ...]:
    """Return a primitive's projection as numbers: read once, since every write to a pixel might change an array."""
    s = screen[n]
    return s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10]


@jit
@no_type_check
def _surfel_line(t: Any, y: float) -> tuple[float, ...]:
    """Return the row's line: (X, Y, Z) of the intersection is `line[0:3] + x * line[3:6]`."""
    a, b, c = y * t[6] - t[3], y * t[7] - t[4], y * t[8] - t[5]
    return (
        t[2] * b - t[1] * c,
        t[0] * c - t[2] * a,
        t[1] * a - t[0] * b,
        t[7] * c - t[8] * b,
        t[8] * a - t[6] * c,
        t[6] * b - t[7] * a,
    )


@jit
@no_type_check
def _surfel_interval(t: Any, y: float, reach: float, line: Any, width: int) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    a = line[3] * line[3] + line[4] * line[4] - reach * line[5] * line[5]
    b = line[0] * line[3] + line[1] * line[4] - reach * line[2] * line[5]
    c = line[0] * line[0] + line[1] * line[1] - reach * line[2] * line[2]
    inside = b * b - a * c
    if a > 0.0:
        if inside >= 0.0:
            inverse = 1.0 / a
            middle, half = -b * inverse, math.sqrt(inside) * inverse
            low, high = middle - half, middle + half
    elif a == 0.0 or inside <= 0.0:
        return -math.inf, math.inf
    else:  # the disc crosses the camera's plane on this row: it lies on both sides of the roots, seldom in the image
        root = math.sqrt(inside)
        left, right = (-b + root) / a, (-b - root) / a
        if left >= 0.0:
            low, high = -math.inf, left
        if right <= width:
            low, high = min(low, right), math.inf
    away = y - t[10]
    inside = reach / 2 - away * away
    if inside >= 0.0:
        root = math.sqrt(inside)
        low, high = min(low, t[9] - root), max(high, t[9] + root)
    return low, high


@jit
@no_type_check
def _gaussian_interval(s: Any, y: float, reach: float) -> tuple[float, float]:
    dy = y - s[1]
    inside = s[3] * s[3] * dy * dy - s[2] * (s[4] * dy * dy - reach)
    if inside < 0.0:
        return math.inf, -math.inf
    inverse = 1.0 / s[2]  # the same for all rows: the compiler takes it out of their loop
    middle, half = s[0] - s[3] * dy * inverse, math.sqrt(inside) * inverse
    return middle - half, middle + half


@jit
@no_type_check
def _columns(low: float, high: float, width: int) -> tuple[int, int]:
    """Return first and last column + 1 of the pixels whose centres lie in an interval, with room for rounding."""
    if not low <= high or high < 0.0 or low > width:
        return 0, 0
    begin, end = math.ceil(max(low, 0.0) - 0.5 - SLACK), math.floor(min(high, float(width)) + 0.5 + SLACK)
    return max(0, begin), min(width, end)


@in_place
@no_type_check
def fall(rho: Any) -> Any:
    """Return exp(-rho / 2) for rho from 0 to 12, which is more than any that counts, to a relative 4e-13."""
    x = where(rho < _MOST_RHO, rho, _MOST_RHO) * (-2.0 / _MOST_RHO) + 1.0
    x2 = x * x
    x4 = x2 * x2
    low = (_FALL[0] + x * _FALL[1]) + x2 * (_FALL[2] + x * _FALL[3])
    high = (_FALL[4] + x * _FALL[5]) + x2 * (_FALL[6] + x * _FALL[7])
    eighth = (low + x4 * high) + (x4 * x4) * (_FALL[8] + x * _FALL[9])
    fourth = eighth * eighth
    half = fourth * fourth
    return half * half


@in_place
@no_type_check
def meet(kind: int, s: Any, line: Any, x: Any, y: float) -> tuple[Any, ...]:
    """Return rho, depth, u, v, 1 / Z, where the disc (not the screen's circle) decides, and where anything is met."""
    if kind == GAUSSIAN:
        dx, dy = x - s[0], y - s[1]
        rho = dx * (dx * s[2] + 2 * s[3] * dy) + s[4] * dy * dy
        nothing = lanes(0.0)
        return rho, lanes(s[5]), nothing, nothing, nothing, nothing > 0.0, rho >= 0.0
    below = x * line[5] + line[2]
    inverse = 1.0 / below
    u, v = (x * line[3] + line[0]) * inverse, (x * line[4] + line[1]) * inverse
    disc = u * u + v * v
    dx, dy = x - s[9], y - s[10]
    screen = 2 * (dx * dx + dy * dy)
    on_disc = disc <= screen
    depth = where(on_disc, u * s[6] + v * s[7] + s[8], s[8])
    return where(on_disc, disc, screen), depth, u, v, inverse, on_disc, but_not(screen >= 0.0, below == 0.0)


@in_place
@no_type_check
def distortion_depth(depth: Any, near: float, far: float) -> Any:
    """Return the depth that the distortion is taken of (see `compositing`); `far` 0 keeps it as it is."""
    if far == 0.0:
        return depth
    least = max(near, LEAST_DEPTH)
    return far / (far - near) * (1.0 - near / where(depth > least, depth, least))


@in_place
@no_type_check
def span(kind: int, s: Any, y: float, reach: float, width: int) -> tuple[Any, int, int]:
    """Return a row's line, and the first and last column + 1 that the primitive can reach in it."""
    if kind == SURFEL:
        line = _surfel_line(s, y)
        low, high = _surfel_interval(s, y, reach, line, width)
    else:
        line = _NO_LINE
        low, high = _gaussian_interval(s, y, reach)
    begin, end = _columns(low, high, width)
    return line, begin, end
