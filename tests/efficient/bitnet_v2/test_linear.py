from __future__ import annotations

import pytest
import torch
from torch import nn

from papertrial.efficient.bitnet_v2.linear import BitLinear, HBitLinear, keep_ternary_weights
from papertrial.efficient.bitnet_v2.peers import transformers_bitnet
from papertrial.efficient.bitnet_v2.quantizers import activation_codes, quantize_activation, ternary_codes
from papertrial.efficient.hadamard import hadamard_matrix, hadamard_transform
from papertrial.errors import BadInputError


@pytest.mark.parametrize("with_norm", [False, True])
def test_without_rotation_it_is_transformers_auto_bit_linear(linear, noise, eagerly, with_norm):
    """Values and gradients; 1e-6 relative to the largest: one division in another order."""
    source = linear(24, 64)
    peer = transformers_bitnet().AutoBitLinear(
        64, 24, bias=False, online_quant=True, use_rms_norm=with_norm, rms_norm_eps=1e-5
    )
    peer.load_state_dict(source.state_dict(), strict=False)
    ours = BitLinear(source, norm=nn.RMSNorm(64, eps=1e-5) if with_norm else None)
    x, y = noise(7, 64).requires_grad_(), noise(7, 64).requires_grad_()
    a, b = ours(x), peer(y)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6 * float(b.detach().abs().max()))
    gradient = noise(7, 24, seed=3)
    a.backward(gradient)
    b.backward(gradient)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(source.weight.grad, peer.weight.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("inputs", "kind"), [(64, "sylvester"), (48, "paley"), (48, "block")])
def test_rotating_both_without_quantisers_is_the_linear_layer(linear, noise, dtype, tolerance, inputs, kind):
    source = linear(16, inputs, dtype)
    layer = HBitLinear(source, activation_bits=None, rotation="both", hadamard=kind)
    layer.ternary = False
    x = noise(5, inputs, dtype=dtype)
    expected = nn.functional.linear(x, source.weight)
    torch.testing.assert_close(
        layer(x), expected, rtol=0, atol=tolerance * float(expected.detach().abs().max()) * 4
    )
    folded = HBitLinear(source, activation_bits=None, hadamard=kind)
    folded.ternary = False
    with torch.no_grad():
        source.weight.copy_(source.weight @ hadamard_matrix(inputs, kind, dtype=dtype))
    torch.testing.assert_close(
        folded(x), expected, rtol=0, atol=tolerance * float(expected.detach().abs().max()) * 4
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_straight_through_gradients(linear, noise, bits):
    """dL/dW = gᵀ Q(H x) and dL/dx = H(g Q_w(W)): equation 8 and the straight-through estimator, by hand."""
    source = linear(12, 32)
    layer = HBitLinear(source, activation_bits=bits)
    x = noise(6, 32).requires_grad_()
    gradient = noise(6, 12, seed=2)
    layer(x).backward(gradient)
    codes, scale = ternary_codes(source.weight)
    site = quantize_activation(hadamard_transform(x.detach()), bits)
    torch.testing.assert_close(source.weight.grad, gradient.T @ site, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad, hadamard_transform(gradient @ (codes * scale)), rtol=1e-5, atol=1e-6)


def test_rotating_both_turns_the_weights_gradient_back(linear, noise):
    source = linear(12, 32)
    layer = HBitLinear(source, activation_bits=8, rotation="both")
    x, gradient = noise(6, 32), noise(6, 12, seed=2)
    layer(x).backward(gradient)
    site = quantize_activation(hadamard_transform(x), 8)
    torch.testing.assert_close(
        source.weight.grad, hadamard_transform(gradient.T @ site), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("bits", [4, 8])
def test_whole_numbers_give_the_same(linear, noise, bits):
    """int8 codes times ternary codes added up in int32, scaled once: float32 rounds only the products of scales."""
    source = linear(16, 256)
    x = noise(9, 256)
    layer = HBitLinear(source, activation_bits=bits)
    codes, scale = activation_codes(hadamard_transform(x), bits)
    weight, alpha = ternary_codes(source.weight)
    whole = codes.to(torch.int32) @ weight.to(torch.int32).T
    expected = whole.double() * scale.double() * alpha.double()
    torch.testing.assert_close(
        layer(x).double(), expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max())
    )


def test_the_parameter_is_the_same_object_and_the_site_is_what_is_quantised(linear, noise):
    source = linear(8, 16)
    norm = nn.RMSNorm(16, eps=1e-5)
    with torch.no_grad():
        norm.weight.mul_(3)
    layer = HBitLinear(source, norm=norm)
    assert layer.weight is source.weight
    x = noise(4, 16)
    torch.testing.assert_close(layer.site(x), hadamard_transform(norm(x)))
    assert "rotation=activations" in repr(layer)
    assert "hadamard=sylvester" in repr(layer)


def test_q_w_is_computed_once_a_step(linear, noise, monkeypatch):
    from papertrial.efficient.bitnet_v2 import linear as module

    counted = []
    original = module.ternary_codes
    monkeypatch.setattr(module, "ternary_codes", lambda w: counted.append(1) or original(w))
    layer, plain = BitLinear(linear(8, 16)), BitLinear(linear(8, 16))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    twin = torch.optim.SGD(plain.parameters(), lr=0.1)
    end = keep_ternary_weights(layer, optimizer)
    for step in range(3):
        for batch in range(4):
            x = noise(2, 16, seed=10 * step + batch)
            layer(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(counted) == 3
    for step in range(3):
        for batch in range(4):
            plain(noise(2, 16, seed=10 * step + batch)).square().sum().backward()
        twin.step()
        twin.zero_grad()
    assert torch.equal(layer.weight, plain.weight)  # keeping changes nothing
    end()
    counted.clear()
    layer(x)
    layer(x)
    assert len(counted) == 2


def test_kept_weights_are_dropped_however_the_weight_changes(linear, noise):
    layer = BitLinear(linear(8, 16))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    keep_ternary_weights(layer, optimizer)
    x = noise(2, 16)
    before = layer(x)
    with torch.no_grad():
        layer.weight.neg_()
    torch.testing.assert_close(layer(x), -before)
    layer.weight.grad = torch.zeros_like(layer.weight)
    layer.weight.data.neg_()  # as old optimizers write: no version tells it
    optimizer.step()
    torch.testing.assert_close(layer(x), before)


def test_bad_input(linear):
    with pytest.raises(BadInputError, match="8 or 4 bits, got 3"):
        BitLinear(linear(4, 8), activation_bits=3)
    with pytest.raises(BadInputError, match=r"no sylvester Hadamard matrix of order 12"):
        HBitLinear(linear(4, 12))
    with pytest.raises(BadInputError, match="has no BitLinear; call use_bitnet"):
        keep_ternary_weights(nn.Linear(2, 2), torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1))
    quantised = linear(4, 8)
    quantised.weight = nn.Parameter(torch.zeros(4, 8, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(BadInputError, match=r"torch.uint8: it is quantised already"):
        BitLinear(quantised)
