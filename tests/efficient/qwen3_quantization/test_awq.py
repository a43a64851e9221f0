from __future__ import annotations

import pytest
import torch

from papertrial.efficient.calibration import BlockByBlock
from papertrial.efficient.layouts import layout_of
from papertrial.efficient.qwen3_quantization.awq import (
    AwqOptions,
    _clipped_change,
    _plain_clipped_change,
    channel_scales,
    clip_limits,
    clip_weight,
    clips,
    linear_errors,
    moment_errors,
    quantize_clipped,
    scaled_rounding,
    search_scales,
)
from papertrial.efficient.qwen3_quantization.awq_units import (
    apply_scales,
    recording,
    search_unit,
    units_of,
)
from papertrial.efficient.qwen3_quantization.grids import GridOptions, grid_values, round_weight
from papertrial.efficient.qwen3_quantization.layer_inputs import input_statistics, observers
from papertrial.efficient.qwen3_quantization.layer_methods import awq_layer
from papertrial.efficient.qwen3_quantization.naive import best_ratio, clip_limits_by_tokens
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


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("group", [16, -1])
@pytest.mark.parametrize("stored", [None, torch.float16])
def test_the_compiled_rounding_is_the_plain_one_bit_for_bit(bits, group, stored):
    generator = torch.Generator().manual_seed(bits)
    weight = torch.randn(40, 64, generator=generator)
    weight[3] = 0.0
    weight[:, 5] = -0.0
    scales = torch.rand(64, generator=generator) * 10 + 1e-3
    grid = GridOptions(bits, group, "free", scale_dtype=stored)
    assert torch.equal(scaled_rounding(weight, scales, grid), grid_values(weight * scales, grid) / scales)
    # rows do not depend on each other: the search rounds a share of them at a time
    assert torch.equal(scaled_rounding(weight[7:9], scales, grid), scaled_rounding(weight, scales, grid)[7:9])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tokens", [30, 300])
def test_the_search_of_one_matrix_is_the_naive_one(problem, seed, tokens):
    """Fewer tokens than inputs go through the tokens, more through their moment: the pick is the same."""
    weight, x, _ = problem(tokens=tokens, seed=seed)
    x = x * torch.linspace(0.1, 20, 64)[torch.randperm(64, generator=torch.Generator().manual_seed(seed))]
    ratio, errors = best_ratio(x.abs().mean(0), [weight], lambda given: x @ given[0].T, FREE)
    for found in (
        search_scales(x.abs().mean(0), linear_errors(weight, x), AwqOptions(FREE)),
        search_scales(x.abs().mean(0), moment_errors(weight, x.T @ x, tokens), AwqOptions(FREE)),
    ):
        assert found.ratio == ratio
        # sums in float32 and in another order
        assert found.losses[ratio] == pytest.approx(min(errors), rel=1e-3)
        for step, error in enumerate(errors):  # given up: at least the winner's, at most its own
            counted = found.losses[step / 20]
            assert min(errors) * (1 - 1e-3) <= counted <= error * (1 + 1e-3)


def test_the_first_of_equals_wins_and_what_cannot_win_is_given_up():
    means, options = torch.linspace(0.1, 2.0, 16), AwqOptions(FREE)
    assert search_scales(means, lambda _: iter([0.25, 0.75]), options).ratio == 0.0
    drawn = []

    def errors(rounding):
        ratio = next(
            step
            for step in range(20)
            if torch.equal(rounding.keywords["scales"], channel_scales(means, step / 20))
        )
        for part in range(10):
            drawn.append((ratio, part))
            yield 1.0 + abs(ratio - 8)

    found = search_scales(means, errors, options)
    assert (found.ratio, found.losses[0.4]) == (0.4, 10.0)
    assert max(part for ratio, part in drawn if ratio == 0) == 1  # 9 + 9 > 10
    assert found.losses[0.0] == 18.0
    with pytest.raises(BadInputError, match="no scale gives q a finite output error"):
        search_scales(means, lambda _: iter([float("nan")]), options, "q")


def test_the_best_ratio_is_found_where_the_probes_point_elsewhere():
    """The order in which ratios are counted must not matter: here the first part misleads."""
    means = torch.linspace(0.1, 2.0, 16)
    for winner in range(20):

        def errors(rounding, winner=winner):
            best = torch.equal(rounding.keywords["scales"], channel_scales(means, winner / 20))
            yield 5.0 if best else 1.0
            yield 0.0 if best else 7.0

        assert search_scales(means, errors, AwqOptions(FREE)).ratio == winner / 20


def test_the_compiled_clipping_is_the_plain_one_bit_for_bit():
    generator = torch.Generator().manual_seed(1)
    weight, limit, scale = (torch.rand(20, width, generator=generator) for width in (48, 3, 3))
    weight, zero = weight * 4 - 2, torch.randint(0, 8, (20, 3), generator=generator).float()
    given = weight, limit + 0.2, scale + 0.05, zero, GridOptions(3, 16, "free")
    assert torch.equal(_clipped_change(*given), _plain_clipped_change(*given))


@pytest.mark.parametrize("stored", [None, torch.float16])
def test_clip_limits_are_the_naive_ones(problem, stored):
    weight, x, _ = problem(outputs=30, inputs=64, tokens=80)
    weight[2, 5] = 9.0
    weight[4, :16] = 0.0
    grid = GridOptions(3, 16, "free", scale_dtype=stored)
    limits = clip_limits(weight, x, AwqOptions(grid))
    expected = clip_limits_by_tokens(weight, x, grid)
    # float32 moments against float64 tokens: a pick may differ where two errors agree to six digits, no more
    assert float((limits == expected).float().mean()) > 0.98
    clipped = clip_weight(weight, limits)
    assert bool((clipped.unflatten(1, (4, 16)).abs().amax(2) <= limits + 1e-6).all())
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


def _searched(model, ids, search_tokens, batch_size=5):
    """Return the searches of the first layer's units, by what they inspect, and its recordings."""
    blocks = BlockByBlock(model, ids, batch_size=batch_size)
    layer = blocks.layout.layers[0]
    options = AwqOptions(FREE, search_tokens=search_tokens)
    units, _ = units_of(layer)
    with recording(layer, units, blocks, options) as recorded:
        lone = {unit.inspected for unit in units} - set(recorded)
        seen = input_statistics(layer, layer.sequential, blocks, moment_of=lone)
        blocks.advance(0, observers(layer.sequential, seen))
    found = {unit.inspected: search_unit(layer, unit, recorded, seen, options) for unit in units}
    return found, recorded


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-llama", "tiny-gemma3", "tiny-phi3"])
@pytest.mark.parametrize("search_tokens", [None, 10_000, 512])
def test_units_are_searched_as_by_running_every_candidate(tiny, ids, name, search_tokens):
    """With 288 tokens in all, 512 wanted are all of them: whole sequences, single tokens, moments agree."""
    model = tiny(name)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter[:3] *= 8.0  # outliers, so that ratios matter
    found, _ = _searched(model, ids, search_tokens)
    blocks = BlockByBlock(model, ids, batch_size=12)
    layer = blocks.layout.layers[0]
    for unit in units_of(layer)[0]:
        module, calls = layer.linear(unit.inspected), []
        keep = module.register_forward_pre_hook(
            lambda _, given, named, calls=calls: calls.append((given, named)), with_kwargs=True
        )
        blocks.observe(0, {unit.readers[0]: lambda _: None, "mlp.down_proj": lambda _: None})
        keep.remove()
        (given, named), weights = calls[0], [layer.weight(reader) for reader in unit.readers]

        def output_of(values, module=module, given=given, named=named, weights=weights):
            was = [weight.detach().clone() for weight in weights]
            with torch.no_grad():
                for weight, value in zip(weights, values, strict=True):
                    weight.copy_(value)
                output = module(*given, **named)
                for weight, value in zip(weights, was, strict=True):
                    weight.copy_(value)
            return output if isinstance(output, torch.Tensor) else output[0]

        hidden = given[0] if given else named["hidden_states"]
        originals = [weight.detach().clone() for weight in weights]
        means = hidden.abs().flatten(0, -2).mean(0)
        ratio, errors = best_ratio(means, originals, output_of, FREE)
        assert found[unit.inspected].ratio == ratio
        assert found[unit.inspected].losses[ratio] == pytest.approx(min(errors), rel=1e-3)
        for weight, original in zip(weights, originals, strict=True):
            assert torch.equal(weight, original)


def test_search_tokens_says_how_much_is_looked_at(tiny):
    ids = torch.randint(64, (40, 24), generator=torch.Generator().manual_seed(3))
    _, few = _searched(tiny(), ids, 100)
    mlp, attention, down = few["mlp"], few["self_attn"], few["mlp.down_proj"]
    # 960 tokens: every 9th; 40 sequences of 24: at least ceil(100 / 24) = 5, so every 8th
    assert sum(output.shape[-2] for output in mlp.outputs) == -(-960 // 9)
    assert sum(output.shape[-2] for output in down.outputs) == -(-960 // 9)
    assert sum(len(output) for output in attention.outputs) == 5
    _, everything = _searched(tiny(), ids, None)
    assert "mlp.down_proj" not in everything  # its second moment is enough
    whole = {name: torch.cat(record.outputs) for name, record in everything.items()}
    assert torch.equal(torch.cat(attention.outputs), whole["self_attn"][::8])
    picked = torch.cat([output[0] for output in mlp.outputs])
    assert torch.equal(picked, whole["mlp"].flatten(0, 1)[::9])
    for record in few.values():  # whatever is looked at again, means are over all tokens
        assert record.inputs.tokens == 960
    # never fewer than four sequences, however long they are
    _, long = _searched(tiny(), ids, 1)
    assert sum(len(output) for output in long["self_attn"].outputs) == 4


def test_a_module_that_mixes_tokens_cannot_be_shown_single_ones(tiny, ids):
    model = tiny()
    mlp = model.model.layers[0].mlp
    plain = mlp.forward
    mlp.forward = lambda x: plain(x.roll(1, -2))
    with pytest.raises(BadInputError, match="mlp gives single tokens another output"):
        _searched(model, ids, 50)
    assert set(_searched(model, ids, None)[0]) == {"self_attn", "mlp", "mlp.down_proj"}


def test_impossible_options_are_refused():
    for name in ("ratios", "clip_steps", "clip_tokens", "search_tokens"):
        with pytest.raises(BadInputError, match=f"{name} must be at least 1, got 0"):
            AwqOptions(FREE, **{name: 0})
    with pytest.raises(BadInputError, match="clip_tried must be at most clip_steps = 20, got 21"):
        AwqOptions(FREE, clip_tried=21)
