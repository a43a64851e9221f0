"""What the two kinds of graph attention share: queries, keys, scores, and where a cache stands."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Cache

from papertrial.efficient.graph_attention.adjacency import Processing, process
from papertrial.errors import BadInputError


class GraphAttention(nn.Module):
    """Base of the modules that stand in for a decoder layer's `self_attn`.

    Queries and keys are made as the layer made them (rotary embedding, and norms of queries and keys where
    it has them).

    Args:
        replaced: the layer's own attention; its configuration and its functions are used, its weights not.
        layer: index of the layer, by which caches know it.

    Raises:
        BadInputError: heads that do not divide the hidden size.
    """

    def __init__(self, replaced: nn.Module, layer: int) -> None:
        super().__init__()
        config: Any = replaced.config
        self.config = config
        self.layer_idx = layer
        self.heads: int = config.num_attention_heads
        self.hidden: int = config.hidden_size
        if self.hidden % self.heads:
            raise BadInputError(
                f"graph attention cuts the hidden state into heads, but hidden size {self.hidden} is no multiple "
                f"of {self.heads} heads"
            )
        self.width = cast(int, getattr(replaced, "head_dim", self.hidden // self.heads))
        self.feature_width = self.hidden // self.heads
        self.scaling = self.width**-0.5
        self.has_bias = bool(getattr(config, "attention_bias", False))
        self.rotate = rotation_of(replaced)
        # Qwen3 norms queries and keys; the norms are copies, since the rest is drawn anew too.
        self.q_norm = copy.deepcopy(getattr(replaced, "q_norm", None))
        self.k_norm = copy.deepcopy(getattr(replaced, "k_norm", None))

    def project(self, linear: nn.Linear, hidden: Tensor, norm: nn.Module | None = None) -> Tensor:
        """Return (batch, heads, tokens, width) of one projection."""
        split = linear(hidden).view(*hidden.shape[:-1], -1, self.width)
        return (split if norm is None else norm(split)).transpose(1, 2)

    def turned(
        self, queries: nn.Linear, keys: nn.Linear, hidden: Tensor, position_embeddings: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return queries and keys, (batch, heads, tokens, width) each, normed and turned to their places."""
        query = self.project(queries, hidden, self.q_norm)
        return self.rotate(query, self.project(keys, hidden, self.k_norm), *position_embeddings)

    def cut_features(
        self, hidden: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch heads tokens w"]:
        """Return the hidden state itself, cut into heads."""
        return hidden.view(*hidden.shape[:-1], self.heads, self.feature_width).transpose(1, 2)

    def remember(self, cache: Cache | None, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add this pass's keys and values to the cache, and return all there are."""
        return (keys, values) if cache is None else cache.update(keys, values, self.layer_idx)


def rotation_of(attention: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the function by which this attention's model turns queries and keys.

    Raises:
        BadInputError: its module has none.
    """
    module = sys.modules[type(attention).__module__]
    found = getattr(module, "apply_rotary_pos_emb", None)
    if found is None:
        raise BadInputError(
            f"{type(attention).__name__} has no rotary embedding; graph attention knows Llama-like models"
        )
    return cast(Callable[..., tuple[Tensor, Tensor]], found)


class Thresholded(nn.Module):
    """The processing of an adjacency, with its threshold as a weight where that is trained."""

    def __init__(self, processing: Processing, train: bool) -> None:
        super().__init__()
        self.processing = processing
        self.threshold = nn.Parameter(torch.tensor(processing.threshold)) if train else None

    def check_cache(self, queries: int, keys: int) -> None:
        """Raise `BadInputError` where a cache is continued that this processing cannot continue."""
        if keys > queries and self.processing.depends_on_length:
            raise BadInputError(
                f"{self.processing.kind} keeps a share of the whole length, so the rows of the {keys - queries} "
                "tokens in the cache would be others now; generate with use_cache=False, or use "
                "scaled_topk_causal_4d, which keeps a share of each token's own predecessors"
            )

    def forward(self, adjacency: Tensor, visible: Tensor) -> Tensor:
        """Return the processed adjacency; see `process`."""
        return process(adjacency, visible, self.processing, self.threshold)
