from __future__ import annotations

import pytest
import torch

from papertrial.efficient.calibration import BlockByBlock
from papertrial.efficient.layouts import layout_of
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

MODELS = ["tiny-llama", "tiny-qwen3", "tiny-gemma3", "tiny-phi3"]


def _ids(sequences=5, length=12, vocabulary=64):
    return torch.randint(vocabulary, (sequences, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
def test_streaming_gives_the_hidden_states_of_one_forward(name):
    # Gemma 3's layers differ in masks and rotary tables: each must get its own
    overrides = {"sliding_window": 4} if name == "tiny-gemma3" else {}
    model = load_causal_lm(name, vocab_size=64, **overrides)
    blocks = BlockByBlock(model, _ids(), batch_size=2)
    with torch.no_grad():
        expected = model(_ids(), output_hidden_states=True, use_cache=False).hidden_states
    torch.testing.assert_close(torch.cat(blocks.hidden), expected[0])
    blocks.advance(0)
    # batches of two instead of five: matrix products add in another order
    torch.testing.assert_close(torch.cat(blocks.hidden), expected[1], rtol=1e-4, atol=1e-5)
    blocks.advance(1)
    with torch.no_grad():
        last = model.model.norm(torch.cat(blocks.hidden))
    torch.testing.assert_close(last, expected[2], rtol=1e-4, atol=1e-5)


def test_observers_see_what_hooks_in_a_whole_forward_see():
    model = load_causal_lm("tiny-qwen3", vocab_size=64)
    names = ("self_attn.q_proj", "mlp.down_proj")
    expected = {}

    def keep(module, inputs):
        expected.setdefault(module, inputs[0])

    linears = {name: model.model.layers[1].get_submodule(name) for name in names}
    for linear in linears.values():
        linear.register_forward_pre_hook(keep)
    with torch.no_grad():
        model(_ids(), use_cache=False)
    seen = {name: [] for name in names}
    blocks = BlockByBlock(model, _ids(), batch_size=3)
    blocks.advance(0)
    blocks.observe(1, {name: seen[name].append for name in names})
    for name in names:
        torch.testing.assert_close(torch.cat(seen[name]), expected[linears[name]], rtol=1e-4, atol=1e-5)


def test_observing_ends_the_forward_early_and_changes_nothing():
    model = load_causal_lm("tiny-llama", vocab_size=64)
    ran = []
    model.model.layers[0].mlp.register_forward_hook(lambda *_: ran.append(1))
    blocks = BlockByBlock(model, _ids())
    before = [part.clone() for part in blocks.hidden]
    blocks.observe(0, {"self_attn.q_proj": lambda _: None})
    assert ran == []
    assert all(torch.equal(a, b) for a, b in zip(before, blocks.hidden, strict=True))
    assert "forward" not in vars(model.model.layers[0])  # the stand-ins are gone


def test_masks_and_rotary_tables_are_held_once():
    model = load_causal_lm("tiny-qwen3", vocab_size=64)
    blocks = BlockByBlock(model, _ids(6), batch_size=2)
    tables = [call.named["position_embeddings"][0] for layer in blocks._calls for call in layer]
    assert len({table.data_ptr() for table in tables}) == 1


def test_the_model_is_left_in_its_mode():
    model = load_causal_lm("tiny-qwen3", vocab_size=64).train()
    BlockByBlock(model, _ids()).advance(0)
    assert model.training
    assert model.model.layers[0].training


def test_layers_come_in_order():
    blocks = BlockByBlock(load_causal_lm("tiny-llama", vocab_size=64), _ids())
    with pytest.raises(BadInputError, match="layer 0 is the next one, layer 1 was asked for"):
        blocks.observe(1, {})


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(0, 8, dtype=torch.int64), "at least one sequence of two tokens, got 0 of 8"),
        (torch.zeros(3, 1, dtype=torch.int64), "at least one sequence of two tokens, got 3 of 1"),
        (torch.full((1, 4), 64), "between 64 and 64, the model has 64 tokens"),
    ],
)
def test_calibration_that_cannot_be_run_is_refused(ids, message):
    with pytest.raises(BadInputError, match=message):
        BlockByBlock(load_causal_lm("tiny-llama", vocab_size=64), ids)


def test_activations_that_are_not_finite_are_named():
    model = load_causal_lm("tiny-llama", vocab_size=64)
    layout = layout_of(model)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = float("inf")
    blocks = BlockByBlock(model, _ids(), layout=layout)
    with pytest.raises(
        BadInputError, match=r"model\.layers\.0\.mlp\.down_proj reads activations that are not"
    ):
        blocks.observe(0, {"mlp.down_proj": lambda _: None})
    with pytest.raises(BadInputError, match=r"the outputs of model\.layers\.0 are not finite"):
        blocks.advance(0)
