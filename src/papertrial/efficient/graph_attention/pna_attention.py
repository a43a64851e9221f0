"""PNA-Attention: principal neighbourhood aggregation over the attention graph, in place of self-attention."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Cache

from papertrial.efficient.graph_attention.adjacency import softmax_adjacency, visible_pairs
from papertrial.efficient.graph_attention.aggregates import (
    largest_of_neighbours,
    longest_and_shortest,
    sum_mean_and_variance,
)
from papertrial.efficient.graph_attention.attention import GraphAttention, Thresholded
from papertrial.efficient.graph_attention.neighbours import Neighbours, find_neighbours
from papertrial.efficient.graph_attention.networks import PnaNetwork
from papertrial.efficient.graph_attention.settings import PnaSettings


class PnaAttention(GraphAttention):
    """Heads that map four aggregates of their neighbours' values.

    Sum, mean, maximum and variance (in the language model form: mean, longest, variance and shortest value)
    over the processed adjacency, joined and mapped for each head, then `o_proj`. Key-value heads may be
    fewer than heads: they are shared, as in the attention that is replaced.

    Args:
        replaced: the decoder layer's own attention.
        layer: its index.
        settings: see `PnaSettings`.

    Source: arXiv 2501.02393; Attention_GNN.py, LlamaAttentionPNA and LlamaAttentionPNA_LM.
    """

    def __init__(self, replaced: nn.Module, layer: int, settings: PnaSettings) -> None:
        super().__init__(replaced, layer)
        self.settings = settings
        self.shared: int = self.config.num_key_value_heads
        outputs, bias = self.heads * self.width, self.has_bias
        self.q_proj = nn.Linear(self.hidden, outputs, bias=bias)
        self.k_proj = nn.Linear(self.hidden, self.shared * self.width, bias=bias)
        self.v_proj = nn.Linear(self.hidden, self.shared * self.width, bias=bias)
        self.thresholded = Thresholded(settings.processing, settings.train_threshold)
        self.network = PnaNetwork(
            self.heads, self.width, settings.multiplier, getattr(self.config, "mlp_bias", False)
        )
        self.o_proj = nn.Linear(outputs, self.hidden, bias=bias)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor | Neighbours]:
        """Return the layer's output (batch, tokens, dim) and the adjacency before processing.

        Of a long text under a ranked processing there is no such map; then the neighbours that are kept.

        Raises:
            BadInputError: a cache that holds tokens, under a processing that depends on the length.
        """
        batch, queries, _dim = hidden_states.shape
        own = self.project(self.v_proj, hidden_states)
        query, key = self.turned(self.q_proj, self.k_proj, hidden_states, position_embeddings)
        key, value = (self._spread(x) for x in self.remember(past_key_values, key, own))
        keys, device = key.shape[2], hidden_states.device
        self.thresholded.check_cache(queries, keys)
        graph: Tensor | Neighbours

        def rows_of(rows: slice, visible: Tensor) -> Tensor:
            return self._weights(query[:, :, rows] @ key.transpose(2, 3) * self.scaling, visible)

        if self.settings.processing.gathers(keys):
            shape = (batch, self.heads, queries, keys)
            graph = find_neighbours(rows_of, attention_mask, shape, device, self.settings.processing)
            taken = self._of_neighbours(graph, value, self._spread(own))
        else:
            visible = visible_pairs(attention_mask, batch, queries, keys, device)
            graph = rows_of(slice(None), visible)
            taken = self._aggregates(self.thresholded(graph, visible), value, self._spread(own))
        mapped = self._mapped(taken, hidden_states.dtype)
        return self.o_proj(mapped.transpose(1, 2).reshape(batch, queries, -1)), graph

    def _weights(self, scores: Tensor, visible: Tensor) -> Tensor:
        if self.settings.weights == "softmax":
            return softmax_adjacency(scores, visible)
        return functional.relu(scores.float()).masked_fill(~visible, 0.0)

    def _aggregates(self, edges: Tensor, value: Tensor, own: Tensor) -> list[Tensor]:
        total, mean, variance = sum_mean_and_variance(edges, value)
        if self.settings.language_model:
            linked = edges > self.settings.processing.threshold
            longest, shortest = longest_and_shortest(linked, value, own)
            return [mean, longest, variance, shortest]
        linked = edges > 0
        if self.settings.max_over == "own":
            largest = own.masked_fill(~linked.any(-1, keepdim=True), 0.0)
        else:
            largest = largest_of_neighbours(linked, value)
        return [total, mean, largest, variance]

    def _of_neighbours(self, graph: Neighbours, value: Tensor, own: Tensor) -> list[Tensor]:
        """Return the same aggregates over lists of neighbours, all of weight 1."""
        value = value.float()
        total, squares = graph.sum(value), graph.sum(value.square())
        mean = total / graph.degrees()
        variance = (squares / graph.degrees() - mean.square()).clamp(min=0)
        if self.settings.language_model:
            linked = self.settings.processing.threshold < 1
            longest, shortest = graph.longest_and_shortest(value, own.float(), linked)
            return [mean, longest, variance, shortest]
        if self.settings.max_over == "own":
            largest = own.masked_fill(~graph.kept.any(-1, keepdim=True), 0.0)
        else:
            largest = graph.largest(value)
        return [total, mean, largest, variance]

    def _mapped(self, taken: list[Tensor], dtype: torch.dtype) -> Tensor:
        """Return what the heads' networks make of the aggregates."""
        # Joined with the heads in front, as the product over heads reads them: one copy fewer.
        joined = torch.cat([one.transpose(0, 1) for one in taken], dim=-1)
        return cast(Tensor, self.network(joined.transpose(0, 1).to(dtype)))

    def _spread(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.heads // self.shared, dim=1) if self.shared < self.heads else x
