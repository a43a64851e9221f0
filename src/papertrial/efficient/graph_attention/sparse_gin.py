"""Sparse-GIN: a small graph network over a frozen model's own attention, as an adapter."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from papertrial.efficient.graph_attention.settings import SparseGinSettings

_COMBINER_WIDTH = 128
_COMBINER_DROPOUT = 0.1
_NORM_EPS = 1e-5
_ACTIVATIONS = {"prelu": nn.PReLU, "relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class SparseGin(nn.Module):
    """The graph network of one layer: λ · RMSNorm(GIN(h, A)), to be added to h.

    Args:
        hidden: size of h.
        heads: attention heads.
        scale: what λ starts at.
        settings: see `SparseGinSettings`.

    Source: arXiv 2501.02393, figure 1B; graph_neural_network.py, llama_decoder_layer_with_gnn.py.
    """

    def __init__(self, hidden: int, heads: int, scale: float, settings: SparseGinSettings) -> None:
        super().__init__()
        self.settings = settings
        width = adapter_width(hidden, settings)
        if settings.combine.startswith("mlp"):
            self.combiner = HeadCombiner(heads, settings.combine.removeprefix("mlp-"))
        self.input_projection = nn.Linear(hidden, width)
        self.activation = _ACTIVATIONS[settings.activation]()
        self.rounds = nn.ModuleList(GinRound(width, settings) for _ in range(settings.layers))
        self.output_projection = nn.Linear(width, hidden)
        self.norm = nn.RMSNorm(hidden, eps=_NORM_EPS)
        self.scale = nn.Parameter(torch.tensor(float(scale)), requires_grad=settings.train_scale)

    def graph(
        self, attention: Float[Tensor, "batch heads q k"], visible: Bool[Tensor, "batch one q k"]
    ) -> Float[Tensor, "batch q k"]:
        """Return the weighted graph: which edges are left, and their weights; 0 where there is none."""
        settings = self.settings
        weights = self._combined(attention.float())
        if settings.distance is not None:
            weights = weights * _distance_weights(weights, settings)
        seen = visible[:, 0]
        weights = weights.masked_fill(~seen, 0.0)
        if settings.sharpness > 0:
            weights = torch.sigmoid(settings.sharpness * (weights - settings.threshold))
        if settings.cut is not None:
            weights = torch.where(weights > settings.cut, weights, torch.zeros_like(weights))
        queries, keys = weights.shape[-2:]
        itself = torch.eye(keys, dtype=torch.bool, device=weights.device)[keys - queries :]
        kept = seen if settings.self_edges else seen & ~itself
        return weights.masked_fill(~(kept & itself if settings.edges == "self" else kept), 0.0)

    def forward(
        self,
        hidden: Float[Tensor, "batch q dim"],
        graph: Float[Tensor, "batch q k"],
        past: list[Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch q dim"], list[Tensor]]:
        """Return what is to be added to `hidden`, and the features of every round, for later tokens.

        Args:
            hidden: of the tokens of this pass.
            graph: their edges to all tokens so far.
            past: for each round, the features (batch, earlier tokens, r) of the tokens before this pass.
        """
        features = self.input_projection(hidden)
        seen: list[Tensor] = []
        for number, one in enumerate(self.rounds):
            everything = features if past is None else torch.cat([past[number], features], dim=1)
            seen.append(everything)
            made = self.activation(cast(GinRound, one)(features, everything, graph, self.activation))
            made = functional.dropout(made, self.settings.dropout, self.training)
            features = made + features if self.settings.residual else made
        return self.scale * self.norm(self.output_projection(features)), seen

    def _combined(self, attention: Tensor) -> Tensor:
        settings = self.settings
        if settings.combine == "sum":
            return attention.sum(1).clamp(max=1.0)
        if settings.combine == "mean":
            return attention.mean(1)
        if settings.combine == "threshold_any":
            return torch.sigmoid((attention - settings.threshold) / settings.temperature).amax(1)
        return cast(Tensor, self.combiner(attention))


class GinRound(nn.Module):
    """One round of messages: m_i = ε·x_i + Σ_j A_ij x_j, then an MLP with m added to its output."""

    def __init__(self, width: int, settings: SparseGinSettings) -> None:
        super().__init__()
        hidden = max(1, int(width * settings.multiplier))
        self.weighted = settings.weighted
        self.own_weight = nn.Parameter(torch.zeros(1))
        self.up = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden) if settings.hidden_norm else nn.Identity()
        self.down = nn.Linear(hidden, width)

    def forward(self, own: Tensor, everything: Tensor, graph: Tensor, activation: nn.Module) -> Tensor:
        """Return (batch, q, r) from the features of this pass's tokens and of all tokens."""
        edges = graph if self.weighted else (graph != 0).to(graph.dtype)
        heard = self.own_weight * own + edges.to(own.dtype) @ everything
        return cast(Tensor, self.down(activation(self.norm(self.up(heard)))) + heard)


class HeadCombiner(nn.Module):
    """Learns one edge weight of each pair from all heads': heads → 128 → 1, sigmoid or softmax over keys."""

    def __init__(self, heads: int, squash: str) -> None:
        super().__init__()
        self.up = nn.Linear(heads, _COMBINER_WIDTH)
        self.down = nn.Linear(_COMBINER_WIDTH, 1)
        self.squash = squash

    def forward(self, attention: Float[Tensor, "batch heads q k"]) -> Float[Tensor, "batch q k"]:
        """Combine the heads of every pair of tokens."""
        hidden = functional.relu(self.up(attention.permute(0, 2, 3, 1)))
        logits = self.down(functional.dropout(hidden, _COMBINER_DROPOUT, self.training)).squeeze(-1)
        return torch.sigmoid(logits) if self.squash == "sigmoid" else logits.softmax(-1)


def adapter_width(hidden: int, settings: SparseGinSettings) -> int:
    """Return r: as set, or a twentieth of the hidden size (the README's 155 of 3,072), at least 1."""
    return settings.width or max(1, round(hidden * 155 / 3072))


def _distance_weights(weights: Tensor, settings: SparseGinSettings) -> Tensor:
    """Return (q, k) factors that grow with the distance of two tokens, the farthest of the text having 1.

    They are relative to the farthest pair so far, so they change when the text grows.
    """
    queries, keys = weights.shape[-2:]
    places = torch.arange(keys, device=weights.device, dtype=torch.float32)
    strength = settings.distance_strength
    distance = (places[keys - queries :, None] - places).abs() * strength
    farthest = torch.tensor((keys - 1) * strength, device=weights.device)
    if settings.distance == "exp":
        return torch.exp(distance - farthest)
    if settings.distance == "sigmoid":
        return torch.sigmoid(distance) / torch.sigmoid(farthest)
    return (distance + 1) ** strength / (farthest + 1) ** strength
