from __future__ import annotations

import pytest
import torch

from papertrial.models import load_causal_lm


@pytest.fixture
def problem():
    """Return a function that makes a weight, correlated inputs (tokens, inputs) and their Hessian."""

    def make(outputs=24, inputs=64, tokens=400, seed=0):
        generator = torch.Generator().manual_seed(seed)
        mixing = torch.randn(inputs, inputs, generator=generator) / inputs**0.5
        x = torch.randn(tokens, inputs, generator=generator) @ (mixing + 0.5 * torch.eye(inputs))
        weight = torch.randn(outputs, inputs, generator=generator)
        return weight, x, 2.0 * x.T @ x / tokens

    return make


@pytest.fixture
def tiny():
    """Return a function that builds a toy model of 64 tokens, small enough to quantise in a blink."""

    def make(name="tiny-qwen3", **overrides):
        sizes = {"hidden_size": 64, "intermediate_size": 128, **overrides}
        return load_causal_lm(name, vocab_size=64, **sizes)

    return make


@pytest.fixture
def ids():
    """Return calibration tokens (12, 24)."""
    return torch.randint(64, (12, 24), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def output_error():
    """Return a function that gives tr((W − Ŵ) H (W − Ŵ)ᵀ) in float64."""

    def error(new, weight, hessian):
        change = (new - weight).double()
        return float(((change @ hessian.double()) * change).sum())

    return error
