"""Threads of our own beside torch's.

torch's threads spin for some milliseconds after each of its parallel operations, and hold cores that compiled kernels
could use. They sleep instead where OMP_WAIT_POLICY is "passive" before torch is loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

_POLICY = "OMP_WAIT_POLICY"
# Below this a second thread costs more than it saves, by whether torch's threads sleep: if not, ours waits for the core
# that one of them holds.
_ELEMENTS_A_THREAD = {True: 1 << 18, False: 1 << 23}
_kept: int | None = None  # threads of kernels while torch has one


def let_threads_sleep() -> None:
    """Ask for torch's threads to sleep while they wait, unless the user has said otherwise or torch is there."""
    if "torch" not in sys.modules:
        os.environ.setdefault(_POLICY, "passive")


def threads_sleep() -> bool:
    """Return whether torch's threads sleep while they wait."""
    return os.environ.get(_POLICY, "").lower() == "passive"


def kernel_threads() -> int:
    """Return how many threads a compiled kernel takes: as many as torch, or as it had before `torch_on_one_thread`."""
    import torch  # here, for `let_threads_sleep` comes before it

    return _kept or torch.get_num_threads()


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Leave torch's operations one thread and the compiled kernels as many as torch had.

    For steps of many small operations: below some hundred thousand elements torch's second thread is woken for less
    work than waking it takes.
    """
    global _kept
    import torch

    outside, before = _kept, torch.get_num_threads()
    _kept = kernel_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _kept = outside
        torch.set_num_threads(before)


@cache
def workers(count: int) -> ThreadPoolExecutor:
    """Return the process's own `count` threads for compiled kernels that let go of the interpreter's lock.

    All callers share them: work that waited for further work of the same threads could wait for ever.
    """
    return ThreadPoolExecutor(count, thread_name_prefix="papertrial-kernel")


def over_rows(work: Callable[[slice], None], shape: tuple[int, ...], *, least: int | None = None) -> None:
    """Run `work` on slices of the rows of a (rows, n) array, on as many threads as torch uses.

    No thread gets fewer than `least` elements, so small arrays are done by the calling one alone; if not given, what
    pays depends on whether torch's threads sleep.
    """
    rows, n = shape
    least = _ELEMENTS_A_THREAD[threads_sleep()] if least is None else least
    threads = max(1, min(kernel_threads(), rows, rows * n // least))
    if threads == 1:
        work(slice(0, rows))
        return
    edges = [rows * part // threads for part in range(threads + 1)]
    list(workers(threads).map(work, map(slice, edges[:-1], edges[1:])))
