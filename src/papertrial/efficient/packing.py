"""Whole numbers of 2, 3, 4 or 8 bits, packed without a gap.

A row is one little-endian stream of bits: code j occupies bits j·b … j·b + b − 1, and byte k holds stream
bits 8k … 8k + 7, lowest first. Read as little-endian int32 words this is also how GPTQ checkpoints lay out a
column (their three-bit words included), so reading one of those is a transpose and no arithmetic.
"""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor

from papertrial.errors import BadInputError

PACKED_BITS = (2, 3, 4, 8)
"""The widths that can be packed."""

_CODES_A_BYTE = {2: 4, 4: 2, 8: 1}
_THREE_BIT_RUN = 8  # eight codes of three bits fill three bytes


def pack_codes(codes: UInt8[Tensor, "rows columns"], bits: int) -> UInt8[Tensor, "rows bytes"]:
    """Return the codes of each row packed into `packed_width(columns, bits)` bytes; the rest of the last is zero.

    Raises:
        BadInputError: `bits` is not 2, 3, 4 or 8, or a code does not fit.
    """
    check_packed_bits(bits)
    if codes.numel() and int(codes.max()) >= 1 << bits:
        raise BadInputError(f"{bits} bits hold codes 0 … {(1 << bits) - 1}, got {int(codes.max())}")
    width = packed_width(codes.shape[1], bits)
    if bits == 3:
        runs = _padded(codes, _THREE_BIT_RUN).unflatten(1, (-1, _THREE_BIT_RUN)).to(torch.int32)
        words = (runs << (3 * torch.arange(_THREE_BIT_RUN, device=codes.device, dtype=torch.int32))).sum(-1)
        packed = torch.stack([words >> shift & 255 for shift in (0, 8, 16)], dim=-1)
        return packed.flatten(1).to(torch.uint8)[:, :width].contiguous()
    runs = _padded(codes, _CODES_A_BYTE[bits]).unflatten(1, (-1, _CODES_A_BYTE[bits]))
    packed = runs[..., 0].clone()
    for place in range(1, runs.shape[-1]):
        packed |= runs[..., place] << (place * bits)
    return packed


def unpack_codes(
    packed: UInt8[Tensor, "rows bytes"], bits: int, columns: int
) -> UInt8[Tensor, "rows columns"]:
    """Return the first `columns` codes of each row: the inverse of `pack_codes`.

    Raises:
        BadInputError: `bits` is not 2, 3, 4 or 8, or the rows hold fewer codes.
    """
    check_packed_bits(bits)
    if packed.shape[1] < packed_width(columns, bits):
        raise BadInputError(
            f"{columns} codes of {bits} bits need {packed_width(columns, bits)} bytes, got {packed.shape[1]}"
        )
    if bits == 3:
        runs = _padded(packed, 3).unflatten(1, (-1, 3)).to(torch.int32)
        words = runs[..., 0] | runs[..., 1] << 8 | runs[..., 2] << 16
        places = 3 * torch.arange(_THREE_BIT_RUN, device=packed.device, dtype=torch.int32)
        codes = (words.unsqueeze(-1) >> places) & 7
        return codes.flatten(1).to(torch.uint8)[:, :columns].contiguous()
    parts = [(packed >> (place * bits)) & ((1 << bits) - 1) for place in range(_CODES_A_BYTE[bits])]
    return torch.stack(parts, dim=-1).flatten(1)[:, :columns].contiguous()


def packed_width(columns: int, bits: int) -> int:
    """Return the bytes that `columns` codes of `bits` bits take: a whole number."""
    return -(-columns * bits // 8)


def check_packed_bits(bits: int) -> None:
    """Raise `BadInputError` for a width that cannot be packed."""
    if bits not in PACKED_BITS:
        raise BadInputError(f"bits must be one of {', '.join(map(str, PACKED_BITS))}, got {bits}")


def _padded(rows: Tensor, multiple: int) -> Tensor:
    lacking = -rows.shape[1] % multiple
    return torch.nn.functional.pad(rows, (0, lacking)) if lacking else rows
