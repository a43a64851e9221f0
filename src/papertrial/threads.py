"""Threads of our own beside torch's.

torch's threads spin for some milliseconds after each of its parallel operations, and hold cores that compiled kernels
could use. They sleep instead where OMP_WAIT_POLICY is "passive" before torch is loaded.
"""

from __future__ import annotations

import os
import sys

_POLICY = "OMP_WAIT_POLICY"


def let_threads_sleep() -> None:
    """Ask for torch's threads to sleep while they wait, unless the user has said otherwise or torch is there."""
    if "torch" not in sys.modules:
        os.environ.setdefault(_POLICY, "passive")


def threads_sleep() -> bool:
    """Return whether torch's threads sleep while they wait."""
    return os.environ.get(_POLICY, "").lower() == "passive"
