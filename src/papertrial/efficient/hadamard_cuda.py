"""The Hadamard transform of rows on CUDA, alone or with the quantiser behind it, each in one read and one write.

Imported only where the tensors are on CUDA and triton is installed. A row lives in the registers of one
program: a level of butterflies is a reshape, a split, a sum, a difference and a join.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_ROW = 16384
"""Longest row (a power of two) that one program holds; longer ones go by matrix products."""


@triton.jit
@no_type_check
def _butterflies(row, SIZE: tl.constexpr, LEVELS: tl.constexpr):
    for level in tl.static_range(LEVELS):
        blocks = tl.reshape(row, (SIZE >> (level + 1), 2, 1 << level))
        first, second = tl.split(tl.permute(blocks, (0, 2, 1)))
        both = tl.permute(tl.join(first + second, first - second), (0, 2, 1))
        row = tl.reshape(both, (SIZE,))
    return row


@triton.jit
@no_type_check
def _rotate(source, target, scale, SIZE: tl.constexpr, LEVELS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    row = tl.load(source + place).to(tl.float32)
    row = _butterflies(row, SIZE, LEVELS) * scale
    tl.store(target + place, row.to(target.dtype.element_ty))


@triton.jit
@no_type_check
def _rotate_and_quantize(
    source,
    codes,
    scales,
    scale,
    epsilon,
    root,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    MEAN: tl.constexpr,
    SIZE: tl.constexpr,
    LEVELS: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64)
    place = index * SIZE + tl.arange(0, SIZE)
    row = tl.load(source + place).to(tl.float32)
    row = _butterflies(row, SIZE, LEVELS) * scale
    if MEAN:
        size = tl.sum(tl.abs(row), axis=0) / SIZE
        factor = root / (size + epsilon)
    else:
        size = tl.maximum(tl.max(tl.abs(row), axis=0), epsilon)
        factor = root / size
    # Clipping first changes nothing, the bounds being whole, and keeps the value where adding and taking away
    # 1.5 * 2^23 rounds half to even.
    clipped = tl.minimum(tl.maximum(row * factor, LOW), HIGH)
    rounded = (clipped + 12582912.0) - 12582912.0
    tl.store(codes + place, rounded.to(tl.int8))
    tl.store(scales + index, size / root)


def hadamard_rows_cuda(rows: Tensor) -> Tensor:
    """Return the orthonormal Hadamard transform of rows (rows, size), size a power of two up to LARGEST_ROW."""
    source = rows.contiguous()
    target = torch.empty_like(source)
    size = source.shape[-1]
    _rotate[(len(source),)](
        source, target, size**-0.5, SIZE=size, LEVELS=size.bit_length() - 1, num_warps=_warps(size)
    )
    return target


def rotate_and_quantize_cuda(
    rows: Tensor, *, root: float, low: int, high: int, epsilon: float, mean: bool
) -> tuple[Tensor, Tensor]:
    """Rotate and quantise rows (rows, size) in one pass; return int8 codes (rows, size) and scales (rows, 1).

    A code is `clip(round(x · root / (s + epsilon)), low, high)` with s the mean of |x| (`mean`), or
    `clip(round(x · root / max(s, epsilon)), low, high)` with s the largest; a value is `code · s / root`.
    """
    source = rows.contiguous()
    size = source.shape[-1]
    codes = torch.empty(source.shape, dtype=torch.int8, device=source.device)
    scales = torch.empty(len(source), 1, dtype=torch.float32, device=source.device)
    _rotate_and_quantize[(len(source),)](
        source,
        codes,
        scales,
        size**-0.5,
        epsilon,
        root,
        LOW=low,
        HIGH=high,
        MEAN=mean,
        SIZE=size,
        LEVELS=size.bit_length() - 1,
        num_warps=_warps(size),
    )
    return codes, scales


def _warps(size: int) -> int:
    return min(16, max(1, size // 512))
