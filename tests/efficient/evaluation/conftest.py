from __future__ import annotations

import pytest
import torch

TEXT = [
    "The market opens at eight, and the bread is warm. The baker counts twelve loaves.",
    "A river runs past the old mill; the miller sleeps.",
    "Numbers: 1, 2, 3, 5, 8, 13, 21. The sum of the first three is six.",
]


@pytest.fixture(scope="session")
def tokenizer():
    """A BPE tokenizer whose tokens have several lengths."""
    from papertrial.data.tokens import train_bpe

    return train_bpe(TEXT * 3, 300)


@pytest.fixture(scope="session")
def texts():
    return TEXT


@pytest.fixture(scope="session")
def model():
    """A real LlamaForCausalLM whose weights are large enough that its predictions differ by token."""
    from papertrial.models import load_causal_lm

    model = load_causal_lm(
        "tiny-llama",
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(8)
    return model


@pytest.fixture(scope="session")
def stream(tokenizer, texts):
    """One long stream of token ids."""
    return torch.tensor(tokenizer(" ".join(texts * 2))["input_ids"])
