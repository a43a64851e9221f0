"""What the compiled kernels share: how they are compiled, what a primitive's projection holds, and their limits.

Layout of a primitive's projection, one row of `screen`: surfels hold T_u, T_v, T_w (9), then the low-pass centre (2);
Gaussians hold the centre (2), the conic (3) and the depth (1). Arithmetic is in float64.
"""

from __future__ import annotations

from typing import Any

import numba

SURFEL, GAUSSIAN = 0, 1
SURFEL_COLUMNS, GAUSSIAN_COLUMNS = 11, 6
BANDS = 4
LEAST_ALPHA = 1.0 / 255.0
SLACK = 0.01  # pixels: what rounding may take from an interval

jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
# What every pixel calls is put in place: a call passes arrays by their eight parts, which costs more than its sums.
in_place: Any = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
