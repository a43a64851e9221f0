"""On what something was measured: machine, versions, load, peak memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from papertrial.trial.files import to_json

PACKAGES = (
    "papertrial",
    "torch",
    "transformers",
    "diffusers",
    "accelerate",
    "tokenizers",
    "datasets",
    "numpy",
    "numba",
)


def describe_environment() -> dict[str, Any]:
    """Return what the figures depend on: machine, operating system, Python and package versions."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": _memory(),
            "accelerators": _accelerators(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "python": platform.python_version(),
        "packages": _packages(),
    }


def environment_id(environment: dict[str, Any]) -> str:
    """Return the short hash under which an environment is kept."""
    return hashlib.sha256(to_json(environment)).hexdigest()[:10]


def describe_machine(environment: dict[str, Any]) -> str:
    """Say a machine in one short line."""
    machine = environment["machine"]
    memory = f", {machine['memory_bytes'] / 2**30:.0f} GiB" if machine.get("memory_bytes") else ""
    accelerators = "".join(f", {name}" for name in machine.get("accelerators", ()))
    return f"{machine['processor']}, {machine['cores']} cores{memory}{accelerators}, {machine['system']}"


def load_average() -> float | None:
    """Return how many processes wanted a core in the last minute, where the system says so."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


class PeakMemory:
    """Measures the largest resident size of this process inside a `with` block.

    On Linux the kernel's high-water mark is reset at the start, so that a process that measures several
    pairs reports each one's own peak. Elsewhere `bytes` is the peak of the process so far.
    """

    bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = _high_water_mark()


def _high_water_mark() -> int | None:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@cache
def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@cache
def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _accelerators() -> list[str]:
    """Name the GPUs, without importing torch where nothing has yet."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
