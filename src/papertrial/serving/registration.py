"""One call that makes a transformers model decode through the caches of this field.

An attention function in transformers is handed neither the cache nor anything of it, and a cache's `update`
does not see the query. The layers of `papertrial.serving.caches` therefore sign the key tensor that they
return (`keys.owner`), and the one attention function registered here hands the query to the owner.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from papertrial.errors import BadInputError
from papertrial.serving.dense import grouped_attention

ATTENTION_NAME = "papertrial_serving"


def owned_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as the cache layer that owns `key` does it, or densely where the layer has no owner.

    Shapes as transformers gives them: query (batch, query heads, queries, dim), key and value (batch,
    key-value heads, tokens, dim); returns (batch, queries, query heads, dim).

    Raises:
        BadInputError: an attention with a soft cap or dropout, which no path of this field computes.
    """
    if options.get("softcap") is not None or dropout:
        raise BadInputError(
            "papertrial's serving attention has no soft cap and no dropout; use eager or sdpa"
        )
    owner = getattr(key, "owner", None)
    if owner is not None:
        out = owner.attend(query, key, value, attention_mask, scaling)
    else:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        is_prefill = query.shape[2] > 1 and attention_mask is None
        out = grouped_attention(query, key, value, attention_mask, scaling, is_causal=is_prefill and causal)
    return out.transpose(1, 2).contiguous(), None


def register_attention() -> str:
    """Register the attention *and* its mask with transformers and return the name of both.

    With the attention alone a padded batch is given no mask, and the output is wrong without any error.
    """
    AttentionInterface.register(ATTENTION_NAME, owned_attention)
    AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
    return ATTENTION_NAME


def use_serving_attention(model: PreTrainedModel) -> None:
    """Make `model` attend through the caches of this field; models without such a cache attend densely."""
    model.set_attn_implementation(register_attention())
