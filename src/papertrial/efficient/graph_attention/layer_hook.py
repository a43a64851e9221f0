"""The graph network at work inside a decoder layer: hooks, the weights beside sdpa, and the cache."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import repeat_kv

from papertrial.efficient.graph_attention.adjacency import softmax_adjacency, visible_pairs
from papertrial.efficient.graph_attention.attention import rotation_of
from papertrial.efficient.graph_attention.sparse_gin import SparseGin
from papertrial.errors import BadInputError


class LayerHook:
    """Runs the graph network inside one decoder layer's forward pass.

    Attributes:
        last_graph: (batch, q, k) the graph of the last pass.
    """

    def __init__(self, layer: nn.Module, network: SparseGin, number: int, layers: int) -> None:
        self.network, self.number, self.layers = network, number, layers
        self.attention = cast(nn.Module, layer.self_attn)
        self.residual: Tensor | None = None
        self.graph: Tensor | None = None
        self.cache: Cache | None = None
        self.last_graph = torch.empty(0)
        placement = network.settings.placement
        # Every hook sits inside the layer's forward pass, which activation checkpointing runs again.
        self.handles = [
            cast(nn.Module, layer.input_layernorm).register_forward_pre_hook(self._enter),
            self.attention.register_forward_hook(self._attended, with_kwargs=True),
        ]
        if placement != "before_mlp":
            self.handles += [
                cast(nn.Module, layer.post_attention_layernorm).register_forward_pre_hook(self._enter),
                cast(nn.Module, layer.mlp).register_forward_hook(
                    self._beside if placement == "parallel" else self._after
                ),
            ]

    def remove(self) -> None:
        """Leave the layer as it was."""
        for handle in self.handles:
            handle.remove()

    def _enter(self, norm: nn.Module, args: tuple[Any, ...]) -> None:
        self.residual = args[0]  # what a norm reads is what its block is added to

    def _attended(
        self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        out, weights = output
        hidden = args[0] if args else kwargs["hidden_states"]
        cache = kwargs.get("past_key_values")
        queries = hidden.shape[1]
        keys = queries if cache is None else _tokens_held(cache, attention)
        if weights is not None and weights.shape[-1] > keys:
            raise BadInputError(
                "Sparse-GIN works with caches that grow (DynamicCache), not with preallocated ones; generate "
                "with cache_implementation='dynamic'"
            )
        visible = visible_pairs(kwargs.get("attention_mask"), hidden.shape[0], queries, keys, hidden.device)
        if self.network.settings.side_path:
            weights = side_path_weights(attention, hidden, visible, kwargs["position_embeddings"], cache)
        elif weights is None:
            raise BadInputError("the attention gave no weights; set side_path=True, or use eager attention")
        self.cache, self.graph = cache, self.network.graph(weights, visible)
        self.last_graph = self.graph.detach()
        if self.network.settings.placement != "before_mlp":
            return None
        residual = cast(Tensor, self.residual)
        return out + self._added(residual + out), weights

    def _beside(self, mlp: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + self._added(args[0])

    def _after(self, mlp: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + self._added(cast(Tensor, self.residual) + output)

    def _added(self, hidden: Tensor) -> Tensor:
        past = None if self.cache is None else self._past()
        added, features = self.network(hidden, cast(Tensor, self.graph), past)
        if self.cache is not None:
            self._remember(features, hidden.shape[1])
        self.residual = self.graph = self.cache = None
        return added

    def _places(self) -> range:
        """Return where the rounds' features lie among the cache's layers: behind those of the model."""
        rounds = self.network.settings.layers
        return range(self.layers + self.number * rounds, self.layers + (self.number + 1) * rounds)

    def _past(self) -> list[Tensor] | None:
        layers = cast(list[Any], cast(Cache, self.cache).layers)
        held = [layers[place] for place in self._places() if place < len(layers)]
        if not held or not held[0].is_initialized:
            return None
        return [cast(Tensor, layer.keys)[:, 0] for layer in held]

    def _remember(self, features: list[Tensor], new: int) -> None:
        layers = cast(list[Any], cast(Cache, self.cache).layers)
        for place, everything in zip(self._places(), features, strict=True):
            while len(layers) <= place:
                layers.append(DynamicLayer())
            fresh = everything[:, None, -new:]
            layers[place].update(fresh, fresh[..., :1])


def side_path_weights(
    attention: nn.Module, hidden: Tensor, visible: Tensor, position_embeddings: Any, cache: Cache | None
) -> Tensor:
    """Return the attention weights (batch, heads, q, k) that this attention uses, computed beside it.

    Queries are made again from the layer's input; keys too, or read from the cache, which holds them.
    """
    module = cast(Any, attention)
    shape = (*hidden.shape[:-1], -1, module.head_dim)
    query, key = module.q_proj(hidden).view(shape), module.k_proj(hidden).view(shape)
    if hasattr(module, "q_norm"):
        query, key = module.q_norm(query), module.k_norm(key)
    query, key = rotation_of(attention)(query.transpose(1, 2), key.transpose(1, 2), *position_embeddings)
    if cache is not None:
        key = cast(Any, cache.layers[module.layer_idx]).keys
    key = repeat_kv(key, module.num_key_value_groups)
    return softmax_adjacency(query @ key.transpose(2, 3) * module.scaling, visible).to(query.dtype)


def _tokens_held(cache: Cache, attention: nn.Module) -> int:
    return int(cache.get_seq_length(cast(Any, attention).layer_idx))
