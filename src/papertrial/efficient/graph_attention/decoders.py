"""Small decoders that differ in nothing but what stands for attention, at the same number of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from papertrial.efficient.graph_attention.adjacency import Processing
from papertrial.efficient.graph_attention.proteins import PAD
from papertrial.efficient.graph_attention.settings import GinSettings, PnaSettings
from papertrial.efficient.graph_attention.swapping import use_graph_attention
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm, parameter_count, seeded

_REFERENCE = "reference"
_IGNORED = -100


@dataclass(frozen=True)
class Sizes:
    """Sizes of a decoder; `ffn` is the reference's, the other arms' follows from the number of weights."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    vocabulary: int


def arm_settings(arm: str, multiplier: float, wide: float) -> GinSettings | PnaSettings | None:
    """Return what stands for attention in an arm; None for attention itself.

    Args:
        arm: one of the trial's.
        multiplier: γ.
        wide: γ of the arm `gin-wide`.
    """
    if arm == _REFERENCE:
        return None
    if arm.startswith("gin"):
        return GinSettings(multiplier=wide if arm == "gin-wide" else multiplier)
    if arm == "pna-sharp":
        return PnaSettings(multiplier=multiplier, processing=Processing("sharp_softplus"))
    return PnaSettings(multiplier=multiplier)


def make_decoder(settings: GinSettings | PnaSettings | None, sizes: Sizes, seed: int) -> PreTrainedModel:
    """Return an untrained Llama with as many weights as the reference, its MLP narrowed or widened for that.

    Raises:
        BadInputError: what stands for attention alone has more weights than the whole reference.
    """
    if settings is None:
        return _decoder(None, sizes, sizes.ffn, seed)
    wanted = parameter_count(_decoder(None, sizes, sizes.ffn, seed))
    spare = wanted - parameter_count(_decoder(settings, sizes, 1, seed))
    ffn = 1 + round(spare / (3 * sizes.hidden * sizes.layers))
    if ffn < 1:
        raise BadInputError(
            f"with a multiplier of {settings.multiplier} graph attention alone has more weights than the reference; "
            f"set ffn above {sizes.ffn}, or a smaller multiplier"
        )
    return _decoder(settings, sizes, ffn, seed)


def masked_batch(ids: Int64[Tensor, "batch tokens"]) -> Mapping[str, Tensor]:
    """Return the arguments of a model for a batch padded on the right."""
    present = ids != PAD
    return {
        "input_ids": ids,
        "attention_mask": present.long(),
        "labels": ids.masked_fill(~present, _IGNORED),
    }


@torch.no_grad()
def losses(
    model: PreTrainedModel, ids: Int64[Tensor, "rows tokens"], marked: Bool[Tensor, "rows tokens"]
) -> tuple[float, float]:
    """Return the mean loss over all tokens, and over the marked ones, in nats a token (NaN if none is)."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    kept: list[tuple[Tensor, Tensor]] = []
    for batch, marks in zip(ids.split(64), marked.split(64), strict=True):
        inputs = masked_batch(batch.to(device))
        logits = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
        )
        targets = inputs["labels"][:, 1:].flatten()
        nats = functional.cross_entropy(
            logits.logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=_IGNORED, reduction="none"
        )
        counted = targets != _IGNORED
        kept.append((nats[counted].cpu(), marks[:, 1:].flatten()[counted.cpu()]))
    model.train(was_training)
    nats, marks = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return float(nats.mean()), float(nats[marks].mean())


def _decoder(
    settings: GinSettings | PnaSettings | None, sizes: Sizes, ffn: int, seed: int
) -> PreTrainedModel:
    config: dict[str, Any] = {
        "hidden_size": sizes.hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "pad_token_id": PAD,
    }
    model = load_causal_lm("tiny-llama", vocab_size=sizes.vocabulary, seed=seed, **config)
    if settings is not None:
        with seeded(seed):
            use_graph_attention(model, settings)
    return model
