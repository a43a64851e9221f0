"""How the compiled kernels of this field are made, and when they run: numba's, on the CPU."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def compiles(*tensors: Tensor) -> bool:
    """Return whether kernels can take these tensors: all on the CPU, and numba is installed."""
    return all(one.device.type == "cpu" for one in tensors) and _has_numba()


def as_array(tensor: Tensor) -> Any:
    """Return a tensor as the array that kernels take: float64, row after row, without gradient."""
    return tensor.detach().to(torch.float64).contiguous().numpy()


def announce(what: str, *kernels: Any) -> None:
    """Say on standard error that kernels are about to be compiled, where no compiled copy lies on the disk.

    Args:
        what: they are, for the user: "the rasteriser".
        kernels: numba's, with a cache; those that others call may be left out.
    """
    if not all(_on_disk(kernel) for kernel in kernels):
        sys.stderr.write(f"compiling {what} for this machine: once, it takes some seconds\n")
        sys.stderr.flush()


def _on_disk(kernel: Any) -> bool:
    """Return whether numba has kept a compiled copy of this kernel's source."""
    function, folder = kernel.py_func, kernel.stats.cache_path
    if folder is None:
        return False
    name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
    return any(Path(folder).glob(f"{name}-{function.__code__.co_firstlineno}.*.nbi"))


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None
