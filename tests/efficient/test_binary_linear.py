from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from papertrial.efficient.accounting import binary_bytes, model_bytes
from papertrial.efficient.binary_linear import (
    BinaryLinear,
    BinaryParts,
    binarise_parts,
    pack_flags,
    replace_by_binary,
    unpack_flags,
)
from papertrial.errors import BadInputError


def _parts(outputs, inputs, block, seed=0, dtype=torch.float16):
    generator = torch.Generator().manual_seed(seed)
    blocks = -(-inputs // block)
    return BinaryParts(
        torch.rand(outputs, inputs, generator=generator) < 0.5,
        torch.rand(outputs, inputs, generator=generator) < 0.5,
        torch.rand(inputs, generator=generator) < 0.2,
        torch.randn(outputs, blocks, 4, 2, generator=generator).to(dtype),
        block,
    )


def _written_out(parts):
    """Each weight by itself: mean plus or minus size, and for salient columns a second one."""
    outputs, inputs = parts.signs.shape
    weight = torch.empty(outputs, inputs)
    for o in range(outputs):
        for j in range(inputs):
            scales = parts.scales[o, j // parts.block].float().tolist()
            second = bool(parts.second[o, j])
            if parts.salient[j]:
                taken = [(scales[2], bool(parts.signs[o, j])), (scales[3], second)]
            else:
                taken = [(scales[1 if second else 0], bool(parts.signs[o, j]))]
            weight[o, j] = sum(mean + (size if above else -size) for (mean, size), above in taken)
    return weight


@given(
    outputs=st.integers(1, 5), inputs=st.integers(1, 21), block=st.integers(1, 24), seed=st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
def test_a_packed_layer_holds_what_was_packed(outputs, inputs, block, seed):
    parts = _parts(outputs, inputs, block, seed)
    layer = BinaryLinear.from_parts(parts)
    back = layer.parts()
    for name in ("signs", "second", "salient", "scales"):
        assert torch.equal(getattr(back, name), getattr(parts, name))
    assert torch.equal(layer.dequantized(), parts.dequantize())
    # float64 sums rounded once against float32 sums
    torch.testing.assert_close(parts.dequantize(), _written_out(parts), rtol=1e-6, atol=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_flags_take_a_bit_each(flags):
    packed = pack_flags(torch.tensor(flags))
    assert len(packed) == -(-len(flags) // 8)
    assert unpack_flags(packed, len(flags)).tolist() == flags


@pytest.mark.parametrize(("inputs", "block"), [(64, 16), (70, 32), (12, 128)])
def test_the_count_is_what_the_buffers_take(inputs, block):
    parts = _parts(6, inputs, block)
    layer = BinaryLinear.from_parts(parts)
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers())
    assert binary_bytes(parts.salient, 6, block=block).total == buffers
    assert model_bytes(nn.Sequential(layer), ["0"]).total == buffers


def test_the_product_is_that_of_the_plain_linear_and_keeps_its_bias():
    model = nn.Sequential(nn.Linear(20, 6))
    parts = _parts(6, 20, 8)
    bias = model[0].bias.detach().clone()
    replace_by_binary(model, "0", parts)
    x = torch.randn(3, 20, generator=torch.Generator().manual_seed(1), requires_grad=True)
    out = model(x)
    assert torch.equal(out, nn.functional.linear(x, parts.dequantize(), bias))
    out.sum().backward()
    # sums over six outputs in another order
    torch.testing.assert_close(x.grad, parts.dequantize().sum(0).expand(3, -1), rtol=1e-5, atol=1e-5)


def test_an_entry_at_its_mean_counts_as_above_it():
    weight = torch.tensor([[1.0, 2.0, 3.0]])  # mean 2, size 2/3
    nothing = torch.zeros(3, dtype=torch.bool)
    parts = binarise_parts(weight, weight, nothing, 9.0, torch.float32)
    assert parts.signs.tolist() == [[False, True, True]]
    torch.testing.assert_close(parts.dequantize(), torch.tensor([[2 - 2 / 3, 2 + 2 / 3, 2 + 2 / 3]]))


def test_a_size_is_fitted_to_the_mean_as_it_is_stored():
    """One weight a part: whatever float16 makes of its mean, its size makes up for."""
    weight = torch.tensor([[1000.3], [-301.13]])
    parts = binarise_parts(weight, weight, torch.zeros(1, dtype=torch.bool), 0.0, torch.float16)
    rounded = weight.half().float()
    assert not torch.equal(rounded, weight)
    off = (parts.dequantize() - weight).abs()
    assert bool((off < 1e-3 * (rounded - weight).abs()).all())  # float16 has eleven bits for the size as well


def test_parts_that_do_not_fit_and_weights_too_large_are_refused():
    parts = _parts(2, 16, 8)
    with pytest.raises(BadInputError, match="16 columns in blocks of 4 do not fit scales for 2 blocks"):
        BinaryParts(parts.signs, parts.second, parts.salient, parts.scales, 4)
    weight = torch.tensor([[1e5, -1e5, 3e5]])
    with pytest.raises(BadInputError, match=r"means that torch.float16 cannot hold; use float32"):
        binarise_parts(weight, weight, torch.zeros(3, dtype=torch.bool), 2e5, torch.float16)
