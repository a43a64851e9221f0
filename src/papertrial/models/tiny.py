"""Real transformers classes at toy size: the same code as the large models, a million weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GemmaForTokenClassification,
    GPT2Config,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForTokenClassification,
    MistralConfig,
    MistralForCausalLM,
    MistralForTokenClassification,
    Phi3Config,
    Phi3ForCausalLM,
    Phi3ForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForTokenClassification,
)

from papertrial.errors import BadInputError, unknown

# Widths are powers of two, so that rotations (Hadamard) and groups of 32, 64 or 128 fit every matrix.
_DECODER: Mapping[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    # Which id ends a text is the tokenizer's to say. The classes' own defaults (2, 106, 50256, …) are
    # another tokenizer's, and a padding id would freeze that row of the embedding at zero.
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_GPT2: Mapping[str, Any] = {
    "vocab_size": 1024,
    "n_embd": 128,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
# Read by the classification heads, though the configuration classes do not list them all.
_HEAD_SETTINGS = ("classifier_dropout", "token_classification_bias")


@dataclass(frozen=True)
class TinyModel:
    """One architecture of transformers at toy size.

    Attributes:
        config_class: its configuration class.
        causal_lm: its language model class.
        token_classifier: its token classification class, where transformers has one.
        sizes: what is set in the configuration; everything else is the class's own default.
    """

    config_class: type[PreTrainedConfig]
    causal_lm: type[PreTrainedModel]
    token_classifier: type[PreTrainedModel] | None
    sizes: Mapping[str, Any] = field(default_factory=lambda: _DECODER)

    def config(self, vocab_size: int | None = None, **overrides: Any) -> PreTrainedConfig:
        """Return the configuration with `overrides` on top of the toy sizes.

        Raises:
            BadInputError: an override is not a setting of this configuration class, or the class refuses
                the values.
        """
        settings = {**self.sizes, **overrides}
        if vocab_size is not None:
            settings["vocab_size"] = vocab_size
        if not isinstance(settings["vocab_size"], int) or settings["vocab_size"] < 1:
            raise BadInputError(f"vocab_size must be a positive whole number, got {settings['vocab_size']!r}")
        known = {*vars(self.config_class()), *self.config_class.attribute_map, *_HEAD_SETTINGS}
        for name in overrides:
            if name not in known or name.startswith("_"):
                raise unknown(
                    f"{self.config_class.__name__} setting", name, {n for n in known if n[0] != "_"}
                )
        try:
            return self.config_class(**settings)
        except (StrictDataclassError, ValueError, TypeError, ZeroDivisionError) as problem:
            reason = str(problem).strip().splitlines()[-1].strip()
            raise BadInputError(f"{self.config_class.__name__} refuses {overrides}: {reason}") from problem


TINY_MODELS: Mapping[str, TinyModel] = {
    "tiny-llama": TinyModel(LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification),
    "tiny-qwen2": TinyModel(Qwen2Config, Qwen2ForCausalLM, Qwen2ForTokenClassification),
    "tiny-qwen3": TinyModel(
        Qwen3Config, Qwen3ForCausalLM, Qwen3ForTokenClassification, {**_DECODER, "head_dim": 32}
    ),
    "tiny-mistral": TinyModel(
        MistralConfig, MistralForCausalLM, MistralForTokenClassification, {**_DECODER, "sliding_window": None}
    ),
    "tiny-phi3": TinyModel(Phi3Config, Phi3ForCausalLM, Phi3ForTokenClassification),
    "tiny-gemma": TinyModel(
        GemmaConfig, GemmaForCausalLM, GemmaForTokenClassification, {**_DECODER, "head_dim": 32}
    ),
    "tiny-gemma3": TinyModel(
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        None,
        # One layer in two sees everything (in the large ones, one in six), so that two layers show both kinds.
        {
            **_DECODER,
            "head_dim": 32,
            "sliding_window": 128,
            "query_pre_attn_scalar": 32,
            "sliding_window_pattern": 2,
        },
    ),
    "tiny-gpt2": TinyModel(GPT2Config, GPT2LMHeadModel, GPT2ForTokenClassification, _GPT2),
}
"""Every toy model by name."""


def tiny_model(name: str) -> TinyModel:
    """Return the toy model called `name`.

    Raises:
        BadInputError: there is none; the message names the nearest.
    """
    if name not in TINY_MODELS:
        raise unknown("tiny model", name, TINY_MODELS)
    return TINY_MODELS[name]


def parameter_count(model: torch.nn.Module) -> int:
    """Return how many weights `model` has; a weight used in two places (a tied head) counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def tiny_model_sizes() -> dict[str, int]:
    """Return the number of weights of every toy language model, by name, without holding any weight."""
    sizes = {}
    for name, entry in TINY_MODELS.items():
        with torch.device("meta"):
            sizes[name] = parameter_count(entry.causal_lm(entry.config()))
    return sizes
