from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from papertrial.efficient.bitnet_v2.convert import BitNetOptions, set_activation_bits, use_bitnet
from papertrial.efficient.bitnet_v2.costs import ternary_costs
from papertrial.efficient.bitnet_v2.linear import BitLinear, HBitLinear
from papertrial.efficient.bitnet_v2.packed import (
    PackedBitLinear,
    pack_bit_linear,
    packed_linears,
    use_packed,
)
from papertrial.efficient.bitnet_v2.packing import pack_ternary, ternary_scale, unpack_ternary
from papertrial.efficient.bitnet_v2.peers import transformers_bitnet, use_transformers_packed
from papertrial.efficient.bitnet_v2.quantizers import activation_codes, ternary_codes
from papertrial.efficient.hadamard import hadamard_transform
from papertrial.errors import BadInputError


def ternary(rows, columns, seed=0):
    return torch.randint(-1, 2, (rows, columns), generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12).map(lambda k: 4 * k), st.integers(1, 40), st.integers(0, 99))
def test_packing_comes_back(rows, columns, seed):
    codes = ternary(rows, columns, seed)
    packed = pack_ternary(codes)
    assert packed.shape == (rows // 4, columns)
    assert torch.equal(unpack_ternary(packed), codes.float())


def test_bytes_are_transformers(eagerly):
    codes = ternary(64, 48)
    theirs = transformers_bitnet().pack_weights(codes.clone())
    assert torch.equal(pack_ternary(codes), theirs)
    assert torch.equal(transformers_bitnet().unpack_weights(theirs, torch.float32), unpack_ternary(theirs))


def test_what_is_not_ternary_is_refused():
    with pytest.raises(BadInputError, match=r"not ternary: a value is 0.3 away"):
        pack_ternary(torch.tensor([[1.0], [0.7], [0.0], [-1.0]]))
    with pytest.raises(BadInputError, match="not ternary: a value is 2 away"):
        pack_ternary(torch.tensor([[3], [0], [0], [0]]))
    with pytest.raises(BadInputError, match=r"multiple of 4, got \(6, 2\)"):
        pack_ternary(ternary(6, 2))
    with pytest.raises(BadInputError, match="code 3, which is no ternary value"):
        unpack_ternary(torch.full((1, 1), 255, dtype=torch.uint8))
    with pytest.raises(BadInputError, match=r"not ternary: a value is .* scales away"):
        ternary_scale(torch.randn(8, 8))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    "inputs", [16, 32, 100, 2048, 2080, 4160]
)  # around the 32 of a register and 2,048 of a chunk
@pytest.mark.parametrize("tokens", [1, 3])
def test_the_compiled_product_is_exact_in_whole_numbers(noise, linear, bits, inputs, tokens):
    source = linear(24, inputs)
    layer = pack_bit_linear("layer", BitLinear(source, activation_bits=bits))
    x = noise(tokens, inputs)
    codes, scale = activation_codes(x, bits)
    weight, alpha = ternary_codes(source.weight)
    expected = (codes.long() @ weight.long().T).double() * scale.double() * float(alpha)
    # float32 statistics in another order may move a value over an edge between two codes: one step of one input.
    slack = float(scale.max() * alpha) * 1.01 if bits == 4 else 1e-6
    difference = (layer(x).double() - expected).abs()
    assert difference.max() <= slack
    assert difference.median() < 1e-5


def test_the_largest_sums_do_not_overflow():
    """Every code 1 (stored as 2) times -128 … 127 over 8,192 inputs: the int16 lanes are full to the last bit."""
    layer = PackedBitLinear(8192, 4).load(torch.ones(4, 8192), 1.0)
    x = torch.full((1, 8192), -1.0)
    assert layer(x).tolist() == [[pytest.approx(-8192.0, rel=1e-6)] * 4]
    x = torch.ones(1, 8192)
    assert layer(x).tolist() == [[pytest.approx(8192.0, rel=1e-6)] * 4]


@pytest.mark.parametrize("kind", ["sylvester", "paley", "block", None])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_packed_layers_equal_the_trained_ones(linear, noise, kind, norm, bits):
    inputs = 64 if kind in ("sylvester", None) else 48
    norm_layer = nn.RMSNorm(inputs, eps=1e-5) if norm else None
    if norm_layer is not None:
        with torch.no_grad():
            norm_layer.weight.copy_(noise(inputs, seed=5).abs() + 0.5)
    source = linear(16, inputs)
    if kind is None:
        layer = BitLinear(source, activation_bits=bits, norm=norm_layer)
    else:
        layer = HBitLinear(source, activation_bits=bits, norm=norm_layer, hadamard=kind)
    packed = pack_bit_linear("layer", layer)
    x = noise(2, 5, inputs)
    difference = (packed(x) - layer(x)).abs()
    assert difference.median() < 1e-6
    assert difference.max() < 0.05 * layer(x).abs().max()  # a code on an edge, at most


@pytest.mark.parametrize("rotation", ["none", "activations", "both"])
def test_a_packed_model_generates_what_the_latent_one_does(bitnet, rotation):
    model = bitnet(layers=2)
    use_bitnet(model, BitNetOptions(rotation=rotation))
    packed = copy.deepcopy(model)
    use_packed(packed)
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(
        packed(input_ids=tokens).logits, model(input_ids=tokens).logits, rtol=0, atol=2e-3
    )
    options = {"max_new_tokens": 12, "do_sample": False}
    assert torch.equal(packed.generate(tokens, **options), model.generate(tokens, **options))


def test_transformers_packed_model_computes_the_same(bitnet, eagerly):
    ours, theirs = bitnet(), bitnet()
    use_bitnet(ours, BitNetOptions(rotation="none"))
    use_packed(ours)
    use_transformers_packed(theirs)
    tokens = torch.arange(20)[None]
    expected = theirs(input_ids=tokens).logits
    torch.testing.assert_close(ours(input_ids=tokens).logits, expected, rtol=0, atol=2e-3)
    use_packed(theirs)  # and theirs can be read
    assert len(packed_linears(theirs)) == 7
    torch.testing.assert_close(theirs(input_ids=tokens).logits, expected, rtol=0, atol=2e-3)


def test_offline_and_online_auto_bit_linears_are_read(linear, noise, eagerly):
    kind = transformers_bitnet().AutoBitLinear
    source = linear(16, 64)
    codes, alpha = ternary_codes(source.weight)
    x = noise(3, 64)
    online = kind(64, 16, bias=False, online_quant=True)
    offline = kind(64, 16, bias=False)
    with torch.no_grad():
        online.weight.copy_(source.weight)
        offline.weight.copy_(codes)
        offline.weight_scale.fill_(alpha)
    for layer in (online, offline):
        model = nn.Sequential(layer)
        expected = model(x)
        use_packed(model)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)


def test_biases_and_other_formats_pass(linear, noise):
    source = nn.Linear(64, 8)
    layer = BitLinear(source)
    packed = pack_bit_linear("layer", layer)
    x = noise(3, 64)
    torch.testing.assert_close(packed(x), layer(x), rtol=0, atol=1e-5)
    assert packed(x.to(torch.bfloat16)).dtype == torch.bfloat16
    assert torch.equal(packed(torch.zeros(1, 64)), source.bias[None])


def test_two_bits_a_weight_and_nothing_more(bitnet, noise):
    model = bitnet()
    use_bitnet(model)
    weights = sum(layer.weight.numel() for n, layer in model.named_modules() if isinstance(layer, BitLinear))
    before = ternary_costs(model)
    use_packed(model)
    model(input_ids=torch.arange(8)[None])
    held = [t for layer in packed_linears(model).values() for t in layer.buffers(recurse=False)]
    assert (
        sum(t.numel() * t.element_size() for t in held)
        == weights // 4 + 4 * 7
        == ternary_costs(model).weights
    )
    assert before == ternary_costs(model)
    assert before.weights_bfloat16 == 2 * weights
    # hidden 32, ffn 64: q, k, v, o, gate, up read 32 values, down 64; a byte each and a scale of four
    assert before.activations == 6 * (32 + 4) + (64 + 4)


def test_int4_halves_the_activations(bitnet):
    model = bitnet()
    use_bitnet(model)
    set_activation_bits(model, 4)
    assert ternary_costs(model).activations == 6 * (16 + 4) + (32 + 4)


def test_bad_input(bitnet, linear):
    with pytest.raises(BadInputError, match="multiple of 4, got 6"):
        PackedBitLinear(8, 6)
    with pytest.raises(BadInputError, match="no linear layer matches"):
        use_packed(bitnet())
    with pytest.raises(BadInputError, match="has no packed layer"):
        packed_linears(bitnet())
    layer = BitLinear(linear(4, 8), activation_bits=None)
    with pytest.raises(BadInputError, match="down leaves weight or activations in full precision"):
        pack_bit_linear("down", layer)
    with pytest.raises(BadInputError, match="leaves its activations in full precision"):
        ternary_costs(nn.Sequential(layer))


def test_the_rotation_in_the_kernel_is_the_corridors(linear, noise):
    """Fused norm, rotation and quantiser against the separate ones, at the size of a real down_proj."""
    from papertrial.efficient.bitnet_v2.packed_kernels import packed_forward

    x = noise(4, 4096)
    packed = pack_ternary(ternary(8, 4096))
    fused = packed_forward(x, packed, 1.0, gain=None, eps=0.0, rotated=True, bits=4)
    separate = packed_forward(hadamard_transform(x), packed, 1.0, gain=None, eps=0.0, rotated=False, bits=4)
    torch.testing.assert_close(fused, separate, rtol=0, atol=0.7)  # two codes on an edge, of 4,096
    assert (fused - separate).abs().median() < 1e-3
