from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from papertrial.efficient.apollo import (
    Apollo,
    Int8Linear,
    LayerwiseSteps,
    QApollo,
    dequantize_linears,
    param_groups,
    quantize_linears,
)
from papertrial.efficient.apollo.quantized import dequantize, quantize
from papertrial.errors import BadInputError


def plain_code(values):
    """Quantise one group by the formula, element by element, to nearest."""
    low, high = min(values), max(values)
    scale = max(high - low, 1e-5) / 255
    zero = min(max(-round(low / scale), 0), 255)
    return [min(max(round(v / scale) + zero, 0), 255) for v in values], scale, zero


def test_codes_are_those_of_the_formula():
    weight = torch.randn(3, 128, generator=torch.Generator().manual_seed(0)) * 0.02
    codes, scale, zero = quantize(weight)
    for group in range(3):
        expected, step, offset = plain_code(weight[group].tolist())
        assert scale[group].item() == pytest.approx(step, rel=1e-6)
        assert zero[group].item() == offset
        # Double and float32 may round a value on the border between two levels differently.
        apart = [abs(a - b) for a, b in zip(codes[group].tolist(), expected, strict=True)]
        assert max(apart) <= 1
        assert sum(apart) <= 1


@given(arrays("float32", (2, 128), elements=st.floats(-10, 10, width=32)))
def test_round_trip_is_within_half_a_level(values):
    weight = torch.from_numpy(values)
    codes, scale, zero = quantize(weight)
    error = (dequantize(codes, scale, zero) - weight).abs()
    # Half a level for the value and half for the zero point; 1e-4 for float32.
    assert (error <= scale * 1.0001 + 1e-6).all()


def test_groups_of_one_sign_survive():
    """The released range need not hold 0; its zero point is then clipped and such weights are lost."""
    weight = torch.linspace(1.0, 1.1, 128).reshape(1, 128)
    assert (dequantize(*quantize(weight)) - weight).abs().max() < 0.005

    step = (weight.max() - weight.min()) / 255
    released_zero = (-(weight.min() / step).round()).clamp(0, 255)
    released = ((weight / step).round() + released_zero).clamp(0, 255)
    assert ((released - released_zero) * step).max() < 0.2


def test_stochastic_rounding_is_unbiased():
    """Mean of 2,000 roundings: the standard error is half a level over √2000, a hundredth of a level."""
    weight = torch.linspace(-0.5, 0.5, 128).reshape(1, 128)
    generator = torch.Generator().manual_seed(0)
    total = sum(dequantize(*quantize(weight, generator)) for _ in range(2000)) / 2000
    _, scale, _ = quantize(weight)
    assert ((total - weight).abs()[:, 1:-1] < 0.06 * scale).all()


def test_element_count_must_divide():
    with pytest.raises(
        BadInputError, match=r"\(10, 10\) has 100 elements, which groups of 128 do not divide"
    ):
        quantize(torch.ones(10, 10))


@pytest.fixture
def pair(tiny_llama):
    """An int8 model and an ordinary one with exactly its values."""
    quantized, plain = tiny_llama(), tiny_llama()
    layers = quantize_linears(quantized)
    originals = [
        module
        for name, module in plain.named_modules()
        if isinstance(module, nn.Linear) and "lm_head" not in name
    ]
    for layer, original in zip(layers, originals, strict=True):
        original.weight.data.copy_(layer.float_weight())
    return quantized, plain, layers


TOKENS = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(1))


def test_outputs_and_gradients_are_those_of_the_dequantised_model(pair):
    quantized, plain, _ = pair
    for model in (quantized, plain):
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    gradients = {name: p.grad for name, p in plain.named_parameters()}
    for name, parameter in quantized.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-5)  # float32 order


def test_bias_and_single_vectors():
    linear = nn.Linear(16, 8)
    layer = Int8Linear(linear)
    inputs = torch.randn(16, requires_grad=True, generator=torch.Generator().manual_seed(0))
    expected = layer.dequantized()
    torch.testing.assert_close(layer(inputs), expected(inputs))
    layer(inputs).square().sum().backward()
    expected.weight.grad = None
    expected(inputs.detach()).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, expected.weight.grad)


def test_weights_take_a_byte_and_a_bit(pair):
    quantized, _, layers = pair
    for layer in layers:
        count = layer.in_features * layer.out_features
        assert layer.weight.untyped_storage().nbytes() == 4  # one element
        held = sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers())
        assert held == count * (1 + 5 / 128)
    quantized.to(torch.float32)
    assert layers[0].weight.untyped_storage().nbytes() == 4


def test_one_nearest_step_is_apollos_then_rounded(pair):
    """Against Apollo on the dequantised model: the same float step, then this file's own quantiser."""
    quantized, plain, layers = pair
    ours = QApollo(param_groups(quantized, rank=4), layers, rounding="nearest", lr=0.01, weight_decay=0.0)
    theirs = Apollo(param_groups(plain, rank=4), lr=0.01, eps=1e-8, correct_inside=True)
    for model, optimizer in ((quantized, ours), (plain, theirs)):
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
    moved = dict(plain.named_parameters())
    for name, parameter in quantized.named_parameters():
        if parameter.is_contiguous() and "proj" not in name:
            torch.testing.assert_close(parameter, moved[name], atol=1e-6, rtol=1e-5)
    for layer, target in zip(layers, [p for n, p in moved.items() if "proj" in n], strict=True):
        step = layer.scale.max()
        assert (layer.float_weight() - target).abs().max() <= step * 1.001


def train(model, layers, rounding, steps, lr=0.01):
    optimizer = QApollo(param_groups(model, rank=8), layers, rounding=rounding, lr=lr, weight_decay=0.0)
    for _ in range(steps):
        loss = model(input_ids=TOKENS, labels=TOKENS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer, loss.item()


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_an_int8_model_learns(rounding, tiny_llama):
    model = tiny_llama()
    _, loss = train(model, quantize_linears(model), rounding, 40)
    assert loss < 0.5 * math.log(256)


@pytest.mark.filterwarnings("ignore:QApollo with lr 2e-06")
def test_small_updates_live_on_only_when_rounded_stochastically(tiny_llama):
    """A learning rate whose steps are far below a level: nearest rounding leaves every code as it was."""
    codes = {}
    for rounding in ("stochastic", "nearest"):
        model = tiny_llama()
        layers = quantize_linears(model)
        before = [layer.codes.clone() for layer in layers]
        train(model, layers, rounding, 3, lr=2e-6)
        codes[rounding] = sum(int((a != layer.codes).sum()) for a, layer in zip(before, layers, strict=True))
    assert codes["stochastic"] > 100
    assert codes["nearest"] < codes["stochastic"] / 20


def test_resuming_repeats_the_rounding(tiny_llama, tmp_path):
    def fresh():
        model = tiny_llama()
        layers = quantize_linears(model)
        return model, QApollo(param_groups(model, rank=4), layers, update_proj_gap=2)

    def go(model, optimizer, steps):
        for _ in range(steps):
            model(input_ids=TOKENS, labels=TOKENS).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    whole, optimizer = fresh()
    go(whole, optimizer, 5)
    part, optimizer = fresh()
    go(part, optimizer, 3)
    torch.save({"model": part.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "saved.pt")
    saved = torch.load(tmp_path / "saved.pt", weights_only=True)
    resumed, optimizer = fresh()
    resumed.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    go(resumed, optimizer, 2)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_dequantised_model_saves_and_loads(tiny_llama, tmp_path):
    from transformers import LlamaForCausalLM

    model = tiny_llama()
    quantize_linears(model)
    with torch.no_grad():
        expected = model(input_ids=TOKENS).logits
    dequantize_linears(model)
    model.save_pretrained(tmp_path)
    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=TOKENS).logits, expected, atol=1e-5, rtol=1e-5)


def test_int8_works_layer_by_layer(tiny_llama):
    results = []
    for layerwise in (False, True):
        model = tiny_llama()
        layers = quantize_linears(model)
        optimizer = QApollo(param_groups(model, rank=4), layers)
        if layerwise:
            LayerwiseSteps(optimizer)
        for _ in range(3):
            model(input_ids=TOKENS, labels=TOKENS).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        results.append([layer.codes for layer in layers])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_bad_input(tiny_llama):
    model = tiny_llama()
    with pytest.raises(BadInputError, match="no linear layer of LlamaForCausalLM"):
        quantize_linears(model, ("ffn",))
    layers = quantize_linears(model)
    with pytest.raises(
        BadInputError, match="rounding of QApollo must be one of stochastic, nearest, got 'up'"
    ):
        QApollo(param_groups(model, rank=2), layers, rounding="up")
    with pytest.raises(BadInputError, match="4 of 7 int8 layers are in no low-rank group"):
        QApollo(param_groups(model, rank=2, target=("mlp",)), layers)
