"""A key-value cache that holds keys and values in 3 or 4 bits, and those of the first token in 8.

Source: arXiv 2504.18415, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer

from papertrial.efficient.bitnet_v2.attention import AttentionBits, absmax_codes, absmax_values
from papertrial.efficient.packing import PACKED_BITS, pack_codes, packed_width, unpack_codes
from papertrial.errors import BadInputError


class _Rows:
    """Vectors (batch, heads, tokens, dim) as packed codes and one scale each, one of them in more bits."""

    def __init__(self, bits: int, first_bits: int) -> None:
        self.bits, self.first_bits = bits, first_bits
        self.dim = 0
        self.parts: dict[str, Tensor] = {}

    def append(self, x: Tensor, place: Tensor | None) -> None:
        """Add new tokens; `place` (batch,) says which of them is the first token, if it is among them."""
        self.dim = x.shape[-1]
        codes, scales = absmax_codes(x, self.bits)
        packed = pack_codes(codes.flatten(0, -2), self.bits).unflatten(0, codes.shape[:-1])
        if place is not None:
            index = place.view(-1, 1, 1, 1).expand(-1, x.shape[1], 1, self.dim)
            self.parts["first"], self.parts["first_scale"] = absmax_codes(x.gather(2, index), self.first_bits)
        for name, new in (("codes", packed), ("scales", scales)):
            held = self.parts.get(name)
            self.parts[name] = new if held is None else torch.cat([held, new], dim=2)

    def read(self, dtype: torch.dtype, first: Tensor) -> Tensor:
        """Return all vectors, (batch, heads, tokens, dim)."""
        packed = self.parts["codes"]
        codes = unpack_codes(packed.flatten(0, -2), self.bits, self.dim).unflatten(0, packed.shape[:-1])
        x = absmax_values(codes, self.parts["scales"], self.bits)
        kept = absmax_values(self.parts["first"], self.parts["first_scale"], self.first_bits)
        index = first.view(-1, 1, 1, 1).expand(-1, x.shape[1], 1, self.dim)
        return x.scatter(2, index, kept).to(dtype)


class LowBitLayer(DynamicLayer):
    """One layer of a `LowBitCache`."""

    is_croppable = False

    def __init__(self, bits: AttentionBits, first: Int64[Tensor, " batch"] | None) -> None:
        super().__init__()
        self.tokens = 0
        self._first = first
        self._rows = (_Rows(bits.key, bits.first), _Rows(bits.value, bits.first))

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Quantise new keys and values (batch, heads, new, dim), keep them, and return all, dequantised.

        Raises:
            BadInputError: the first token lies beyond the first call's tokens.
        """
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.is_initialized = True
        batch, _, new, _ = key_states.shape
        if self._first is None:
            self._first = torch.zeros(batch, dtype=torch.int64)
        self._first = self._first.to(key_states.device)
        place = self._first if self.tokens == 0 else None
        if place is not None and int(place.max()) >= new:
            raise BadInputError(
                f"the first token is number {int(place.max())} of a sequence, but the first call brings {new} tokens"
            )
        for rows, x in zip(self._rows, (key_states, value_states), strict=True):
            rows.append(x, place)
        self.tokens += new
        keys, values = (rows.read(self.dtype, self._first) for rows in self._rows)
        return keys, values

    def get_seq_length(self) -> int:
        """Return how many tokens are held."""
        return self.tokens

    def reset(self) -> None:
        """Forget everything."""
        self.tokens = 0
        self.is_initialized = False
        for rows in self._rows:
            rows.parts = {}

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse: assisted decoding is not offered."""
        raise BadInputError("a LowBitCache cannot be cropped; decode without an assistant model")

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take these sequences of the batch, as beam search asks."""
        self._each(lambda t: t.index_select(0, beam_idx.to(t.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sequence of the batch."""
        self._each(lambda t: t.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences of the batch."""
        self._each(lambda t: t[indices])

    def held_bytes(self) -> int:
        """Return the bytes of codes and scales."""
        parts = [tensor for rows in self._rows for tensor in rows.parts.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in parts)

    def _each(self, change: Callable[[Tensor], Tensor]) -> None:
        for rows in self._rows:
            rows.parts = {name: change(tensor) for name, tensor in rows.parts.items()}
        if self._first is not None:
            self._first = change(self._first)


class LowBitCache(Cache):
    """Keys and values in 2, 3, 4 or 8 bits, dequantised when they are read; with `use_low_bit_attention`.

    Reading costs time on the CPU: what this saves is memory. Quantised values come through the attention's own
    quantiser unchanged, because rounding them again gives the same codes.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        bits: AttentionBits | None = None,
        *,
        attention_mask: Int64[Tensor, "batch tokens"] | None = None,
    ) -> None:
        """Make an empty cache.

        Args:
            config: of the model.
            bits: as given to `use_low_bit_attention`; its query bits play no part.
            attention_mask: of the prompt, where it is padded on the left: the first token is the first that
                it shows.

        Raises:
            BadInputError: bits that cannot be packed.
        """
        bits = bits or AttentionBits()
        for name in ("key", "value"):
            if getattr(bits, name) not in PACKED_BITS:
                raise BadInputError(
                    f"a cache holds {name}s of {', '.join(map(str, PACKED_BITS))} bits, got {getattr(bits, name)}"
                )
        bits.check()
        if bits.first == 16:
            raise BadInputError("a cache holds the first token in 2 to 8 bits, got 16")
        first = None if attention_mask is None else attention_mask.to(torch.int64).argmax(-1)
        layers = config.get_text_config(decoder=True).num_hidden_layers
        super().__init__(layers=[LowBitLayer(bits, first) for _ in range(layers)])

    def held_bytes(self) -> int:
        """Return the bytes of all codes and scales."""
        return sum(layer.held_bytes() for layer in self.layers if isinstance(layer, LowBitLayer))


def cache_bytes(tokens: int, heads: int, dim: int, layers: int, bits: AttentionBits) -> int:
    """Return the bytes that a `LowBitCache` holds for one sequence, scales of 4 bytes included."""
    vector = packed_width(dim, bits.key) + packed_width(dim, bits.value) + 2 * 4
    return layers * heads * (tokens * vector + 2 * (dim + 4))


def dequantized_error(x: Float[Tensor, "*batch dim"], bits: int) -> float:
    """Return ||Q(x) - x||² / ||x||² of keys or values at this many bits."""
    codes, scale = absmax_codes(x, bits)
    wide = x.double()
    lost = (absmax_values(codes, scale, bits).double() - wide).square().sum()
    return float(lost / wide.square().sum().clamp(min=1e-300))
