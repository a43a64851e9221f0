"""Attention on queries, keys and values of a few bits, for a trained model: no calibration, no training.

Queries, keys and values are quantised after the rotary embedding, for each token and head by the largest
absolute value; keys and values of the first token keep 8 bits. How exactly the paper rounds to "unsigned"
integers is not said; here a code is `clip(round(x / s) + 2^(b-1), 0, 2^b - 1)` with s = max|x| / (2^(b-1) - 1).

Source: arXiv 2504.18415, section 3.3, tables 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from papertrial.errors import BadInputError


@dataclass(frozen=True)
class AttentionBits:
    """How many bits queries, keys and values keep.

    Attributes:
        query: 2 to 8, or 16 for full precision. Table 2's other rows leave queries alone.
        key: of keys.
        value: of values.
        first: of the key and value of the first token (BOS), on which most heads put much of their weight.
    """

    query: int = 4
    key: int = 4
    value: int = 4
    first: int = 8

    def check(self) -> None:
        """Raise `BadInputError` for numbers of bits that cannot be."""
        for name in ("query", "key", "value", "first"):
            bits = getattr(self, name)
            if bits != 16 and not 2 <= bits <= 8:
                raise BadInputError(f"{name} must have 2 to 8 bits, or 16 for full precision, got {bits}")

    @property
    def name(self) -> str:
        """The name under which transformers knows this attention."""
        return f"papertrial_bitnet_q{self.query}k{self.key}v{self.value}f{self.first}"


def absmax_codes(
    x: Float[Tensor, "*batch dim"], bits: int
) -> tuple[UInt8[Tensor, "*batch dim"], Float[Tensor, "*batch 1"]]:
    """Return unsigned codes of `bits` bits and one scale (float32) for each row; zeros are exact.

    Raises:
        BadInputError: fewer than 2 or more than 8 bits.
    """
    if not 2 <= bits <= 8:
        raise BadInputError(f"keys and values have 2 to 8 bits, got {bits}")
    middle = 2 ** (bits - 1)
    wide = x.detach().float()
    scale = wide.abs().amax(-1, keepdim=True) / (middle - 1)
    codes = (wide / scale.clamp(min=torch.finfo(torch.float32).tiny)).round() + middle
    return codes.clamp(0, 2 * middle - 1).to(torch.uint8), scale


def absmax_values(
    codes: UInt8[Tensor, "*batch dim"], scale: Float[Tensor, "*batch 1"], bits: int
) -> Float[Tensor, "*batch dim"]:
    """Return what codes stand for, float32."""
    return (codes.float() - 2 ** (bits - 1)) * scale


def quantize_heads(x: Float[Tensor, "*batch dim"], bits: int) -> Float[Tensor, "*batch dim"]:
    """Return x rounded to `bits` bits for each row, in the format of x; 16 bits leave it as it is."""
    return x if bits == 16 else absmax_values(*absmax_codes(x, bits), bits).to(x.dtype)


def use_low_bit_attention(model: PreTrainedModel, bits: AttentionBits | None = None) -> None:
    """Make `model` attend with queries, keys and values of a few bits; for evaluation, not for training.

    `model.set_attn_implementation("sdpa")` undoes it. What the cache holds is not smaller by this alone: give
    the model a `papertrial.efficient.bitnet_v2.LowBitCache` for that.

    Args:
        model: any model that attends through transformers' attention interface.
        bits: 4 for all and 8 for the first token, if not given.

    Raises:
        BadInputError: numbers of bits that cannot be.
    """
    bits = bits or AttentionBits()
    bits.check()

    def attend(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        first = first_tokens(attention_mask, key)
        return sdpa_attention_forward(
            module,
            quantize_heads(query, bits.query),
            _keep_first(key, bits.key, bits.first, first),
            _keep_first(value, bits.value, bits.first, first),
            attention_mask,
            **options,
        )

    AttentionInterface.register(bits.name, attend)
    AttentionMaskInterface.register(bits.name, sdpa_mask)
    model.set_attn_implementation(bits.name)


def first_tokens(mask: Tensor | None, key: Float[Tensor, "batch heads keys dim"]) -> Tensor:
    """Return where each sequence begins (batch,): at 0, or behind its padding where a mask tells it.

    The mask is (batch, 1, queries, keys): boolean, or added to the scores.
    """
    batch = len(key)
    if mask is None:
        return torch.zeros(batch, dtype=torch.int64, device=key.device)
    seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return seen.any(1).any(1).to(torch.int8).argmax(-1).expand(batch)


def _keep_first(x: Tensor, bits: int, first_bits: int, first: Tensor) -> Tensor:
    if bits == 16:
        return x
    place = first.view(-1, 1, 1, 1).expand(-1, x.shape[1], 1, x.shape[3])
    kept = quantize_heads(x.gather(2, place), first_bits)
    return quantize_heads(x, bits).scatter(2, place, kept)
