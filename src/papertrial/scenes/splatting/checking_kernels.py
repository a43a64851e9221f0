"""The compiled check of what is rendered: one walk over each tensor, where torch takes several.

It says only whether all is well; `primitives.check_inputs` finds out what is not.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numba
import numpy as np
from torch import Tensor

_jit: Any = numba.njit(
    cache=True, nogil=True, error_model="numpy"
)  # NaN keeps its meaning: it is below nothing


def sound(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor) -> bool:
    """Return whether all numbers are finite, quaternions not zero, scales not negative, opacities within 0 and 1."""
    given = (means, quats, scales, opacities, features)
    return bool(_sound(*(one.detach().contiguous().numpy() for one in given)))


@_jit
@no_type_check
def _sound(means: Any, quats: Any, scales: Any, opacities: Any, features: Any) -> bool:
    found = _finite(means.ravel()) and _finite(quats.ravel()) and _finite(features.ravel())
    flat = scales.ravel()
    for i in range(len(flat)):  # without a way out, so that it is done in vectors
        found &= (flat[i] >= 0) & (flat[i] < np.inf)
    for n in range(len(opacities)):
        found &= (opacities[n] >= 0) & (opacities[n] <= 1)
    for n in range(len(quats)):
        w, x, y, z = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
        found &= w * w + x * x + y * y + z * z > 0
    return found


@_jit
@no_type_check
def _finite(flat: Any) -> bool:
    found = True
    for i in range(len(flat)):
        found &= abs(flat[i]) < np.inf
    return found
