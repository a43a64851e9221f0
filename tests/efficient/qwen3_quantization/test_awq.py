from __future__ import annotations

import pytest
import torch

from papertrial.efficient.calibration import BlockByBlock
from papertrial.efficient.layouts import layout_of
from papertrial.efficient.qwen3_quantization.awq import (
    AwqOptions,
    channel_scales,
    clip_limits,
    clip_weight,
    clips,
    moment_loss,
    quantize_clipped,
    search_scales,
)
from papertrial.efficient.qwen3_quantization.awq_units import (
    Recording,
    apply_scales,
    recording,
    search_unit,
    units_of,
)
from papertrial.efficient.qwen3_quantization.grids import GridOptions, grid_values, round_weight
from papertrial.efficient.qwen3_quantization.layer_methods import awq_layer
from papertrial.efficient.qwen3_quantization.quantize import quantize_model
from papertrial.efficient.qwen3_quantization.report import QuantizationReport
from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings
from papertrial.errors import BadInputError

FREE = GridOptions(4, 16, "free")


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-llama", "tiny-gemma3", "tiny-phi3"])
@pytest.mark.parametrize("heads", [2, 4])
def test_scaling_before_rounding_leaves_the_layer_as_it_was(tiny, ids, name, heads):
    model = tiny(name, num_key_value_heads=heads, num_attention_heads=4)
    with torch.no_grad():
        before = model(ids).logits
    generator = torch.Generator().manual_seed(0)
    for layer in layout_of(model).layers:
        for unit in units_of(layer)[0]:
            width = layer.weight(unit.readers[0]).shape[1]
            apply_scales(layer, unit, torch.rand(width, generator=generator) * 3 + 0.2)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-5, atol=1e-5)


def test_units_of_qwen3(tiny):
    layer = layout_of(tiny(num_attention_heads=4, num_key_value_heads=2)).layers[0]
    units, notes = units_of(layer)
    found = {(unit.previous, unit.readers, unit.inspected) for unit in units}
    qkv = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    assert found == {
        ("input_layernorm", qkv, "self_attn"),
        ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj"), "mlp"),
        ("mlp.up_proj", ("mlp.down_proj",), "mlp.down_proj"),
    }
    assert len(notes) == 1
    assert "v_proj → self_attn.o_proj is not scaled" in notes[0]
    # one value head for each query head, and a head size that makes both weights square
    square = layout_of(tiny(num_attention_heads=4, num_key_value_heads=4, head_dim=16)).layers[0]
    assert ("self_attn.v_proj", ("self_attn.o_proj",)) in {
        (u.previous, u.readers) for u in units_of(square)[0]
    }
    assert units_of(square)[1] == []


def test_ratio_zero_without_clipping_is_rounding_on_awqs_grid(tiny, ids):
    model = tiny()
    expected = {
        name: round_weight(model.get_submodule(name).weight, FREE).dequantize()
        for name in layout_of(model).linears
    }
    settings = QuantizationSettings("awq", 4, 16, ratios=1, clip=False, scale_dtype="float32")
    quantize_model(model, settings, ids)
    for name, weight in expected.items():
        assert torch.equal(model.get_submodule(name).dequantized(), weight)


def test_channel_scales_are_normed():
    means = torch.tensor([0.5, 2.0, 8.0])
    assert torch.equal(channel_scales(means, 0.0), torch.ones(3))
    half = channel_scales(means, 0.5)
    assert float(half.max() * half.min()) == pytest.approx(1.0)
    torch.testing.assert_close(half / half[0], (means / means[0]).sqrt())
    with_dead = channel_scales(torch.tensor([0.0, 1.0]), 0.5)  # clamped to 1e-4 before norming
    torch.testing.assert_close(with_dead, torch.tensor([1e-2, 1e2]))


def test_the_search_takes_the_least_error_and_the_first_of_equals(problem):
    weight, x, _ = problem(tokens=300)
    x = x * torch.linspace(0.1, 20, 64)
    options = AwqOptions(FREE)
    exact = {}

    def loss_by_tokens(rounding):
        value = float(((rounding(weight) - weight) @ x.T).square().mean())
        exact[len(exact)] = value
        return value

    found = search_scales(x.abs().mean(0), loss_by_tokens, options)
    assert found.ratio == min(exact, key=exact.get) / 20
    assert found.ratio > 0
    by_moment = search_scales(x.abs().mean(0), moment_loss(weight, x.T @ x, len(x)), options)
    assert by_moment.ratio == found.ratio
    for ratio, loss in by_moment.losses.items():
        assert loss == pytest.approx(exact[round(20 * ratio)], rel=1e-3)  # sums in another order
    assert search_scales(x.abs().mean(0), lambda _: 1.0, options).ratio == 0.0
    with pytest.raises(BadInputError, match="no scale gives q a finite output error"):
        search_scales(x.abs().mean(0), lambda _: float("nan"), options, "q")


def test_clip_limits_by_going_through_the_tokens(problem):
    weight, x, _ = problem(outputs=6, inputs=32, tokens=80)
    weight[2, 5] = 9.0
    options = AwqOptions(FREE)
    limits = clip_limits(weight, x, options)
    for row in range(6):
        for group in range(2):
            columns = slice(16 * group, 16 * group + 16)
            part, tokens = weight[row : row + 1, columns], x[:, columns]
            errors = []
            for step in range(10):
                limit = float(part.abs().max()) * (1 - step / 20)
                rounded = grid_values(part.clamp(-limit, limit), GridOptions(4, -1, "free"))
                errors.append((float(((rounded - part) @ tokens.T).square().mean()), limit))
            least = min(error for error, _ in errors)
            chosen = next(e for e, limit in errors if abs(limit - float(limits[row, group])) < 1e-5)
            assert chosen == pytest.approx(least, rel=1e-4)
    clipped = clip_weight(weight, limits)
    assert bool((clipped.unflatten(1, (2, 16)).abs().amax(2) <= limits + 1e-6).all())
    assert float(limits[2, 0]) >= 0.55 * 9.0 - 1e-5


def test_queries_and_keys_are_not_clipped(problem):
    assert not clips("model.layers.0.self_attn.q_proj")
    assert not clips("self_attn.k_proj")
    assert not clips("self_attn.qkv_proj")
    assert clips("self_attn.v_proj")
    assert clips("mlp.down_proj")
    weight, x, _ = problem()
    for name, same in (("self_attn.q_proj", True), ("self_attn.v_proj", False)):
        _, clipped = quantize_clipped(name, weight, x, AwqOptions(GridOptions(2, 16, "free")))
        assert torch.equal(clipped, weight) == same


def test_layers_are_searched_on_untouched_inputs(tiny, ids):
    """What becomes of the second layer does not depend on the first having been quantised."""
    settings = QuantizationSettings("awq", 3, 16)
    model, untouched = tiny(), tiny()
    quantize_model(model, settings, ids)
    blocks = BlockByBlock(untouched, ids)
    blocks.advance(0)
    with torch.no_grad():
        alone = awq_layer(blocks.layout.layers[1], blocks, 1, settings, QuantizationReport())
    for name, weight in alone.items():
        assert torch.equal(model.model.layers[1].get_submodule(name).dequantized(), weight.dequantize())


def test_fewer_search_sequences_look_at_fewer_outputs(tiny, ids):
    blocks = BlockByBlock(tiny(), ids, batch_size=3)
    layer = blocks.layout.layers[0]
    unit = units_of(layer)[0][0]
    with recording(layer, [unit]) as recorded:
        blocks.advance(0)

    def losses(sequences):
        options = AwqOptions(FREE, ratios=3, search_sequences=sequences)
        return search_unit(layer, unit, recorded, {}, options).losses

    assert losses(12) == losses(None)
    record = recorded[unit.inspected]
    first = {unit.inspected: Recording(record.calls[:2], record.outputs[:2])}
    means = AwqOptions(FREE, ratios=1)
    by_hand = search_unit(layer, unit, first, {}, means).losses[0.0]  # ratio 0 does not depend on the means
    assert losses(6)[0.0] == pytest.approx(by_hand)
    assert losses(6)[0.0] != losses(None)[0.0]


def test_impossible_options_are_refused():
    for name in ("ratios", "clip_steps", "clip_tokens"):
        with pytest.raises(BadInputError, match=f"{name} must be at least 1, got 0"):
            AwqOptions(FREE, **{name: 0})
    with pytest.raises(BadInputError, match="clip_tried must be at most clip_steps = 20, got 21"):
        AwqOptions(FREE, clip_tried=21)
