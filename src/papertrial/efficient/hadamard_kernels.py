"""The fast Hadamard transform of rows on the CPU: compiled loops that keep a row in the nearest cache.

A row goes through log2(n) levels of butterflies, three at a time where it can: eight values are read once,
added and subtracted in registers, and written once. Every pass goes from one array to another, which lets
the compiler prove that nothing overlaps; between the first and the last pass that other array is a scratch row
that stays in the cache. Indices are unsigned because signed ones may wrap in Python, and testing for that
keeps loops from being vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, no_type_check

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_U = np.uint64
# Below this a second thread costs more than it saves: torch's own threads spin for a while after each of its
# operations, and ours would wait for the cores that they hold.
_ELEMENTS_A_THREAD = 1 << 20


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop without the interpreter lock; sums may be reordered, infinities and NaN stay exact."""
    return njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy", cache=True)(
        function
    )


@compiled
@no_type_check
def eights(source, target, stride):
    """Do three levels, at strides `stride`, 2 · stride and 4 · stride, from `source` to `target`."""
    h = _U(stride)
    for block in range(source.shape[0] // (8 * stride)):
        start = _U(block * 8 * stride)
        for k in range(stride):
            i0 = start + _U(k)
            i1, i2, i3 = i0 + h, i0 + _U(2) * h, i0 + _U(3) * h
            i4, i5, i6, i7 = i0 + _U(4) * h, i0 + _U(5) * h, i0 + _U(6) * h, i0 + _U(7) * h
            a0, a1, a2, a3 = source[i0], source[i1], source[i2], source[i3]
            a4, a5, a6, a7 = source[i4], source[i5], source[i6], source[i7]
            b0, b1, b2, b3, b4, b5, b6, b7 = (
                a0 + a4,
                a1 + a5,
                a2 + a6,
                a3 + a7,
                a0 - a4,
                a1 - a5,
                a2 - a6,
                a3 - a7,
            )
            c0, c1, c2, c3, c4, c5, c6, c7 = (
                b0 + b2,
                b1 + b3,
                b0 - b2,
                b1 - b3,
                b4 + b6,
                b5 + b7,
                b4 - b6,
                b5 - b7,
            )
            target[i0], target[i1] = c0 + c1, c0 - c1
            target[i2], target[i3] = c2 + c3, c2 - c3
            target[i4], target[i5] = c4 + c5, c4 - c5
            target[i6], target[i7] = c6 + c7, c6 - c7


@intrinsic
@no_type_check
def _eight_lanes(typing_context, source, target, index, scale):
    """Do the three narrowest levels of the eight values at `index` within one register.

    In lane i the sum or difference with lane i XOR stride is one shuffle and one multiply-add by a sign.
    Compiled loops do not find this: they load the eight values one by one, and take four times as long.
    """

    def generate(context, builder, signature, arguments):
        scalar = context.get_value_type(signature.args[0].dtype)
        lanes = ir.VectorType(scalar, 8)
        size = context.get_abi_sizeof(scalar)

        def place(array, kind):
            data = context.make_array(kind)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [arguments[2]]), lanes.as_pointer())

        values = builder.load(place(arguments[0], signature.args[0]), align=size)
        for stride in (1, 2, 4):
            other = ir.Constant(ir.VectorType(ir.IntType(32), 8), [lane ^ stride for lane in range(8)])
            signs = ir.Constant(lanes, [-1.0 if lane & stride else 1.0 for lane in range(8)])
            swapped = builder.shuffle_vector(values, ir.Constant(lanes, ir.Undefined), other)
            values = builder.fadd(swapped, builder.fmul(values, signs))
        first = builder.insert_element(
            ir.Constant(lanes, ir.Undefined), arguments[3], ir.Constant(ir.IntType(32), 0)
        )
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
        factor = builder.shuffle_vector(first, ir.Constant(lanes, ir.Undefined), everywhere)
        builder.store(builder.fmul(values, factor), place(arguments[1], signature.args[1]), align=size)
        return context.get_dummy_value()

    return types.void(source, target, types.uint64, source.dtype), generate


@compiled
@no_type_check
def neighbours(source, target, scale):
    """Do the three levels at strides 1, 2 and 4, and multiply by `scale`."""
    for block in range(source.shape[0] // 8):
        _eight_lanes(source, target, _U(8 * block), scale)


@compiled
@no_type_check
def pairs(source, target, stride):
    """Do one level, at `stride`."""
    h = _U(stride)
    for block in range(source.shape[0] // (2 * stride)):
        start = _U(block * 2 * stride)
        for k in range(stride):
            i = start + _U(k)
            a, b = source[i], source[i + h]
            target[i], target[i + h] = a + b, a - b


@compiled
@no_type_check
def transform_row(source, target, scratch, scale):
    """Write `scale` times the Hadamard transform of `source` to `target`; all (n,), n a power of two, distinct.

    The widest strides come first: the first pass reads from memory, all others find the row in the cache.
    """
    n = source.shape[0]
    levels = 0
    while (1 << levels) < n:
        levels += 1
    singles = levels % 3
    passes = levels // 3 + singles
    into_target = passes % 2 == 1  # so that the last pass ends there
    here = source
    stride = n
    for step in range(passes):
        there = target if into_target else scratch
        if step < singles:
            stride //= 2
            pairs(here, there, stride)
        else:
            stride //= 8
            if stride == 1:
                neighbours(here, there, scale)
            else:
                eights(here, there, stride)
        here = there
        into_target = not into_target
    if n < 8:  # no pass over neighbours, which scales
        for k in range(n):
            target[k] = here[k] * scale


@compiled
@no_type_check
def transform_rows(source, target, scale):
    """Write `scale` times the Hadamard transform of every row of `source` (rows, n) to `target`."""
    scratch = np.empty_like(source[0])
    for row in range(source.shape[0]):
        transform_row(source[row], target[row], scratch, scale)


def hadamard_rows(source: torch.Tensor, scale: float) -> torch.Tensor:
    """Return `scale` times the Hadamard transform of every row of a CPU tensor (rows, n), n a power of two.

    float32 and float64 are computed in their own precision, narrower formats in float32. Uses as many threads
    as torch does.
    """
    wide = source.detach().to(torch.float64 if source.dtype == torch.float64 else torch.float32).contiguous()
    target = torch.empty_like(wide)
    factor = wide.numpy().dtype.type(scale)
    over_rows(lambda rows: transform_rows(wide[rows].numpy(), target[rows].numpy(), factor), wide.shape)
    return target.to(source.dtype)


def over_rows(
    work: Callable[[slice], None], shape: tuple[int, ...], *, least: int = _ELEMENTS_A_THREAD
) -> None:
    """Run `work` on slices of the rows of a (rows, n) array, on as many threads as torch uses.

    No thread gets fewer than `least` elements, so small arrays are done by the calling one alone.
    """
    rows, n = shape
    threads = max(1, min(torch.get_num_threads(), rows, rows * n // least))
    if threads == 1:
        work(slice(0, rows))
        return
    edges = [rows * part // threads for part in range(threads + 1)]
    list(_pool(threads).map(work, map(slice, edges[:-1], edges[1:])))


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="papertrial-hadamard")
