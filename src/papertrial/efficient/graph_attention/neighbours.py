"""A long text's graph as lists of neighbours: what a ranked processing keeps, without the whole map.

The scores of some rows are made at a time and forgotten once their neighbours are chosen, so that a text of
L tokens with k neighbours each takes O(L · k) and not O(L²) for every head. The same numbers as the whole map.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from papertrial.efficient.graph_attention.adjacency import Processing, choose, visible_pairs

_SCORES_BUDGET = 1 << 23  # scores held at once
_GATHERED_BUDGET = 1 << 22  # numbers of neighbours held at once by the maximum

RowsOf = Callable[[slice, Tensor], Tensor]
"""The adjacency before processing (batch, heads, rows, k) of some query rows, given what they see."""


@dataclass(frozen=True)
class Neighbours:
    """Who hears whom.

    Attributes:
        sources: the tokens that each token hears.
        kept: which of them count; the others fill up rows with fewer.
        keys: tokens there are to be heard.
    """

    sources: Int[Tensor, "batch heads q k"]
    kept: Bool[Tensor, "batch heads q k"]
    keys: int

    def to_dense(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "batch heads q keys"]:
        """Return the whole map: 1 where a token is heard, else 0."""
        whole = torch.zeros(*self.sources.shape[:3], self.keys, dtype=dtype, device=self.sources.device)
        return whole.scatter_add_(-1, self.sources.long(), self.kept.to(dtype))  # fillers may name a real one

    def degrees(self) -> Float[Tensor, "batch heads q one"]:
        """Return how many tokens each token hears, 1 where it hears none."""
        return self.kept.sum(-1, keepdim=True).clamp(min=1).float()

    def sum(
        self, values: Float[Tensor, "batch heads keys width"], dropout: float = 0.0, training: bool = False
    ) -> Float[Tensor, "batch heads q width"]:
        """Return Σ_j V_j over the neighbours j of each token; `dropout` leaves out edges while training."""
        batch, heads, queries, most = self.sources.shape
        flat = values.reshape(-1, values.shape[-1])
        first = self.keys * torch.arange(batch * heads, device=flat.device).view(batch, heads, 1, 1)
        places = (self.sources.long() + first).view(-1, most)
        weights = functional.dropout(self.kept.to(flat.dtype), dropout, training).view(-1, most)
        summed = functional.embedding_bag(places, flat, mode="sum", per_sample_weights=weights)
        return summed.view(batch, heads, queries, -1)

    def largest(
        self, values: Float[Tensor, "batch heads keys width"]
    ) -> Float[Tensor, "batch heads q width"]:
        """Return the elementwise maximum of V_j over the neighbours j of each token; 0 where it has none."""
        batch, heads, queries, most = self.sources.shape
        rows = max(1, _GATHERED_BUDGET // max(1, batch * heads * most * values.shape[-1]))
        parts = []
        for first in range(0, queries, rows):
            some = slice(first, first + rows)
            heard = self._gathered(values, self.sources[:, :, some])
            hidden = heard.masked_fill(~self.kept[:, :, some].unsqueeze(-1), -math.inf)
            parts.append(hidden.amax(3))
        found = torch.cat(parts, dim=2)
        return found.masked_fill(~self.kept.any(-1, keepdim=True), 0.0)

    def longest_and_shortest(
        self,
        values: Float[Tensor, "batch heads keys width"],
        own: Float[Tensor, "batch heads q width"],
        linked: bool,
    ) -> tuple[Float[Tensor, "batch heads q width"], Float[Tensor, "batch heads q width"]]:
        """Return the neighbours' value vectors of largest and of smallest length; its own where a token has none.

        Args:
            values: of all tokens.
            own: of the tokens themselves.
            linked: whether a weight of 1 lies above the threshold at all.
        """
        length = values.float().norm(dim=-1, keepdim=True)
        lengths = self._gathered(length, self.sources).squeeze(-1)
        counted = self.kept if linked else torch.zeros_like(self.kept)
        alone = ~counted.any(-1, keepdim=True)
        chosen = []
        for ranked in (
            lengths.masked_fill(~counted, -math.inf).argmax(-1, keepdim=True),
            lengths.masked_fill(~counted, math.inf).argmin(-1, keepdim=True),
        ):
            source = self.sources.long().gather(-1, ranked)
            picked = values.gather(2, source.expand(*source.shape[:3], values.shape[-1]))
            chosen.append(torch.where(alone, own, picked))
        return chosen[0], chosen[1]

    def _gathered(self, values: Tensor, sources: Tensor) -> Tensor:
        """Return (batch, heads, rows, k, width), the values of each row's sources."""
        batch, heads, rows, most = sources.shape
        places = sources.long().view(batch, heads, rows * most, 1).expand(-1, -1, -1, values.shape[-1])
        return values.gather(2, places).view(batch, heads, rows, most, -1)


@torch.no_grad()
def find_neighbours(
    rows_of: RowsOf,
    mask: Tensor | None,
    shape: tuple[int, int, int, int],
    device: torch.device,
    processing: Processing,
) -> Neighbours:
    """Return the neighbours that a ranked processing keeps, looking at some rows at a time.

    The kept edges weigh 1 whatever the scores were, so scores have no gradient here, as in the whole map.

    Args:
        rows_of: makes the adjacency of some rows.
        mask: as `visible_pairs` takes it.
        shape: batch, heads, queries, keys.
        device: of the result.
        processing: of a ranked kind.
    """
    batch, heads, queries, keys = shape
    rows = max(1, _SCORES_BUDGET // (batch * heads * keys))
    own = torch.arange(keys - queries, keys, device=device)
    parts = []
    for first in range(0, queries, rows):
        some = slice(first, min(first + rows, queries))
        visible = visible_pairs(mask, batch, queries, keys, device, some)
        sources, kept = choose(rows_of(some, visible), visible, processing, own[some])
        parts.append((sources.to(torch.int32), kept))
    most = max(sources.shape[-1] for sources, _ in parts)
    # Earlier rows of a share of predecessors keep fewer.
    sources = torch.cat([functional.pad(s, (0, most - s.shape[-1])) for s, _ in parts], dim=2)
    kept = torch.cat([functional.pad(k, (0, most - k.shape[-1])) for _, k in parts], dim=2)
    return Neighbours(sources, kept, keys)
