"""Reading chosen tokens of a key-value cache at the speed of the memory.

`torch.gather` with an index expanded to (..., dim) reads eight bytes of index for every four of data and
costs nine times what these cost; rows are therefore always fetched whole from a flat (heads * tokens, dim)
view.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertrial.errors import BadInputError


def gather_rows(
    source: Float[Tensor, "heads tokens dim"], index: Int[Tensor, "heads chosen"]
) -> Float[Tensor, "heads chosen dim"]:
    """Return source[h, index[h]] for every head; a source that is not contiguous is copied first."""
    heads, tokens, dim = source.shape
    start = torch.arange(heads, device=source.device, dtype=index.dtype).mul_(tokens).unsqueeze(1)
    flat = (index + start).reshape(-1)
    return source.reshape(heads * tokens, dim).index_select(0, flat).view(heads, index.shape[1], dim)


def gather_blocks(
    source: Float[Tensor, "heads tokens dim"], index: Int[Tensor, "heads chosen"], size: int
) -> Float[Tensor, "heads gathered dim"]:
    """Return the chosen blocks of `size` neighbouring tokens, (heads, chosen * size, dim).

    Raises:
        BadInputError: the tokens do not divide into blocks of that size.
    """
    heads, tokens, dim = source.shape
    if size < 1 or tokens % size:
        raise BadInputError(
            f"tokens must be a multiple of the block size, got {tokens} tokens in blocks of {size}"
        )
    blocks = source.reshape(heads, tokens // size, size * dim)
    return gather_rows(blocks, index).view(heads, index.shape[1] * size, dim)


def run_rows(
    starts: Int[Tensor, "heads runs"], lengths: Int[Tensor, "heads runs"]
) -> tuple[Int[Tensor, "heads longest"], Int[Tensor, heads]]:
    """Return the row numbers of runs of unequal length laid end to end, and how many there are per head.

    Heads with fewer rows than the longest are padded with row 0; the counts say where the padding begins.
    """
    ends = lengths.cumsum(1)
    counts = ends[:, -1] if lengths.shape[1] else lengths.sum(1)
    longest = int(counts.max()) if counts.numel() else 0
    place = torch.arange(longest, device=starts.device).expand(starts.shape[0], longest).contiguous()
    run = torch.searchsorted(ends, place, right=True).clamp_(max=max(lengths.shape[1] - 1, 0))
    if not lengths.shape[1]:
        return place.to(starts.dtype), counts
    rows = starts.gather(1, run) + place - (ends - lengths).gather(1, run)
    return torch.where(place < counts.unsqueeze(1), rows, torch.zeros_like(rows)), counts
