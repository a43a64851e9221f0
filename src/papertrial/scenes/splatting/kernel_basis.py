"""What the compiled kernels share: how they are compiled, what a primitive's projection holds, and their limits.

Layout of a primitive's projection, one row of `screen`: surfels hold T_u, T_v, T_w (9), then the low-pass centre (2);
Gaussians hold the centre (2), the conic (3) and the depth (1), the rest is not used. What belongs to a pixel lies side
by side as well, sums first, then its features or their gradients. Arithmetic is in float64.
"""

from __future__ import annotations

from typing import Any

import numba

SURFEL, GAUSSIAN = 0, 1
SCREEN_COLUMNS = 11
SUM_W, SUM_WM, SUM_WMM, LIGHT, SUM_WZ, MEDIAN = range(
    6
)  # of w, w m, w m², then transmittance, w z, median depth
FEATURES = 6  # where they begin, forwards
PREFIX, TOTAL, OF_ALPHA, OF_DEPTH, OF_DISTORTION, OF_MEDIAN = range(4, 10)  # backwards, after the first four
GRADIENTS = 10  # where those of the features begin
BANDS = 4
LEAST_ALPHA = 1.0 / 255.0
SLACK = 0.01  # pixels: what rounding may take from an interval

# Rounding may differ from the order in which sums are written down; infinities and NaN keep their meaning.
_FAST = {"contract", "arcp", "nsz", "reassoc"}
jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
# What every pixel calls is put in place: a call passes arrays by their eight parts, which costs more than its sums.
in_place: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST, inline="always")
