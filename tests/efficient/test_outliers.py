from __future__ import annotations

import pytest
import torch

from papertrial.efficient.layouts import layout_of
from papertrial.efficient.outliers import plant_outliers
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

NAMES = ["tiny-llama", "tiny-qwen3", "tiny-gemma3", "tiny-phi3"]


def _norm_outputs(model, ids):
    seen = {}
    for layer in layout_of(model).layers:
        for norm in layer.norm_groups:
            name = layer.qualified(norm)

            def keep(module, inputs, output, name=name):
                seen[name] = output.abs().flatten(0, -2).amax(0)

            layer.linear(norm).register_forward_hook(keep)
    with torch.no_grad():
        logits = model(ids).logits
    return logits, seen


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [32.0, 30.0])
def test_outliers_appear_and_nothing_else_changes(name, factor):
    ids = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))
    before, quiet = _norm_outputs(load_causal_lm(name, vocab_size=64), ids)
    model = load_causal_lm(name, vocab_size=64)
    planted = plant_outliers(model, 3, factor, seed=1)
    after, loud = _norm_outputs(model, ids)
    # a weight divided by 30 loses its last bit; by 32 it loses none, but for a norm that adds 1 to its own
    exact = factor == 32.0 and name != "tiny-gemma3"
    torch.testing.assert_close(after, before, rtol=0, atol=0 if exact else 2e-5)
    assert set(planted) == set(loud)
    for norm, channels in planted.items():
        ratio = loud[norm] / quiet[norm]
        expected = torch.ones_like(ratio)
        expected[channels] = factor
        torch.testing.assert_close(ratio, expected, rtol=1e-3, atol=1e-3)


def test_the_same_channels_in_every_layer():
    planted = plant_outliers(load_causal_lm("tiny-qwen3", vocab_size=64), 4, seed=7)
    assert len({tuple(channels) for channels in planted.values()}) == 1


def test_impossible_outliers_are_refused():
    model = load_causal_lm("tiny-qwen3", vocab_size=64)
    with pytest.raises(BadInputError, match="channels must lie between 1 and 128, got 129"):
        plant_outliers(model, 129)
    with pytest.raises(BadInputError, match="factor must be above 0, got 0"):
        plant_outliers(model, 1, 0.0)
