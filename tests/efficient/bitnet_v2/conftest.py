from __future__ import annotations

import pytest
import torch
from torch import nn

from papertrial.efficient.bitnet_v2.toy import toy_bitnet


@pytest.fixture
def bitnet():
    """Return a function that builds a small untrained BitNet of transformers."""

    def build(**sizes):
        return toy_bitnet(**{"vocabulary": 258, "hidden": 32, "ffn": 64, "layers": 1, "heads": 2, **sizes})

    return build


@pytest.fixture
def linear():
    """Return a function that builds a linear layer of seeded normal weights without bias."""

    def build(outputs, inputs, dtype=torch.float32, seed=0):
        layer = nn.Linear(inputs, outputs, bias=False, dtype=dtype)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs, generator=generator, dtype=torch.float64) * 0.05)
        return layer

    return build


@pytest.fixture
def noise():
    """Return a function that draws seeded normal values."""

    def draw(*shape, dtype=torch.float32, seed=1):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw


@pytest.fixture
def text_file(tmp_path):
    """Return a text file that a small model learns quickly."""
    path = tmp_path / "lines.txt"
    lines = [f"Line {i}: the sum of {i} and {i + 1} is {2 * i + 1}.\n" for i in range(600)]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def eagerly():
    """Run transformers' compiled quantisers without the compiler, which needs one for C++."""
    from papertrial.efficient.bitnet_v2.peers import transformers_bitnet

    transformers_bitnet()  # loads the compiler, whose import warns
    import torch._dynamo

    with torch._dynamo.config.patch(disable=True):
        yield
