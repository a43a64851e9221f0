"""What principal neighbourhood aggregation takes from a token's neighbours: sum, mean, maximum, spread."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_ROWS_BUDGET = 1 << 22  # numbers held at once by the maximum over neighbours


def degrees(adjacency: Float[Tensor, "batch heads q k"]) -> Float[Tensor, "batch heads q one"]:
    """Return Σ_j A_ij in float32, 1 where it is exactly 0."""
    total = adjacency.float().sum(-1, keepdim=True)
    return torch.where(total == 0, torch.ones_like(total), total)


def sum_mean_and_variance(
    adjacency: Float[Tensor, "batch heads q k"], values: Float[Tensor, "batch heads k width"]
) -> tuple[
    Float[Tensor, "batch heads q width"],
    Float[Tensor, "batch heads q width"],
    Float[Tensor, "batch heads q width"],
]:
    """Return A V, A V / deg and max(A V² / deg − mean², 0), in float32, from one product."""
    adjacency, values, count = adjacency.float(), values.float(), degrees(adjacency)
    total, squares = (adjacency @ torch.cat([values, values.square()], dim=-1)).chunk(2, dim=-1)
    mean = total / count
    return total, mean, (squares / count - mean.square()).clamp(min=0)


def largest_of_neighbours(
    linked: Bool[Tensor, "batch heads q k"], values: Float[Tensor, "batch heads k width"]
) -> Float[Tensor, "batch heads q width"]:
    """Return the elementwise maximum of V_j over the neighbours j of each token; 0 where it has none.

    Where everybody hears all earlier tokens (any softmax without padding) it is a running maximum. Else
    float32 on the CPU goes through a compiled loop, and all other tensors some rows at a time: all at once
    would need (q, k, width) numbers a head. The released code gives −∞ for a token without neighbours, and
    NaN after it.
    """
    batch, heads, queries, keys = linked.shape
    if _is_causal(linked):
        return values.cummax(2).values[:, :, keys - queries :]
    if values.device.type == "cpu" and values.dtype == torch.float32:
        from papertrial.efficient.graph_attention.largest_kernels import LargestOfNeighbours  # loads numba

        found = LargestOfNeighbours.apply(linked.flatten(0, 1), values.flatten(0, 1))
        return found.view(batch, heads, queries, values.shape[-1])
    return _largest_by_rows(linked, values)


def _largest_by_rows(linked: Tensor, values: Tensor) -> Tensor:
    """Return what `largest_of_neighbours` returns, by torch alone."""
    batch, heads, _, keys = linked.shape
    rows = max(1, _ROWS_BUDGET // max(1, batch * heads * keys * values.shape[-1]))
    parts = []
    for some in linked.split(rows, dim=2):
        spread = torch.where(some.unsqueeze(-1), values.unsqueeze(2), -math.inf)
        parts.append(spread.amax(3))
    found = torch.cat(parts, dim=2)
    return torch.where(linked.any(-1, keepdim=True), found, torch.zeros_like(found))


def _is_causal(linked: Tensor) -> bool:
    queries, keys = linked.shape[-2:]
    everything = torch.ones(queries, keys, dtype=torch.bool, device=linked.device).tril(keys - queries)
    return torch.equal(linked, everything.expand_as(linked))


def longest_and_shortest(
    linked: Bool[Tensor, "batch heads q k"],
    values: Float[Tensor, "batch heads k width"],
    own: Float[Tensor, "batch heads q width"],
) -> tuple[Float[Tensor, "batch heads q width"], Float[Tensor, "batch heads q width"]]:
    """Return, of each token's neighbours, the value vectors of largest and of smallest length.

    A token without a neighbour has its own value for both. (Where the released code finds a degree but no
    neighbour above the threshold it takes the value of token 0.)

    Source: Attention_GNN.py, LlamaAttentionPNA_LM.
    """
    length = values.float().norm(dim=-1).unsqueeze(2).expand(linked.shape)
    alone = ~linked.any(-1, keepdim=True)
    chosen = []
    for places in (
        length.masked_fill(~linked, -math.inf).argmax(-1),
        length.masked_fill(~linked, math.inf).argmin(-1),
    ):
        picked = values.gather(2, places.unsqueeze(-1).expand(*places.shape, values.shape[-1]))
        chosen.append(torch.where(alone, own, picked))
    return chosen[0], chosen[1]
