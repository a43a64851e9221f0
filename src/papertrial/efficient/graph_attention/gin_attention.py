"""GIN-Attention: a graph isomorphism network over the attention graph, in place of self-attention."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import Cache

from papertrial.efficient.graph_attention.adjacency import softmax_adjacency, visible_pairs
from papertrial.efficient.graph_attention.attention import GraphAttention, Thresholded
from papertrial.efficient.graph_attention.neighbours import Neighbours, RowsOf, find_neighbours
from papertrial.efficient.graph_attention.networks import GinNetwork
from papertrial.efficient.graph_attention.settings import GinSettings, differential_start
from papertrial.errors import BadInputError

_PAIRS_BUDGET = 1 << 23  # numbers held at once by the scoring network


class GinAttention(GraphAttention):
    """Heads that pass the hidden state itself along the attention graph, through a GIN each.

    There is no value projection: the features of a token are its hidden state cut into heads. For each head
    z = ε · x + A x, then an MLP (`GinNetwork`); heads are joined, and mixed by `o_proj` if asked.

    A pass with a cache gives what one pass over the whole text gives; under the `top_k` processing, whose k
    grows with the text, a cache that holds tokens is refused. Under ranked processings a text longer than
    `dense_up_to` is never made into a whole map: see `Neighbours`.

    Args:
        replaced: the decoder layer's own attention.
        layer: its index.
        settings: see `GinSettings`.

    Raises:
        BadInputError: fewer key-value heads than heads, or hidden states that heads do not divide.

    Source: arXiv 2501.02393, figure 1; lamm-mit/Graph-Aware-Transformers, Attention_GNN.py,
    LlamaAttentionGIN.
    """

    def __init__(self, replaced: nn.Module, layer: int, settings: GinSettings) -> None:
        super().__init__(replaced, layer)
        shared = self.config.num_key_value_heads
        if shared != self.heads:
            raise BadInputError(
                f"GIN-Attention has no value projection to share: it needs as many key-value heads as heads, and "
                f"this model has {shared} for {self.heads}; use PnaAttention or the Sparse-GIN adapter"
            )
        self.settings = settings
        outputs, bias = self.heads * self.width, self.has_bias
        if settings.scoring == "mlp":
            self.scorer = PairScorer(self.hidden, settings.scoring_width, self.heads)
        else:
            self.q_proj = nn.Linear(self.hidden, outputs, bias=bias)
            self.k_proj = nn.Linear(self.hidden, outputs, bias=bias)
            start = settings.sharpness
            alpha = torch.empty(()).uniform_(0.5, 1.5) if start is None else torch.tensor(float(start))
            self.sharpness = nn.Parameter(alpha, requires_grad=settings.train_sharpness)
        if settings.scoring == "differential":
            self.second_q_proj = nn.Linear(self.hidden, outputs, bias=bias)
            self.second_k_proj = nn.Linear(self.hidden, outputs, bias=bias)
            self.share = nn.Parameter(torch.tensor(differential_start(layer, settings)))
            if settings.group_norm is not None:
                self.row_norm = RowNorm(self.heads)
        self.thresholded = Thresholded(settings.processing, settings.train_threshold)
        self.own_weight = nn.Parameter(torch.zeros(self.heads, 1, 1))
        self.network = GinNetwork(
            self.heads, self.feature_width, settings.multiplier, settings.dropout, self.config.rms_norm_eps
        )
        if settings.output_projection:
            self.o_proj = nn.Linear(self.hidden, self.hidden, bias=bias)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor | Neighbours]:
        """Return the layer's output (batch, tokens, dim) and the processed adjacency (batch, heads, q, k).

        Raises:
            BadInputError: a cache that holds tokens, under a processing that depends on the length.
        """
        batch, queries, _dim = hidden_states.shape
        own = self.cut_features(hidden_states)
        rows_of, features = self._rows(hidden_states, own, position_embeddings, past_key_values)
        keys = features.shape[2]
        self.thresholded.check_cache(queries, keys)
        graph: Tensor | Neighbours
        if self.settings.processing.gathers(keys):
            shape = (batch, self.heads, queries, keys)
            graph = find_neighbours(
                rows_of, attention_mask, shape, hidden_states.device, self.settings.processing
            )
            messages = graph.sum(features, self.settings.adjacency_dropout, self.training)
        else:
            visible = visible_pairs(attention_mask, batch, queries, keys, hidden_states.device)
            graph = edges = self.thresholded(rows_of(slice(None), visible), visible)
            weights = functional.dropout(edges, self.settings.adjacency_dropout, self.training)
            messages = weights.to(own.dtype) @ features
        heard = self.own_weight * own + messages
        joined = self.network(heard).transpose(1, 2).reshape(batch, queries, self.hidden)
        return (self.o_proj(joined) if self.settings.output_projection else joined), graph

    def _rows(
        self, hidden: Tensor, own: Tensor, position_embeddings: tuple[Tensor, Tensor], cache: Cache | None
    ) -> tuple[RowsOf, Tensor]:
        """Return what makes the adjacency of some rows, and the features of all tokens so far."""
        if self.settings.scoring == "mlp":
            # The scorer reads features alone; a cache wants keys, so it gets the narrowest there are.
            _, features = self.remember(cache, own[..., :1], own)
            tokens = features.transpose(1, 2).reshape(len(hidden), -1, self.hidden)
            return lambda rows, visible: softmax_adjacency(
                self.scorer(hidden[:, rows], tokens), visible
            ), features
        pairs = [(self.q_proj, self.k_proj)]
        if self.settings.scoring == "differential":
            pairs.append((self.second_q_proj, self.second_k_proj))
        turned = [self.turned(q, k, hidden, position_embeddings) for q, k in pairs]
        keys, features = self.remember(cache, torch.cat([k for _, k in turned], dim=-1), own)
        both = [(q, k) for (q, _), k in zip(turned, keys.split(self.width, dim=-1), strict=True)]
        return lambda rows, visible: self._softmaxes(both, rows, visible), features

    def _softmaxes(self, both: list[tuple[Tensor, Tensor]], rows: slice, visible: Tensor) -> Tensor:
        """Return the adjacency of some rows: a softmax of dot products, or the difference of two."""
        first, *rest = [
            softmax_adjacency(
                q[:, :, rows] @ k.transpose(2, 3) * self.scaling,
                visible,
                self.sharpness,
                self.settings.temperature,
            )
            for q, k in both
        ]
        if not rest:
            return first
        adjacency = first - self.share * rest[0]
        if self.settings.group_norm is not None:
            kept = 1 - differential_start(self.layer_idx, self.settings)
            adjacency = kept * self.row_norm(adjacency, visible)
        return adjacency


class PairScorer(nn.Module):
    """A score for every pair of tokens: Linear(2D → width) → SiLU → Linear(width → heads) on [x_i, x_j].

    The first map of a pair is the sum of a map of each of the two, so it is made once for each token; only
    SiLU and the second map see all pairs, some rows at a time.

    Source: Attention_GNN.py (scoring function); i receives, j is the neighbour.
    """

    def __init__(self, hidden: int, width: int, heads: int) -> None:
        super().__init__()
        self.up = nn.Linear(2 * hidden, width)
        self.down = nn.Linear(width, heads)

    def forward(
        self, receivers: Float[Tensor, "batch q dim"], neighbours: Float[Tensor, "batch k dim"]
    ) -> Float[Tensor, "batch heads q k"]:
        """Return one score for each head and pair."""
        dim, width = receivers.shape[2], self.up.out_features
        mine = functional.linear(receivers, self.up.weight[:, :dim], self.up.bias)
        theirs = functional.linear(neighbours, self.up.weight[:, dim:])
        rows = max(1, _PAIRS_BUDGET // (receivers.shape[0] * neighbours.shape[1] * width))
        parts = [
            self.down(functional.silu(some.unsqueeze(2) + theirs.unsqueeze(1)))
            for some in mine.split(rows, dim=1)
        ]
        return torch.cat(parts, dim=1).permute(0, 3, 1, 2)


class RowNorm(nn.Module):
    """Normalises each row of each head over the entries it sees, with a gain and a bias for each head.

    The released group norm takes its mean and variance over the whole map, so that a row depends on rows of
    later tokens; this one does not.
    """

    def __init__(self, heads: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, 1, 1))
        self.bias = nn.Parameter(torch.zeros(heads, 1, 1))
        self.eps = eps

    def forward(
        self, adjacency: Float[Tensor, "batch heads q k"], visible: Bool[Tensor, "batch one q k"]
    ) -> Float[Tensor, "batch heads q k"]:
        """Return the normalised rows, 0 where nothing is visible."""
        count = visible.sum(-1, keepdim=True).clamp(min=1)
        mean = adjacency.sum(-1, keepdim=True) / count
        centred = (adjacency - mean).masked_fill(~visible, 0.0)
        variance = centred.square().sum(-1, keepdim=True) / count
        normed = centred * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normed.masked_fill(~visible, 0.0)
