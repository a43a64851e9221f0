"""The fast Hadamard transform of rows on the CPU: compiled loops that keep a row in the nearest cache.

A row goes through log2(n) levels of butterflies, three at a time where it can: eight registers of eight values are read
once, added and subtracted, and written once. The first pass goes from the source to the target, all others stay in the
target, so that no more than one row has to fit into the cache. Vectors are written out because a compiler that cannot
prove that two arrays differ would take the values one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from papertrial.threads import over_rows

_U = np.uint64
_LANES = 8


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop without the interpreter lock; sums may be reordered, infinities and NaN stay exact."""
    return njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy", cache=True)(
        function
    )


def _butterflies(count: int) -> Any:
    """Return an intrinsic that does log2(count) levels between `count` vectors, `stride` values apart."""

    @intrinsic
    @no_type_check
    def between_vectors(typing_context, source, target, index, stride):
        def generate(context, builder, signature, arguments):
            scalar = context.get_value_type(signature.args[0].dtype)
            vector, size = ir.VectorType(scalar, _LANES), context.get_abi_sizeof(scalar)

            def place(array, kind, number):
                data = context.make_array(kind)(context, builder, array).data
                apart = builder.mul(arguments[3], ir.Constant(ir.IntType(64), number))
                return builder.bitcast(
                    builder.gep(data, [builder.add(arguments[2], apart)]), vector.as_pointer()
                )

            values = [
                builder.load(place(arguments[0], signature.args[0], number), align=size)
                for number in range(count)
            ]
            half = count // 2
            while half:
                for low in (number for number in range(count) if not number & half):
                    one, other = values[low], values[low | half]
                    values[low], values[low | half] = builder.fadd(one, other), builder.fsub(one, other)
                half //= 2
            for number, value in enumerate(values):
                builder.store(value, place(arguments[1], signature.args[1], number), align=size)
            return context.get_dummy_value()

        return types.void(source, target, types.uint64, types.uint64), generate

    return between_vectors


_two_vectors, _four_vectors, _eight_vectors = _butterflies(2), _butterflies(4), _butterflies(8)


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
def _wide_levels(source, target, stride, at_once):
    """Do 1, 2 or 3 levels, from `stride` upwards, on 2, 4 or 8 vectors `at_once`; target may be the source."""
    step = stride * at_once
    for start in range(0, source.shape[0], step):
        for place in range(start, start + stride, _LANES):
            if at_once == 8:
                _eight_vectors(source, target, _U(place), _U(stride))
            elif at_once == 4:
                _four_vectors(source, target, _U(place), _U(stride))
            else:
                _two_vectors(source, target, _U(place), _U(stride))


@compiled
@no_type_check
def _short_row(source, target, scale):
    """Transform a row of fewer values than a vector has, level by level."""
    n = source.shape[0]
    for k in range(n):
        target[k] = source[k] * scale
    stride = 1
    while stride < n:
        for k in range(n):
            if not k & stride:
                one, other = target[k], target[k + stride]
                target[k], target[k + stride] = one + other, one - other
        stride *= 2


@compiled
@no_type_check
def transform_row(source, target, scale):
    """Write `scale` times the Hadamard transform of `source` to `target`; both (n,), n a power of two, distinct.

    The widest strides come first: the first pass reads from memory, all others find the row in the cache.
    """
    n = source.shape[0]
    if n < _LANES:
        _short_row(source, target, scale)
        return
    levels = 0
    while (_LANES << levels) < n:
        levels += 1
    here, stride = source, n
    while stride > _LANES:
        at_once = 1 << (levels % 3) if levels % 3 else 8  # what is left over by threes comes first
        stride //= at_once
        _wide_levels(here, target, stride, at_once)
        here, levels = target, levels - (3 if at_once == 8 else levels % 3)
    for place in range(0, n, _LANES):
        _eight_lanes(here, target, _U(place), scale)


@compiled
@no_type_check
def transform_rows(source, target, scale):
    """Write `scale` times the Hadamard transform of every row of `source` (rows, n) to `target`."""
    for row in range(source.shape[0]):
        transform_row(source[row], target[row], scale)


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
