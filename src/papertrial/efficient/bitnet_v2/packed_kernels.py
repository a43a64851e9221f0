"""Compiled CPU loops of packed inference: quantise a token, and multiply it by a weight of 2 bits a value.

The product stays in integers: codes 0, 1, 2 of the weight times int8 codes of the token, added in pairs to
int16 and from there to int32. The codes stand for -1, 0, 1, so the sum of the token's codes is taken off at
the end.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from papertrial.efficient.hadamard_kernels import compiled, transform_row
from papertrial.threads import over_rows

_COLUMNS = 32  # bytes of a packed row that are taken at once: one AVX2 register
_CHUNK = 64 * _COLUMNS  # after so many columns an int16 lane may be full: 64 · 2 · 2 · 128 = 2^15
_BYTES_A_THREAD = 1 << 20  # of packed weight: done in about the time that waking a thread takes
_U = np.uint64

_BYTES = ir.VectorType(ir.IntType(8), _COLUMNS)
_SHORTS = ir.VectorType(ir.IntType(16), _COLUMNS // 2)
_WORDS = ir.VectorType(ir.IntType(32), _COLUMNS // 2)


def _has_avx2() -> bool:
    return bool(binding.get_host_cpu_features().get("avx2"))


@no_type_check
def _pair_sums(builder, unsigned, signed):
    """Return the products of unsigned and signed bytes, neighbours added, as int16 lanes."""
    if _has_avx2():  # one instruction, which compilers do not find by themselves
        name = "llvm.x86.avx2.pmadd.ub.sw"
        kind = ir.FunctionType(_SHORTS, [_BYTES, _BYTES])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, [unsigned, signed])
    wide = ir.VectorType(ir.IntType(16), _COLUMNS)
    products = builder.mul(builder.zext(unsigned, wide), builder.sext(signed, wide))
    half = ir.VectorType(ir.IntType(32), _COLUMNS // 2)
    even, odd = (
        builder.shuffle_vector(products, products, ir.Constant(half, list(range(first, _COLUMNS, 2))))
        for first in (0, 1)
    )
    return builder.add(even, odd)


@intrinsic
@no_type_check
def _four_dots(typing_context, packed, row, codes, token, first, blocks):
    """Return the dot products of one packed row's four weight rows with a token's codes, as four int32.

    Over `blocks` (64 at most) times 32 columns from column `first` on.
    """

    def generate(context, builder, signature, arguments):
        def start(array, kind, index):
            struct = context.make_array(kind)(context, builder, array)
            width = cgutils.unpack_tuple(builder, struct.shape)[1]
            return builder.gep(struct.data, [builder.add(builder.mul(index, width), arguments[4])])

        weights = start(arguments[0], signature.args[0], arguments[1])
        values = start(arguments[2], signature.args[2], arguments[3])
        sums = [cgutils.alloca_once_value(builder, ir.Constant(_SHORTS, [0] * 16)) for _ in range(4)]
        three = ir.Constant(_BYTES, [3] * _COLUMNS)
        with cgutils.for_range(builder, arguments[5]) as loop:
            offset = builder.mul(loop.index, ir.Constant(loop.index.type, _COLUMNS))
            byte, value = (
                builder.load(builder.bitcast(builder.gep(data, [offset]), _BYTES.as_pointer()), align=1)
                for data in (weights, values)
            )
            for place, total in enumerate(sums):
                # Shifting 16-bit lanes moves bits between bytes only where the mask then cuts them off.
                shift = ir.Constant(_SHORTS, [2 * place] * 16)
                shifted = builder.bitcast(builder.lshr(builder.bitcast(byte, _SHORTS), shift), _BYTES)
                added = _pair_sums(builder, builder.and_(shifted, three), value)
                builder.store(builder.add(builder.load(total), added), total)
        kind = ir.FunctionType(ir.IntType(32), [_WORDS])
        name = "llvm.vector.reduce.add.v16i32"
        reduce = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        results = [builder.call(reduce, [builder.sext(builder.load(total), _WORDS)]) for total in sums]
        return context.make_tuple(builder, signature.return_type, results)

    whole = types.uint64
    return types.UniTuple(types.int32, 4)(packed, whole, codes, whole, whole, whole), generate


@compiled
@no_type_check
def multiply_rows(packed, codes, sums, scales, weight_scale, first, last, out):
    """Fill out[:, r + k · rows] for packed rows first … last and k = 0 … 3.

    packed (rows, columns) uint8, codes (tokens, columns) int8, sums (tokens,) int32: of a token's codes,
    scales (tokens,) float32, out (tokens, 4 · rows) float32.
    """
    rows, columns = packed.shape
    whole = columns // _COLUMNS * _COLUMNS
    for row in range(first, last):
        for token in range(codes.shape[0]):
            d0 = -sums[token]
            d1, d2, d3 = d0, d0, d0
            for start in range(0, whole, _CHUNK):
                blocks = min(whole - start, _CHUNK) // _COLUMNS
                a0, a1, a2, a3 = _four_dots(packed, _U(row), codes, _U(token), _U(start), _U(blocks))
                d0 += a0
                d1 += a1
                d2 += a2
                d3 += a3
            for column in range(whole, columns):
                byte, value = np.int32(packed[row, column]), np.int32(codes[token, column])
                d0 += (byte & 3) * value
                d1 += ((byte >> 2) & 3) * value
                d2 += ((byte >> 4) & 3) * value
                d3 += (byte >> 6) * value
            factor = scales[token] * weight_scale
            out[token, row] = d0 * factor
            out[token, row + rows] = d1 * factor
            out[token, row + 2 * rows] = d2 * factor
            out[token, row + 3 * rows] = d3 * factor


@compiled
@no_type_check
def quantize_rows(x, gain, eps, rotated, bits, codes, sums, scales):
    """Norm (where `gain` is not empty), rotate (where `rotated`) and quantise the rows of x (tokens, n) float32.

    Fills codes (tokens, n) int8, sums (tokens,) int32 and scales (tokens,) float32, by the same rules as
    `papertrial.efficient.bitnet_v2.quantizers.activation_codes`.
    """
    n = x.shape[1]
    row = np.empty(n, np.float32)
    turned = np.empty(n, np.float32)
    for token in range(x.shape[0]):
        row[:] = x[token]
        if gain.shape[0]:
            squares = np.float32(0)
            for k in range(n):
                squares += row[k] * row[k]
            factor = np.float32(1) / np.sqrt(squares / np.float32(n) + eps)
            for k in range(n):
                row[k] = row[k] * factor * gain[k]
        values = row
        if rotated:
            transform_row(row, turned, np.float32(1) / np.sqrt(np.float32(n)))
            values = turned
        if bits == 8:
            largest = np.float32(1e-5)
            for k in range(n):
                largest = max(largest, abs(values[k]))
            step, inverse = largest / np.float32(127), np.float32(127) / largest
            low, high = np.float32(-128), np.float32(127)
        else:
            mean = np.float32(0)
            for k in range(n):
                mean += abs(values[k])
            mean /= np.float32(n)
            root = np.sqrt(np.float32(7))
            step, inverse = mean / root, root / (mean + np.float32(1e-5))
            low, high = np.float32(-8), np.float32(7)
        total = 0
        for k in range(n):
            code = np.int8(min(max(np.rint(values[k] * inverse), low), high))
            codes[token, k] = code
            total += code
        sums[token] = total
        scales[token] = step


def packed_forward(
    x: torch.Tensor,
    packed: torch.Tensor,
    weight_scale: float,
    *,
    gain: torch.Tensor | None,
    eps: float,
    rotated: bool,
    bits: int,
) -> torch.Tensor:
    """Return the output (tokens, 4 · rows) float32 of a packed layer for float32 tokens (tokens, columns)."""
    tokens, columns = x.shape
    codes = np.empty((tokens, columns), np.int8)
    sums, scales = np.empty(tokens, np.int32), np.empty(tokens, np.float32)
    gains = np.empty(0, np.float32) if gain is None else gain.numpy()
    quantize_rows(x.numpy(), gains, np.float32(eps), rotated, bits, codes, sums, scales)
    out = torch.empty(tokens, 4 * len(packed))
    weights, results, factor = packed.numpy(), out.numpy(), np.float32(weight_scale)

    def work(rows: slice) -> None:
        multiply_rows(weights, codes, sums, scales, factor, rows.start, rows.stop, results)

    over_rows(work, packed.shape, least=max(1, _BYTES_A_THREAD // tokens))
    return out
