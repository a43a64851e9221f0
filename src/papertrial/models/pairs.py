"""A model together with its tokenizer: what a user names by one word."""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.models.loading import load_causal_lm, load_tokenizer
from papertrial.models.tiny import TINY_MODELS


def load_with_tokenizer(
    name: str, *, dtype: str = "float32", device: str = "cpu", seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a causal language model and the tokenizer that belongs to it.

    A toy model ("tiny-llama") is drawn from `seed` and reads bytes; anything else is a folder or a hub id.

    Raises:
        BadInputError: as `load_causal_lm` and `load_tokenizer`.
    """
    from papertrial.data.tokens import BYTE_VOCABULARY, byte_tokenizer

    if name in TINY_MODELS:
        model = load_causal_lm(name, vocab_size=BYTE_VOCABULARY, dtype=dtype, device=device, seed=seed)
        return model, byte_tokenizer()
    return load_causal_lm(name, dtype=dtype, device=device), load_tokenizer(name)
