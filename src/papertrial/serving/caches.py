"""A key-value cache that is allocated ahead and grows by doubling: the fair baseline, and base of the rest.

transformers' `DynamicCache` copies all keys and values for every token it appends; at 128 K tokens that costs
more than dense attention itself, so nothing here is ever held against it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import (
    DYNAMIC_LAYER_TYPE_MAPPING,
    Cache,
    CacheLayerMixin,
    get_layer_types_and_kwargs,
)

from papertrial.errors import BadInputError
from papertrial.serving.dense import grouped_attention

SMALLEST_CAPACITY = 64


def grown(buffer: Tensor, needed: int, dim: int = -2, is_pinned: bool = False) -> Tensor:
    """Return `buffer` if it holds `needed` entries along `dim`, else a copy at least twice as long."""
    held = buffer.shape[dim]
    if needed <= held:
        return buffer
    shape = list(buffer.shape)
    shape[dim] = max(needed, 2 * held, SMALLEST_CAPACITY)
    larger = torch.empty(shape, dtype=buffer.dtype, device=buffer.device, pin_memory=is_pinned)
    larger.narrow(dim, 0, held).copy_(buffer)
    return larger


class GrowingLayer(CacheLayerMixin):
    """One layer's keys and values, (batch, key-value heads, tokens, dim), appended in place.

    The tensors that `update` returns are views of the first `tokens` entries; the key view carries the
    attribute `owner`, by which the registered attention finds this layer (see
    `papertrial.serving.registration`).
    """

    is_sliding = False
    is_croppable = True

    def __init__(self, capacity: int = 0) -> None:
        super().__init__()
        self.capacity = capacity
        self.tokens = 0
        self.key_buffer = torch.empty(0)
        self.value_buffer = torch.empty(0)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate for the model whose first keys and values these are."""
        self.dtype, self.device = key_states.dtype, key_states.device
        batch, heads, length, _ = key_states.shape
        capacity = max(self.capacity, length, SMALLEST_CAPACITY)
        self.key_buffer = key_states.new_empty(batch, heads, capacity, key_states.shape[-1])
        self.value_buffer = value_states.new_empty(batch, heads, capacity, value_states.shape[-1])
        self._show()
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple:
        """Append (batch, heads, new, dim) and return all keys and values held, without a copy.

        Raises:
            BadInputError: the shape is not that of the model the cache was first used with.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.check_shape(key_states)
        end = self.tokens + key_states.shape[2]
        self.key_buffer = grown(self.key_buffer, end)
        self.value_buffer = grown(self.value_buffer, end)
        self.key_buffer[:, :, self.tokens : end] = key_states
        self.value_buffer[:, :, self.tokens : end] = value_states
        self.tokens = end
        self._show()
        return self.keys, self.values

    def fill(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take a prompt's keys and values without attending: for measuring decoding alone."""
        self.update(key_states, value_states)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
    ) -> Tensor:
        """Attend exactly over the keys that `update` returned: (batch, query heads, queries, dim)."""
        queries, tokens = query.shape[2], key.shape[2]
        if mask is None and queries > 1 and queries < tokens:
            mask = causal_mask(queries, tokens, query.device)
        return grouped_attention(query, key, value, mask, scale, is_causal=mask is None and queries > 1)

    def check_shape(self, key_states: Tensor) -> None:
        """Raise BadInputError where keys do not fit this cache (another model, batch size or device)."""
        held, given = self.key_buffer, key_states
        for name, axis in (("batch size", 0), ("key-value heads", 1), ("head_dim", 3)):
            if given.shape[axis] != held.shape[axis]:
                raise BadInputError(
                    f"{name} of this cache is {held.shape[axis]}, got {given.shape[axis]}: "
                    "the cache was filled by another model or batch; make a new one"
                )
        if given.dtype != held.dtype or given.device != held.device:
            raise BadInputError(
                f"this cache holds {held.dtype} on {held.device}, got {given.dtype} on {given.device}; "
                "make a new one"
            )

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many keys the next `query_length` queries see, and the first one's position."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Return the tokens seen so far."""
        return self.tokens

    def get_max_length(self) -> int:
        """Return -1: there is no limit."""
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens; the number is given as zero or negative, as transformers does."""
        if tokens_to_remove > 0 or -tokens_to_remove > self.tokens:
            raise BadInputError(
                f"crop takes minus the number of tokens to remove, between -{self.tokens} and 0, "
                f"got {tokens_to_remove}"
            )
        self.tokens += tokens_to_remove
        if self.is_initialized:
            self._show()

    def reset(self) -> None:
        """Forget everything; the next tokens may be of another batch size."""
        self.tokens, self.is_initialized = 0, False
        self.keys = self.values = None

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Put the sequences in the order that beam search asks for."""
        self._select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these sequences."""
        self._select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence `repeats` times, copies side by side."""
        self._select(torch.arange(self.key_buffer.shape[0]).repeat_interleave(repeats))

    def _select(self, indices: Tensor) -> None:
        if self.is_initialized:
            indices = indices.to(self.key_buffer.device)
            self.key_buffer = self.key_buffer.index_select(0, indices)
            self.value_buffer = self.value_buffer.index_select(0, indices)
            self._show()

    def _show(self) -> None:
        self.keys = self.key_buffer[:, :, : self.tokens]
        self.values = self.value_buffer[:, :, : self.tokens]
        self.keys.owner = self  # type: ignore[attr-defined]


def causal_mask(queries: int, tokens: int, device: torch.device) -> Tensor:
    """Return the (1, 1, queries, tokens) mask of the last `queries` of `tokens` positions, True = may see."""
    last = torch.arange(tokens - queries, tokens, device=device)
    return (torch.arange(tokens, device=device) <= last.unsqueeze(1)).view(1, 1, queries, tokens)


class LayerwiseCache(Cache):
    """A transformers cache whose full-attention layers are of one class; other layers keep their own kind.

    Attributes:
        skipped_layers: the layers left to transformers (sliding-window, chunked or linear attention), with
            their type.
    """

    def __init__(self, config: PreTrainedConfig, make_layer: Callable[[], CacheLayerMixin]) -> None:
        layer_types, options = get_layer_types_and_kwargs(config.get_text_config(decoder=True))
        self.skipped_layers = {i: kind for i, kind in enumerate(layer_types) if kind != "full_attention"}
        layers = [
            make_layer() if kind == "full_attention" else DYNAMIC_LAYER_TYPE_MAPPING[kind](**option)
            for kind, option in zip(layer_types, options, strict=True)
        ]
        if len(self.skipped_layers) == len(layers):
            raise BadInputError(f"this model has no full-attention layer, only {sorted(set(layer_types))}")
        super().__init__(layers=layers)


def growing_cache(config: PreTrainedConfig, capacity: int = 0) -> LayerwiseCache:
    """Return the fair dense cache for a model: allocated for `capacity` tokens ahead, doubled when full."""
    return LayerwiseCache(config, lambda: GrowingLayer(capacity))
