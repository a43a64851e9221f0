from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from papertrial.efficient.packing import PACKED_BITS
from papertrial.efficient.quantized_linear import (
    QuantizedWeight,
    QuantLinear,
    packed_product,
    quantize_activations,
)
from papertrial.errors import BadInputError


def _weight(bits, outputs=24, inputs=64, group=16, ordered=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    groups = inputs // group
    return QuantizedWeight(
        torch.randint(1 << bits, (outputs, inputs), generator=generator, dtype=torch.uint8),
        torch.rand(outputs, groups, generator=generator).half(),
        torch.randint(1 << bits, (outputs, groups), generator=generator, dtype=torch.uint8),
        bits,
        torch.randperm(inputs, generator=generator).div(group, rounding_mode="floor").int()
        if ordered
        else None,
    )


@pytest.mark.parametrize("bits", PACKED_BITS)
@pytest.mark.parametrize("ordered", [False, True])
def test_packing_keeps_every_weight_bit_for_bit(bits, ordered):
    weight = _weight(bits, ordered=ordered)
    values = torch.empty(24, 64)
    for o in range(24):  # one weight at a time
        for j in range(64):
            group = int(weight.group_of[j]) if ordered else j // 16
            code, zero = float(weight.codes[o, j]), float(weight.zeros[o, group])
            values[o, j] = (code - zero) * weight.scales[o, group].float()
    assert torch.equal(weight.dequantize(), values)
    layer = QuantLinear.from_weight(weight)
    assert torch.equal(layer.dequantized(), values)
    again = layer.quantized_weight()
    assert torch.equal(again.codes, weight.codes)
    assert torch.equal(again.zeros, weight.zeros)


@pytest.mark.parametrize("bits", PACKED_BITS)
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_the_packed_product_is_the_matrix_product(bits, ordered, rows):
    weight = _weight(bits, ordered=ordered)
    layer = QuantLinear.from_weight(weight, torch.arange(24.0))
    inputs = torch.randn(rows, 64, generator=torch.Generator().manual_seed(2))
    exact = inputs.double() @ weight.dequantize(torch.float64).T
    # 64 products of size up to 2^bits, added in float32 in another order
    torch.testing.assert_close(packed_product(inputs, layer).double(), exact, rtol=1e-5, atol=2e-5 * 2**bits)
    torch.testing.assert_close(layer(inputs), packed_product(inputs, layer) + torch.arange(24.0))


def test_a_large_packed_product_is_shared_among_threads():
    weight = _weight(8, outputs=1030, inputs=512, group=64)
    layer = QuantLinear.from_weight(weight)
    inputs = torch.randn(2, 512, generator=torch.Generator().manual_seed(2))
    alone = packed_product(inputs, layer)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(packed_product(inputs, layer), alone)  # a row is one thread's work
    finally:
        torch.set_num_threads(threads)


def test_many_tokens_and_gradients_go_through_the_matrix_product():
    weight = _weight(4)
    layer = QuantLinear.from_weight(weight)
    inputs = torch.randn(2, 30, 64, requires_grad=True)
    layer(inputs).sum().backward()
    expected = weight.dequantize().sum(0).expand_as(inputs)
    torch.testing.assert_close(inputs.grad, expected)
    one = torch.randn(1, 64, requires_grad=True)
    layer(one).sum().backward()
    torch.testing.assert_close(one.grad, weight.dequantize().sum(0)[None])


def test_groups_that_share_a_byte_do_not_use_the_packed_product():
    weight = _weight(3, inputs=60, group=12)  # eight codes of three bits fill three bytes; twelve do not
    inputs = torch.randn(1, 60)
    torch.testing.assert_close(
        QuantLinear.from_weight(weight)(inputs), F.linear(inputs, weight.dequantize()), rtol=0, atol=0
    )


def test_half_precision_inputs_come_back_in_half_precision():
    weight = _weight(4)
    inputs = torch.randn(1, 64).to(torch.bfloat16)
    output = QuantLinear.from_weight(weight)(inputs)
    assert output.dtype == torch.bfloat16
    exact = F.linear(inputs.float(), weight.dequantize())
    torch.testing.assert_close(output.float(), exact, rtol=2**-7, atol=1e-2)  # bfloat16 has eight bits


def test_activations_lie_on_each_tokens_own_grid():
    inputs = torch.tensor([[3.0, -1.0, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0], [-300.0, 150.0, 2.0, 1.0]])
    rounded = quantize_activations(inputs, 4)
    assert torch.equal(rounded[1], inputs[1])
    for row, values in ((0, inputs[0]), (2, inputs[2])):
        step = float(values.abs().max()) / 7
        steps = rounded[row] / step
        torch.testing.assert_close(steps, steps.round())
        assert float((rounded[row] - values).abs().max()) <= step / 2 * (1 + 1e-5)
    layer = QuantLinear.from_weight(_weight(4, inputs=4, group=4), activation_bits=4)
    torch.testing.assert_close(layer(inputs), F.linear(rounded, layer.dequantized()), rtol=1e-5, atol=1e-3)


def test_parts_that_do_not_fit_are_refused():
    good = _weight(4)
    with pytest.raises(BadInputError, match="do not fit each other"):
        QuantizedWeight(good.codes, good.scales[:, :3], good.zeros[:, :3], 4)
    with pytest.raises(BadInputError, match="every group must have 16 of the 64 inputs"):
        QuantizedWeight(good.codes, good.scales, good.zeros, 4, torch.zeros(64, dtype=torch.int32))
    with pytest.raises(BadInputError, match="60 is no multiple of 16; use 15, or -1"):
        QuantLinear(60, 8, 4, 16)
