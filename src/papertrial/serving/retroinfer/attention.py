"""One decode step over a wave index: choose clusters, attend the best exactly, estimate the next, merge.

Shapes: H key-value heads, G query heads for each, C clusters, d dimensions; one sequence, one layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.serving.dense import decode_compiled, over_heads, runs_compiled
from papertrial.serving.gathering import gather_rows, run_rows
from papertrial.serving.merging import merge_attention
from papertrial.serving.retroinfer.index import WaveIndex


@dataclass(frozen=True)
class Choice:
    """The clusters one step touches.

    Attributes:
        logits: (H, G, C) scaled products of queries and centroids.
        retrieved: (H, nprobe) clusters to attend exactly, best first.
        estimated: (H, es) clusters to approximate, best first.
    """

    logits: Float[Tensor, "heads group clusters"]
    retrieved: Int[Tensor, "heads retrieved"]
    estimated: Int[Tensor, "heads estimated"]


def choose_clusters(index: WaveIndex, queries: Float[Tensor, "heads group dim"], scale: float) -> Choice:
    """Rank the clusters of each head by the attention that its query heads together would give the centroids.

    The score of a cluster is the sum over query heads of the softmax over *all* centroids; an empty cluster
    gets the lowest number of the format, though it stays in the softmax. Ties: the lower cluster first.

    Source: arXiv 2505.02922; microsoft/RetrievalAttention, cache_hub (sparse_attention).
    """
    logits = torch.einsum("hgd,hcd->hgc", queries, index.centroids).float() * scale
    scores = logits.softmax(-1).sum(1).masked_fill(index.sizes == 0, torch.finfo(torch.float32).min)
    ranked = scores.sort(dim=1, descending=True, stable=True).indices
    last = index.retrieved + index.estimated
    return Choice(logits, ranked[:, : index.retrieved], ranked[:, index.retrieved : last])


def estimate_attention(
    index: WaveIndex, choice: Choice
) -> tuple[Float[Tensor, "heads group dim"], Float[Tensor, "heads group"]]:
    """Attend the estimated clusters by their centroids: s e^(q.C) in the denominator, e^(q.C) W above it.

    s is a cluster's size, W the sum of its values. The exponential is convex, so s e^(q.C) never exceeds the
    sum of the cluster's own exponentials (C is the mean of its keys), and equals it where its keys
    score alike.

    Returns the output and the log of the estimated denominator (-inf where nothing is estimated).

    Source: arXiv 2505.02922 (accuracy-bounded estimation).
    """
    heads, group, _ = choice.logits.shape
    listed = choice.estimated
    logits = choice.logits.gather(2, listed.unsqueeze(1).expand(heads, group, listed.shape[1]))
    sizes = index.sizes.gather(1, listed).unsqueeze(1).float()
    log_sum_exp = (logits + sizes.log()).logsumexp(-1)
    shift = torch.where(log_sum_exp.isneginf(), torch.zeros_like(log_sum_exp), log_sum_exp)
    weights = (logits - shift.unsqueeze(-1)).exp().masked_fill(sizes == 0, 0.0)
    value_sums = gather_rows(index.value_sums, listed)
    return weights @ value_sums.float(), log_sum_exp


def exact_attention(
    queries: Float[Tensor, "heads group dim"],
    keys: Float[Tensor, "heads tokens dim"],
    values: Float[Tensor, "heads tokens dim"],
    counts: Int[Tensor, " heads"] | None,
    scale: float,
) -> tuple[Float[Tensor, "heads group dim"], Float[Tensor, "heads group"]]:
    """Attend exactly, in float32, over each head's first `counts` tokens; returns log-sum-exp too."""
    logits = torch.einsum("hgd,htd->hgt", queries, keys).float() * scale
    if counts is not None:
        padding = torch.arange(keys.shape[1], device=keys.device) >= counts.view(-1, 1, 1)
        logits = logits.masked_fill(padding, -math.inf)
    log_sum_exp = logits.logsumexp(-1)
    shift = torch.where(log_sum_exp.isneginf(), torch.zeros_like(log_sum_exp), log_sum_exp)
    return (logits - shift.unsqueeze(-1)).exp() @ values.float(), log_sum_exp


@runtime_checkable
class RowSource(Protocol):
    """Where the tokens of retrieved clusters come from; `start` and `finish` lie as far apart as they can."""

    def start(self, choice: Choice) -> None:
        """Begin to bring the tokens of choice.retrieved."""

    def finish(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys (H, tokens, d), values, and how many of the tokens are real for each head."""

    def release(self) -> None:
        """Say that attention over the tokens has been launched."""


class _ResidentRows:
    """Tokens that lie beside the queries: gathered when they are needed."""

    def __init__(self, index: WaveIndex) -> None:
        self._index = index

    def start(self, choice: Choice) -> None:
        index = self._index
        self._rows, self._counts = run_rows(
            index.starts.gather(1, choice.retrieved).long(), index.sizes.gather(1, choice.retrieved).long()
        )

    def finish(self) -> tuple[Tensor, Tensor, Tensor]:
        return (
            gather_rows(self._index.keys, self._rows),
            gather_rows(self._index.values, self._rows),
            self._counts,
        )

    def release(self) -> None:
        del self._rows, self._counts


def tripartite_attention(
    index: WaveIndex,
    queries: Float[Tensor, "heads group dim"],
    steady_keys: Float[Tensor, "heads steady dim"],
    steady_values: Float[Tensor, "heads steady dim"],
    scale: float,
    backend: str = "auto",
    buffer: RowSource | None = None,
) -> Float[Tensor, "heads group dim"]:
    """Attend exactly over the steady zone and the retrieved clusters, approximately over the estimated ones.

    The clusters outside both are ignored. The result has the queries' dtype. With `buffer` the retrieved
    tokens come through it (they lie in another memory than the queries); the compiled loops then
    have no part.

    Source: arXiv 2505.02922 (tripartite attention).
    """
    can_compile = buffer is None and runs_compiled(queries, index.keys, steady_keys, steady_values)
    if backend == "compiled" and not can_compile:
        raise BadInputError(
            "the compiled backend needs float32 on a CPU, no gradient and no wave buffer, "
            f"got {queries.dtype} on {queries.device}; use backend 'auto' or 'torch'"
        )
    if backend != "torch" and can_compile:
        return _compiled_step(index, queries, steady_keys, steady_values, scale)
    choice = choose_clusters(index, queries, scale)
    source = buffer if buffer is not None else _ResidentRows(index)
    source.start(choice)
    steady = exact_attention(queries, steady_keys, steady_values, None, scale)
    estimate = estimate_attention(index, choice)
    retrieved = exact_attention(queries, *source.finish(), scale)
    source.release()
    parts = (steady, retrieved, estimate)
    out, _ = merge_attention(torch.stack([o for o, _ in parts]), torch.stack([lse for _, lse in parts]))
    return out.to(queries.dtype)


def attend_all(
    queries: Float[Tensor, "heads group dim"],
    keys: Float[Tensor, "heads tokens dim"],
    values: Float[Tensor, "heads tokens dim"],
    scale: float,
    backend: str = "auto",
) -> Float[Tensor, "heads group dim"]:
    """Attend exactly over all tokens of one sequence, by the same compiled loop where it can run."""
    if backend != "torch" and runs_compiled(queries, keys, values):
        return decode_compiled(queries[None], keys[None], values[None], scale)[0][0]
    return exact_attention(queries, keys, values, None, scale)[0].to(queries.dtype)


def retrieved_tokens(index: WaveIndex, choice: Choice) -> int:
    """Return the tokens in the retrieved clusters, summed over heads."""
    return int(index.sizes.gather(1, choice.retrieved).sum())


def _compiled_step(
    index: WaveIndex, queries: Tensor, steady_keys: Tensor, steady_values: Tensor, scale: float
) -> Tensor:
    from papertrial.serving.retroinfer.kernels import step_of_one_head

    scaled = (queries * scale).contiguous()
    out = torch.empty_like(scaled)
    arrays = [
        t.numpy()
        for t in (
            scaled,
            index.centroids,
            index.value_sums,
            index.sizes,
            index.starts,
            index.keys,
            index.values,
            steady_keys,
            steady_values,
            out,
        )
    ]

    def step(pair: tuple[int, int]) -> None:
        step_of_one_head(*(array[pair[1]] for array in arrays), index.retrieved, index.estimated)

    over_heads(step, [(0, head) for head in range(queries.shape[0])])
    return out
