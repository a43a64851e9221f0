"""How the compiled kernels of this field are made, and when they run: numba's, on the CPU."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


def compiles(*tensors: Tensor) -> bool:
    """Return whether kernels can take these tensors: all on the CPU, and numba is installed."""
    return all(one.device.type == "cpu" for one in tensors) and _has_numba()


def as_array(tensor: Tensor) -> Any:
    """Return a tensor as the array that kernels take: float64, row after row, without gradient."""
    return tensor.detach().to(torch.float64).contiguous().numpy()


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None
