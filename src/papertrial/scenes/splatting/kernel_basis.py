"""What the compiled kernels share: how they are compiled, what lies where in their arrays, and their limits.

Layout of a primitive's projection, one row of `screen`: surfels hold T_u, T_v, T_w (9), then the low-pass centre (2);
Gaussians hold the centre (2), the conic (3) and the depth (1), the rest is not used. Images are kept row by row, and a
row plane by plane, so that neighbouring pixels lie side by side. Arithmetic is in float64.
"""

from __future__ import annotations

from typing import Any

import numba

from papertrial.scenes.splatting.lanes import WIDTH

SURFEL, GAUSSIAN = 0, 1
SCREEN_COLUMNS = 11
# planes forwards: transmittance, sums of w, w m, w m², w z, median depth and whose it is, then the features
LIGHT, SUM_W, SUM_WM, SUM_WMM, SUM_WZ, MEDIAN, CHOSEN, FEATURES = range(8)
# planes backwards, after LIGHT: what is left of the sum of w dL/dw; what gives dL/dw without the features, which is
# constant + depth z + m (linear + square m); the gradient of the median, then those of the features
REST, OF_CONSTANT, OF_DEPTH, OF_LINEAR, OF_SQUARE, OF_MEDIAN, OF_FEATURES = range(1, 8)
# columns of a primitive's gradients: its projection, its opacity, its features
TO_OPACITY = SCREEN_COLUMNS
TO_FEATURES = TO_OPACITY + 1
BANDS = 8  # of rows or primitives that threads share out; sums of a band are in its own order, so fixed
LEAST_ALPHA = 1.0 / 255.0
LEAST_TRANSMITTANCE = 1e-4
SLACK = 0.01  # pixels: what rounding may take from an interval

# Rounding may differ from the order in which sums are written down; infinities and NaN keep their meaning.
_FAST = {"contract", "arcp", "nsz", "reassoc"}
jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
# What every pixel calls is put in place: a call passes arrays by their eight parts, which costs more than its sums.
in_place: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST, inline="always")


def padded(width: int) -> int:
    """Return how many columns a row of pixels has in memory, so that the last lanes end inside of it."""
    return width + WIDTH - 1
