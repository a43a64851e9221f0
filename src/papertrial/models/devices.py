"""Number formats and devices by name, checked before anything is built."""

from __future__ import annotations

import platform

import torch

from papertrial.errors import BadInputError, unknown

DTYPES: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""The number formats a model's weights may be loaded in, by name."""


def resolve_dtype(name: str) -> torch.dtype:
    """Return the floating-point format called `name`.

    Raises:
        BadInputError: there is no such format.
    """
    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    return DTYPES[name]


def resolve_device(name: str) -> torch.device:
    """Return the device called `name` ("cpu", "cuda", "cuda:1", "mps"), if this machine has it.

    Raises:
        BadInputError: the name is not a device's, or this machine has no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as problem:
        raise BadInputError(f"device must be cpu, cuda, cuda:N or mps, got {name!r}") from problem
    if device.type == "cpu":
        return device
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            found = f"{count} CUDA device{'s' * (count != 1)}" if count else "no CUDA device"
            raise BadInputError(f"device {name!r} was asked for, but torch finds {found} here; use 'cpu'")
        return device
    if device.type == "mps" and torch.backends.mps.is_available():
        return device
    raise BadInputError(f"device {name!r} was asked for, but torch cannot use it here; use 'cpu'")


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware.

    On x86 oneDNN calls bfloat16 supported from AVX-512 on, where it may still widen to float32 first, so
    the instruction itself is asked for.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported())
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def check_autocast(dtype: str, device: torch.device) -> None:
    """Check that computing in `dtype` by autocast is real on `device`, not emulated.

    Raises:
        BadInputError: `dtype` is neither "float32" (no autocast) nor "bfloat16", or the hardware has no
            bfloat16 arithmetic.
    """
    if dtype == "float32":
        return
    if dtype == "float16":
        raise BadInputError("dtype float16 needs loss scaling, which this loop does not do; use bfloat16")
    if dtype != "bfloat16":
        raise BadInputError(f"dtype must be float32 or bfloat16, got {dtype!r}")
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        supported = cpu_has_bfloat16()
    else:
        supported = False
    if not supported:
        raise BadInputError(f"dtype bfloat16 was asked for, but {device} computes it by emulation only")
