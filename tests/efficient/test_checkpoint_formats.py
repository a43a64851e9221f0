from __future__ import annotations

import pytest
import torch
from transformers.integrations.metal_quantization import _affine_dequantize_tensor

from papertrial.efficient.checkpoint_formats import layout_tensors, read_layout
from papertrial.efficient.quantized_linear import QuantizedWeight
from papertrial.errors import BadInputError


def _weight(bits, *, ordered=False, outputs=32, inputs=64, group=16):
    generator = torch.Generator().manual_seed(bits)
    order = torch.randperm(inputs, generator=generator)
    return QuantizedWeight(
        torch.randint(1 << bits, (outputs, inputs), generator=generator, dtype=torch.uint8),
        torch.rand(outputs, inputs // group, generator=generator).half(),
        torch.randint(1, 1 << bits, (outputs, inputs // group), generator=generator, dtype=torch.uint8),
        bits,
        order.div(group, rounding_mode="floor").int() if ordered else None,
    )


def _bits_of_words(words, bits, count):
    """Read codes off 32-bit words with plain whole numbers: the words in a row are one number."""
    whole = sum((word & 0xFFFFFFFF) << (32 * place) for place, word in enumerate(words))
    return [whole >> (bits * place) & ((1 << bits) - 1) for place in range(count)]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("layout", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("ordered", [False, True])
def test_gptq_words_hold_the_codes_of_a_column(bits, layout, ordered):
    weight = _weight(bits, ordered=ordered)
    tensors = layout_tensors(weight, layout)
    assert tensors["qweight"].shape == (64 * bits // 32, 32)
    assert tensors["qzeros"].shape == (4, 32 * bits // 32)
    assert tensors["scales"].shape == (4, 32)
    for output in (0, 31):
        column = _bits_of_words(tensors["qweight"][:, output].tolist(), bits, 64)
        assert column == weight.codes[output].tolist()
    less = 1 if layout == "gptq" else 0
    stored = _bits_of_words(tensors["qzeros"][2].tolist(), bits, 32)
    assert stored == [zero - less for zero in weight.zeros[:, 2].tolist()]
    expected = weight.group_of if ordered else torch.arange(64) // 16
    assert torch.equal(tensors["g_idx"].long(), expected.long())


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("layout", ["gptq", "gptq_v2", "awq"])
@pytest.mark.parametrize("ordered", [False, True])
def test_what_is_written_is_read_back(bits, layout, ordered):
    if layout == "awq" and (bits != 4 or ordered):
        pytest.skip("the layout holds 4 bits in consecutive groups")
    weight = _weight(bits, ordered=ordered)
    again = read_layout(layout_tensors(weight, layout), layout, bits)
    assert torch.equal(again.dequantize(), weight.dequantize())
    assert (again.group_of is None) == (not ordered)


def test_awq_words_hold_eight_outputs_in_its_order():
    weight = _weight(4)
    tensors = layout_tensors(weight, "awq")
    assert tensors["qweight"].shape == (64, 4)
    for place, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
        word = tensors["qweight"][5, 1]
        assert int(word >> (4 * place) & 15) == int(weight.codes[8 + output, 5])
        assert int(tensors["qzeros"][3, 2] >> (4 * place) & 15) == int(weight.zeros[16 + output, 3])


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("group", [16, 64])
def test_transformers_unpacks_the_metal_layout_to_the_same_weight(bits, group):
    weight = _weight(bits, group=group)
    tensors = layout_tensors(weight, "metal")
    unpacked = _affine_dequantize_tensor(
        tensors["weight"].view(torch.int32), tensors["scales"], tensors["qbiases"], group, bits
    )
    # s·q − s·z here, s·(q − z) there: one rounding of a product of up to 2^bits
    torch.testing.assert_close(unpacked, weight.dequantize(), rtol=1e-6, atol=1e-6 * 2**bits)


def test_what_a_layout_cannot_hold_is_refused():
    weight = _weight(4)
    weight.zeros[0, 0] = 0
    with pytest.raises(BadInputError, match="zero points of 0, which the first gptq layout cannot hold"):
        layout_tensors(weight, "gptq")
    with pytest.raises(BadInputError, match="awq layout holds 4 bits in consecutive groups; q has 3 bits"):
        layout_tensors(_weight(3), "awq", "q")
    with pytest.raises(BadInputError, match="and groups in order of activity"):
        layout_tensors(_weight(4, ordered=True), "awq", "q")
    with pytest.raises(BadInputError, match="metal layout holds 2, 4 or 8 bits"):
        layout_tensors(_weight(3), "metal", "q")
    with pytest.raises(BadInputError, match="the outputs of q take 6 bytes a row at 4 bits"):
        layout_tensors(_weight(4, outputs=12), "gptq_v2", "q")
    with pytest.raises(BadInputError, match="unknown layout 'gtpq'"):
        layout_tensors(_weight(4), "gtpq")
    with pytest.raises(BadInputError, match="q lacks qzeros"):
        read_layout({"qweight": torch.zeros(1), "scales": torch.zeros(1)}, "gptq", 4, "q")
