from __future__ import annotations

import pytest
import torch

from papertrial.models import load_causal_lm

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


@pytest.fixture
def tiny():
    """Makes a tiny real model; `attention` is how transformers computes attention in it."""

    def make(name="tiny-llama", attention="eager", seed=0, **changed):
        model = load_causal_lm(name, vocab_size=40, seed=seed, **{**SIZES, **changed})
        model.set_attn_implementation(attention)
        return model.eval()

    return make


@pytest.fixture
def tokens():
    """Draws token ids (batch, length)."""

    def draw(batch=2, length=12, seed=0):
        return torch.randint(40, (batch, length), generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture
def stirred():
    """Draws every weight of a module anew, so that nothing is hidden behind a zero start."""

    def stir(module, seed=1):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in module.parameters():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
        return module

    return stir
