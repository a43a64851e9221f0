"""Putting graph attention in the place of a model's self-attention, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from papertrial.efficient.graph_attention.gin_attention import GinAttention
from papertrial.efficient.graph_attention.pna_attention import PnaAttention
from papertrial.efficient.graph_attention.settings import GinSettings, PnaSettings
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class Swap:
    """Graph attention in a model.

    Attributes:
        model: the model.
        modules: the graph attention of every decoder layer, in order.
        replaced: what stood there.
    """

    model: PreTrainedModel
    modules: tuple[nn.Module, ...]
    replaced: tuple[nn.Module, ...]

    def restore(self) -> None:
        """Put the model's own attention back."""
        for layer, own in zip(decoder_layers(self.model), self.replaced, strict=True):
            layer.self_attn = own


def use_graph_attention(model: PreTrainedModel, settings: GinSettings | PnaSettings) -> Swap:
    """Replace the self-attention of every decoder layer of a Llama-like model, in place.

    The new modules are drawn at random: the model must be trained. Where the checkpoint's own attention is
    to be kept, attach the Sparse-GIN adapter instead.

    Raises:
        BadInputError: no decoder layers; for GIN-Attention, fewer key-value heads than heads.

    Source: arXiv 2501.02393, figures 1 and 2.
    """
    layers = decoder_layers(model)
    replaced = tuple(cast(nn.Module, layer.self_attn) for layer in layers)
    modules = tuple(
        GinAttention(own, number, settings)
        if isinstance(settings, GinSettings)
        else PnaAttention(own, number, settings)
        for number, own in enumerate(replaced)
    )
    for layer, own, new in zip(layers, replaced, modules, strict=True):
        weight = next(own.parameters())
        layer.self_attn = new.to(device=weight.device, dtype=weight.dtype).train(own.training)
    return Swap(model, modules, replaced)


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Return a model's decoder layers, each with a `self_attn`.

    Raises:
        BadInputError: it has none under that name.
    """
    layers: Any = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList) or any(not hasattr(layer, "self_attn") for layer in layers):
        raise BadInputError(
            f"{type(model).__name__} has no decoder layers with a self_attn; graph attention knows Llama, Mistral, "
            "Qwen2 and Qwen3"
        )
    return list(layers)
