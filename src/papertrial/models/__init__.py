"""Real Hugging Face models: toy ones built from their own classes, or loaded from a folder or the hub."""

from __future__ import annotations

from papertrial.models.bases import trained_base
from papertrial.models.devices import check_autocast, resolve_device, resolve_dtype
from papertrial.models.loading import load_causal_lm, load_token_classifier, load_tokenizer, seeded
from papertrial.models.pairs import load_with_tokenizer
from papertrial.models.tiny import TINY_MODELS, TinyModel, parameter_count, tiny_model, tiny_model_sizes

__all__ = [
    "TINY_MODELS",
    "TinyModel",
    "check_autocast",
    "load_causal_lm",
    "load_token_classifier",
    "load_tokenizer",
    "load_with_tokenizer",
    "parameter_count",
    "resolve_device",
    "resolve_dtype",
    "seeded",
    "tiny_model",
    "tiny_model_sizes",
    "trained_base",
]
