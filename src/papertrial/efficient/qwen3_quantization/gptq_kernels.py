"""The compiled column loop of GPTQ: rows do not depend on each other, so each is finished while it is in cache."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit


# "contract" lets a product and a sum become one instruction; nothing is reordered, so that a value half-way
# between two grid points falls to the side on which the plain loop puts it.
@njit(nogil=True, fastmath={"contract"}, error_model="numpy", cache=True)
@no_type_check
def quantize_columns(weights, factor, scales, zeros, slot_of, levels, codes, errors, first, last):
    """Quantise rows first … last of a block of columns, one column after the other.

    weights (rows, columns) is changed; factor (columns, columns) is the block of U; scales and zeros (rows, slots);
    slot_of (columns,) names each column's slot. Writes codes uint8 and errors float32, both (rows, columns).
    """
    columns = weights.shape[1]
    for row in range(first, last):
        w = weights[row]
        for i in range(columns):
            scale = scales[row, slot_of[i]]
            zero = zeros[row, slot_of[i]]
            code = np.rint(w[i] / scale) + zero
            code = min(max(code, np.float32(0)), np.float32(levels))
            codes[row, i] = np.uint8(code)
            error = (w[i] - scale * (code - zero)) / factor[i, i]
            errors[row, i] = error
            for j in range(i + 1, columns):
                w[j] -= error * factor[i, j]
