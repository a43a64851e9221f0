from __future__ import annotations

import copy
import gc
import math

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from papertrial.efficient.accounting import model_bytes
from papertrial.efficient.layouts import layout_of
from papertrial.efficient.outliers import plant_outliers
from papertrial.efficient.quantized_linear import QuantLinear
from papertrial.efficient.qwen3_quantization.gptq import gptq_weight
from papertrial.efficient.qwen3_quantization.grids import round_weight
from papertrial.efficient.qwen3_quantization.quantize import is_quantized, quantize_model
from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings
from papertrial.errors import BadInputError

METHODS = ["rtn", "gptq", "awq", "smoothquant", "rtn_wa"]


def _logits(model, ids):
    with torch.no_grad():
        return model(ids).logits


def _moe(experts=4, chosen=2):
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_experts=experts,
        num_experts_per_tok=chosen,
        mlp_only_layers=[],
    )
    return Qwen3MoeForCausalLM(config).eval()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-gemma3", "tiny-phi3"])
def test_eight_bits_change_little_and_fewer_bits_more(tiny, ids, method, name):
    ids, errors = ids[:6], []
    whole = _logits(tiny(name), ids)
    for bits in (8, 4, 2):
        model = tiny(name)
        quantize_model(model, QuantizationSettings(method, bits, 16), ids)
        errors.append(float((_logits(model, ids) - whole).norm() / whole.norm()))
    assert errors[0] < 0.03
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_packed_and_plain_models_compute_the_same(tiny, ids, method):
    packed, plain = tiny(), tiny()
    settings = QuantizationSettings(method, 4, 16)
    report = quantize_model(packed, settings, ids)
    quantize_model(plain, settings, ids, packed=False)
    for name in layout_of(plain).linears:
        assert torch.equal(packed.get_submodule(name).dequantized(), plain.get_submodule(name).weight)
    assert torch.equal(_logits(packed, ids), _logits(plain, ids))
    assert report.size.total == model_bytes(packed, layout_of(plain).linears).total


def test_gptq_sees_what_is_quantised_already(tiny, ids):
    """The o projection's Hessian is of inputs made by rounded q, k and v; without true_sequential it is not."""
    settings = QuantizationSettings("gptq", 2, 16, scale_dtype="float32")
    model, reference = tiny(), tiny()
    quantize_model(model, settings, ids, packed=False)
    layer = reference.model.layers[0]
    done = model.model.layers[0]
    for name in ("q_proj", "k_proj", "v_proj"):
        layer.self_attn.get_submodule(name).weight.data.copy_(done.self_attn.get_submodule(name).weight)
    seen = []
    handle = layer.self_attn.o_proj.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0]) and None
    )
    _logits(reference, ids)
    handle.remove()
    x = seen[0].flatten(0, 1)
    expected = gptq_weight(
        layer.self_attn.o_proj.weight, 2 * x.T @ x / len(ids), settings.gptq()
    ).dequantize()
    # the Hessian is added up in other batches: a weight half-way may fall to the other side
    assert (
        float(torch.isclose(done.self_attn.o_proj.weight, expected, rtol=1e-4, atol=1e-6).float().mean())
        > 0.97
    )
    at_once = tiny()
    quantize_model(at_once, QuantizationSettings("gptq", 2, 16, true_sequential=False), ids, packed=False)
    same = at_once.model.layers[0].self_attn.o_proj.weight == expected
    assert float(same.float().mean()) < 0.97


def test_gptq_and_awq_beat_rounding_on_a_model_with_outliers(tiny, ids):
    whole = _logits(tiny(), ids)
    errors = {}
    for method in ("rtn", "gptq", "awq"):
        model = tiny()
        plant_outliers(model, 3)
        quantize_model(model, QuantizationSettings(method, 3, 16), ids)
        errors[method] = float((_logits(model, ids) - whole).norm() / whole.norm())
    assert errors["gptq"] < 0.9 * errors["rtn"]
    assert errors["awq"] < 0.9 * errors["rtn"]


def test_head_and_embedding_stay_tied_and_whole(tiny, ids):
    model = tiny(tie_word_embeddings=True)
    before = model.lm_head.weight.clone()
    quantize_model(model, QuantizationSettings("gptq", 4, 16), ids)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, before)


def test_the_report_says_how_wrong_each_output_is(tiny, ids):
    for method in ("rtn", "gptq", "awq", "smoothquant", "billm"):
        model = tiny()
        names = layout_of(model).linears
        report = quantize_model(model, QuantizationSettings(method, 3, 16), ids, packed=method != "billm")
        assert sorted(one.name for one in report.linears) == sorted(names)
        errors = [one.output_error for one in report.linears]
        assert all(0 < error < 1 for error in errors)
        assert all(0 < one.weight_error < 1 for one in report.linears)
        assert report.worst(3)[0].output_error == max(errors)
        assert len(report.table()) == len(names)
        assert math.isnan(report.linears[0].damping) == (method not in ("gptq", "billm"))
        assert (report.nominal_bits is not None) == (method == "billm")


def test_rounding_needs_no_calibration_and_gives_the_same(tiny, ids):
    first, second = tiny(), tiny()
    report = quantize_model(first, QuantizationSettings("rtn", 4, 16))
    quantize_model(second, QuantizationSettings("rtn", 4, 16), ids)
    assert torch.equal(_logits(first, ids), _logits(second, ids))
    assert all(math.isnan(one.output_error) for one in report.linears)
    assert report.worst(1)[0].weight_error > 0


def test_half_precision_models_are_quantised_in_float32(tiny, ids):
    model = tiny().to(torch.bfloat16)
    weight = model.model.layers[0].mlp.down_proj.weight.detach().clone()
    settings = QuantizationSettings("rtn", 4, 16)
    quantize_model(model, settings, ids)
    assert torch.equal(
        model.model.layers[0].mlp.down_proj.dequantized(), round_weight(weight, settings.grid()).dequantize()
    )
    assert _logits(model, ids).dtype == torch.bfloat16


@pytest.mark.parametrize("method", ["gptq", "awq", "smoothquant"])
def test_experts_are_quantised_and_the_router_is_not(ids, method):
    model, whole = _moe(), _moe()
    quantize_model(model, QuantizationSettings(method, 8, 16), ids)
    mlp = model.model.layers[0].mlp
    assert isinstance(mlp.experts[2].down_proj, QuantLinear)
    expected = whole.model.layers[0].mlp.gate.weight
    scale = mlp.gate.weight / expected  # at most the scale moved out of the norm
    torch.testing.assert_close(scale, scale[:1].expand_as(scale), rtol=1e-4, atol=1e-5)
    if method == "gptq":
        assert torch.equal(mlp.gate.weight, expected)
    logits = _logits(whole, ids)
    assert float((_logits(model, ids) - logits).norm() / logits.norm()) < 0.05


@pytest.mark.parametrize("method", ["rtn", "gptq", "awq", "smoothquant", "billm"])
def test_experts_without_tokens_are_rounded_and_counted(ids, method):
    model = _moe(experts=8, chosen=1)
    few = ids[:1, :3]  # three tokens cannot reach eight experts
    with pytest.warns(UserWarning, match=r"expert matrices saw no calibration token"):
        report = quantize_model(
            model, QuantizationSettings(method, 4, 16), few, packed=method != "billm", batch_size=1
        )
    assert report.fallbacks % 3 == 0  # gate, up and down of each
    assert 2 * 5 * 3 <= report.fallbacks <= 2 * 7 * 3
    assert str(report.fallbacks) in report.notes[-1]
    assert bool(torch.isfinite(_logits(model, ids)).all())


def test_progress_is_told_layer_by_layer(tiny, ids):
    told = []
    quantize_model(tiny(), QuantizationSettings("rtn", 4, 16), ids, progress=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("method", ["gptq", "awq", "smoothquant"])
def test_activations_of_one_layer_at_a_time(tiny, method):
    """However many layers there are, no more hidden states are alive than one layer's inputs."""
    ids = torch.randint(64, (6, 37), generator=torch.Generator().manual_seed(0))
    alive = []

    def count(done, total):
        gc.collect()
        tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
        shapes = {
            thing.data_ptr() for thing in tensors if thing.shape[-2:] == (37, 64) or thing.shape == (222, 64)
        }
        alive.append(len(shapes))

    model = tiny(num_hidden_layers=5)
    quantize_model(model, QuantizationSettings(method, 4, 16), ids, batch_size=2, progress=count)
    assert alive == [3] * 5  # three batches of two sequences


def test_a_quantised_model_is_refused(tiny, ids):
    model = tiny()
    quantize_model(model, QuantizationSettings("rtn", 4, 16))
    assert is_quantized(model)
    with pytest.raises(BadInputError, match="this Qwen3ForCausalLM is quantised already"):
        quantize_model(model, QuantizationSettings("gptq", 4, 16), ids)
    other = tiny()
    other.config.quantization_config = {"quant_method": "gptq"}
    with pytest.raises(BadInputError, match="is quantised already"):
        quantize_model(other, QuantizationSettings("rtn", 4, 16))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 5}, "bits must be one of 2, 3, 4, 8 .about one bit is method billm's., got 5"),
        ({"bits": 1}, "got 1"),
        ({"activation_bits": 8}, "activation_bits is for smoothquant and rtn_wa, not for gptq"),
        ({"method": "smoothquant", "activation_bits": 1}, "activation_bits must lie between 2 and 16, got 1"),
        ({"scale_dtype": "int8"}, "scale_dtype must be float16, bfloat16 or float32"),
        ({"alpha": 2.0}, "alpha must lie between 0 and 1, got 2.0"),
        ({"damping": 0.0}, "damping must lie above 0"),
        ({"group_size": 48}, r"inputs of model\.layers\.0\.self_attn\.q_proj: 64 is no multiple of 48"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_touched(tiny, ids, options, message):
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(BadInputError, match=message):
        quantize_model(model, QuantizationSettings(**options), ids)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_methods_that_look_need_calibration(tiny):
    for method in ("gptq", "awq", "smoothquant", "billm"):
        with pytest.raises(BadInputError, match=f"{method} looks at activations"):
            quantize_model(tiny(), QuantizationSettings(method, 4, 16))
    with pytest.raises(BadInputError, match="rtn_wa rounds activations, which plain linears cannot"):
        quantize_model(tiny(), QuantizationSettings("rtn_wa", 8), packed=False)


def test_calibration_with_one_token_over_and_over_is_survived_and_noted(tiny):
    model = tiny()
    ids = torch.full((4, 16), 7)
    report = quantize_model(model, QuantizationSettings("gptq", 4, 16, damping=1e-7), ids)
    assert any("damping raised" in note for note in report.notes)
    assert bool(torch.isfinite(_logits(model, ids)).all())


def test_weights_that_are_not_finite_are_named(tiny, ids):
    model = tiny()
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(
        BadInputError, match=r"model\.layers\.1\.mlp\.(up|gate)_proj has weights that are not"
    ):
        quantize_model(model, QuantizationSettings("gptq", 4, 16), ids)
