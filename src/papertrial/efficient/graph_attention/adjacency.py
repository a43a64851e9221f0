"""Attention scores as a graph: which token hears which, and how loudly.

Legend: B sequences, h heads, q queries, k keys; A[i, j] is the weight of the edge from token j to token i.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from papertrial.errors import BadInputError, unknown

_STEEP = 10.0  # β of the sharp softplus and of the elementwise sigmoid
_TOP_SHARE = 0.1
_DENSE_TOKENS = 2048
_EVERY_ROW = slice(None)
_HIDDEN = -1e4  # an additive mask below this hides a pair


@dataclass(frozen=True)
class Processing:
    """What becomes of an adjacency after the softmax.

    Attributes:
        kind: one of `PROCESSINGS`; `none` leaves it as it is.
        threshold: t of those that have one.
        above: the weight b of `silu+binary`'s steps.
        share: of the sequence (`top_k`) or of a token's predecessors (`scaled_topk_causal_4d`) that is kept.
        dense_up_to: tokens up to which a ranked kind (the two of `share`) makes the whole map. For longer
            texts only the neighbours that are kept are held, some rows' scores at a time; see `Neighbours`.

    Raises:
        BadInputError: an unknown kind, a threshold above 1, or a share outside (0, 1].

    Source: lamm-mit/Graph-Aware-Transformers, Attention_GNN.py (arXiv 2501.02393).
    """

    kind: str = "none"
    threshold: float = 0.2
    above: float = 1.0
    share: float = _TOP_SHARE
    dense_up_to: int = _DENSE_TOKENS

    def __post_init__(self) -> None:
        if self.kind not in PROCESSINGS:
            raise unknown("adjacency processing", self.kind, PROCESSINGS)
        if not self.threshold <= 1:
            raise BadInputError(
                f"threshold must be at most 1, the largest weight of an edge, got {self.threshold}"
            )
        if not 0 < self.share <= 1:
            raise BadInputError(f"share must lie above 0 and not above 1, got {self.share}")
        if self.dense_up_to < 0:
            raise BadInputError(f"dense_up_to must be at least 0 tokens, got {self.dense_up_to}")

    def gathers(self, keys: int) -> bool:
        """Say whether a text of so many tokens is processed as lists of neighbours."""
        return self.kind in RANKED and keys > self.dense_up_to

    @property
    def depends_on_length(self) -> bool:
        """Whether a row changes when the sequence grows, so that cached decoding differs from one pass."""
        return self.kind == "top_k"


def visible_pairs(
    mask: Tensor | None,
    batch: int,
    queries: int,
    keys: int,
    device: torch.device,
    rows: slice = _EVERY_ROW,
) -> Bool[Tensor, "batch one q k"]:
    """Return which key each query may see: what the mask lets through, and never a later token.

    Args:
        mask: as transformers hands it to an attention module: None (causal, no padding), bool (True is
            seen) or additive float, (batch, 1 or heads, q, at least k).
        batch: sequences.
        queries: rows; they are the last `queries` of the `keys` tokens.
        keys: tokens so far, those from a cache included.
        device: of the result.
        rows: of these queries alone.

    Raises:
        BadInputError: a mask of another form, such as flash attention's.
    """
    own = torch.arange(keys - queries, keys, device=device)[rows]
    causal = torch.arange(keys, device=device) <= own.unsqueeze(1)
    if mask is None:
        return causal.expand(batch, 1, *causal.shape)
    if not isinstance(mask, Tensor) or mask.ndim != 4:
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise BadInputError(
            f"graph attention needs a mask of (batch, heads, queries, keys), got {shape}; load the model with "
            "attn_implementation='eager' or 'sdpa'"
        )
    seen = mask[:, :1, rows, :keys]
    if seen.dtype != torch.bool:
        seen = seen > _HIDDEN
    return (seen & causal).expand(batch, 1, *causal.shape)


def softmax_adjacency(
    scores: Float[Tensor, "batch heads q k"],
    visible: Bool[Tensor, "batch one q k"],
    sharpness: Tensor | float = 1.0,
    temperature: float = 1.0,
) -> Float[Tensor, "batch heads q k"]:
    """Return softmax(α · scores / τ) over what each query sees, in float32; a row that sees nothing is 0.

    Raises:
        BadInputError: a temperature that is not above 0.

    Source: arXiv 2501.02393; Attention_GNN.py, LlamaAttentionGIN.
    """
    if not temperature > 0:
        raise BadInputError(f"temperature must be above 0, got {temperature}")
    logits = scores.float()
    if isinstance(sharpness, Tensor) or sharpness != 1:
        logits = logits * sharpness
    if temperature != 1:
        logits = logits / temperature
    weights = logits.masked_fill(~visible, -math.inf).softmax(-1)
    if visible.any(-1).all():
        return weights  # a hidden pair's weight is 0 already
    return weights.masked_fill(~visible, 0.0)  # a row without anything to see is NaN


def process(
    adjacency: Float[Tensor, "batch heads q k"],
    visible: Bool[Tensor, "batch one q k"],
    processing: Processing,
    threshold: Tensor | None = None,
) -> Float[Tensor, "batch heads q k"]:
    """Return the processed adjacency: 0 where nothing is visible, the diagonal kept.

    Args:
        adjacency: weights in [0, 1] (or differences of such).
        visible: see `visible_pairs`; what is not visible counts for nothing, not even in a ranking.
        processing: which, and its numbers.
        threshold: a trainable t in place of `processing.threshold`.

    Source: Attention_GNN.py of the released code, as listed in the paper's SI.
    """
    if processing.kind == "none":
        return adjacency
    level = processing.threshold if threshold is None else threshold
    made = PROCESSINGS[processing.kind](adjacency, visible, level, processing)
    return made.masked_fill(~visible, 0.0)


Process = Callable[[Tensor, Tensor, Tensor | float, Processing], Tensor]


Chosen = tuple[Tensor, Tensor]
"""The neighbours of a ranking, (batch, heads, q, k): where they are, and which of them count."""


def _top_k(A: Tensor, visible: Tensor, t: Tensor | float, p: Processing, own: Tensor) -> Chosen:
    count = max(int(p.share * A.shape[-1]), 1)
    sources = A.masked_fill(~visible, -math.inf).topk(count, dim=-1).indices
    return sources, visible.expand_as(A).gather(-1, sources)


def _scaled_top_k(A: Tensor, visible: Tensor, t: Tensor | float, p: Processing, own: Tensor) -> Chosen:
    itself = torch.arange(A.shape[-1], device=A.device) == own.unsqueeze(1)
    before = (visible & ~itself).expand_as(A)
    counts = (p.share * before.sum(-1)).ceil().clamp(min=1)
    ranked = A.masked_fill(~before | (t > A), -math.inf)
    most = min(int(counts.max()), A.shape[-1])
    # The sort is stable, so that ties go to the earlier token.
    values, sources = ranked.sort(dim=-1, descending=True, stable=True)
    places = torch.arange(most, device=A.device)
    kept = (places < counts.unsqueeze(-1)) & values[..., :most].isfinite()
    return sources[..., :most], kept


RANKED: Mapping[str, Callable[[Tensor, Tensor, Tensor | float, Processing, Tensor], Chosen]] = {
    "top_k": _top_k,
    "scaled_topk_causal_4d": _scaled_top_k,
}
"""The processings that keep some neighbours of each token, each with weight 1."""


def choose(
    adjacency: Float[Tensor, "batch heads q k"],
    visible: Bool[Tensor, "batch one q k"],
    processing: Processing,
    own: Int[Tensor, " q"],
) -> tuple[Int[Tensor, "batch heads q kept"], Bool[Tensor, "batch heads q kept"]]:
    """Return the neighbours that a ranked processing keeps of each token, and which of them count.

    Args:
        adjacency: of some rows.
        visible: of the same rows.
        processing: of one of the kinds in `RANKED`.
        own: which token each row is.
    """
    return RANKED[processing.kind](adjacency, visible, processing.threshold, processing, own)


def _ranked(kind: str) -> Process:
    def made(A: Tensor, visible: Tensor, t: Tensor | float, p: Processing) -> Tensor:
        queries, keys = A.shape[-2:]
        own = torch.arange(keys - queries, keys, device=A.device)
        sources, kept = RANKED[kind](A, visible, t, p, own)
        return torch.zeros_like(A).scatter_(-1, sources, kept.to(A.dtype))

    return made


def _flow(A: Tensor, visible: Tensor, t: Tensor | float, p: Processing) -> Tensor:
    return torch.sigmoid(5 * A) * torch.sigmoid(50 * (A - t))


def _below(smooth: Callable[[Tensor], Tensor]) -> Process:
    def made(A: Tensor, visible: Tensor, t: Tensor | float, p: Processing) -> Tensor:
        return torch.where(t >= A, smooth(A - t), torch.ones_like(A))

    return made


PROCESSINGS: Mapping[str, Process] = {
    "none": lambda A, visible, t, p: A,
    "silu": lambda A, visible, t, p: functional.silu(A - t),
    "relu": lambda A, visible, t, p: functional.relu(A - t),
    "softplus": lambda A, visible, t, p: functional.softplus(A - t),
    "sharp_softplus": lambda A, visible, t, p: functional.softplus(_STEEP * (A - t)) / _STEEP,
    "sigmoid_elementwise": lambda A, visible, t, p: torch.sigmoid(_STEEP * (A - t)),
    "flowthreshold": _flow,
    "binary": lambda A, visible, t, p: (t < A).to(A.dtype),
    "top_k": _ranked("top_k"),
    "scaled_topk_causal_4d": _ranked("scaled_topk_causal_4d"),
    "silu+binary": lambda A, visible, t, p: functional.silu(A - t) + p.above * (t < A).to(A.dtype),
    "silu_below_binary_above": _below(functional.silu),
    "relu_below_binary_above": _below(functional.relu),
    "softplus_below_binary_above": _below(functional.softplus),
}
