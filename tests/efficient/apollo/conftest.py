from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn


@pytest.fixture
def gradients():
    """Return a function that makes a stream of gradients of one shape, of changing size."""

    def make(shape, steps, *, seed=0, dtype=torch.float32):
        generator = torch.Generator().manual_seed(seed)
        sizes = [1.0, 1.5, 4.0, 0.2, 1.0, 1.0, 3.0, 0.5]
        return [
            (torch.randn(shape, generator=generator) * 0.01 * sizes[step % len(sizes)]).to(dtype)
            for step in range(steps)
        ]

    return make


@pytest.fixture
def run():
    """Return a function that steps an optimizer through streams of gradients, one for each weight."""

    def steps(optimizer, streams):
        for batch in zip(*streams.values(), strict=True):
            for weight, gradient in zip(streams, batch, strict=True):
                weight.grad = None if gradient is None else gradient.clone()
            optimizer.step()

    return steps


@pytest.fixture
def weight():
    """Return a function that makes one seeded parameter."""

    def make(*shape, dtype=torch.float32, seed=1):
        generator = torch.Generator().manual_seed(seed)
        return nn.Parameter((torch.randn(shape, generator=generator) * 0.1).to(dtype))

    return make


@pytest.fixture
def released():
    """What apollo-torch 1.0.3 makes of fixed gradients; see test_released.py for how it was made."""
    return json.loads((Path(__file__).parent / "released.json").read_text())


@pytest.fixture
def tiny_llama():
    """Return a function that builds a real, tiny LlamaForCausalLM on bytes."""
    from papertrial.data.tokens import BYTE_VOCABULARY
    from papertrial.models import load_causal_lm

    def build(seed=0):
        return load_causal_lm(
            "tiny-llama",
            vocab_size=BYTE_VOCABULARY,
            seed=seed,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )

    return build


@pytest.fixture
def saved_model(tmp_path, tiny_llama):
    """The folder of a real checkpoint with its tokenizer, as a user has one."""
    from papertrial.data.tokens import byte_tokenizer

    folder = tmp_path / "model"
    tiny_llama().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def text_file(tmp_path):
    """One text of a user's own."""
    file = tmp_path / "text.txt"
    file.write_text("".join(f"Line {n}: the sum of {n} and {n + 1} is {2 * n + 1}.\n" for n in range(600)))
    return file
