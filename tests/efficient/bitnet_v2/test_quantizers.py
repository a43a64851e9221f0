from __future__ import annotations

import math

import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.efficient.bitnet_v2.peers import transformers_bitnet
from papertrial.efficient.bitnet_v2.quantizers import (
    INT4_ROOT,
    activation_codes,
    quantize_activation,
    ternarize,
    ternary_codes,
)
from papertrial.efficient.bitnet_v2.sites import (
    describe_site,
    heavy_tails,
    planted_outliers,
    quantization_error,
)
from papertrial.efficient.hadamard import hadamard_transform
from papertrial.errors import BadInputError


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_and_int8_equal_transformers_with_gradients(noise, eagerly, dtype):
    """The same arithmetic but for the order of one division: a step of float32, then the format's rounding."""
    peers = transformers_bitnet()
    for ours, theirs in (
        (ternarize, peers.WeightQuant.apply),
        (lambda x: quantize_activation(x, 8), peers.ActQuant.apply),
    ):
        x = noise(48, 64, dtype=dtype).requires_grad_()
        y = x.detach().clone().requires_grad_()
        a, b = ours(x), theirs(y)
        torch.testing.assert_close(a, b, rtol=max(1e-6, torch.finfo(dtype).eps), atol=0)
        gradient = noise(48, 64, dtype=dtype, seed=2)
        a.backward(gradient)
        b.backward(gradient)
        assert torch.equal(x.grad, y.grad)


def test_int4_by_the_formula_value_by_value(noise):
    """Equation 6 in Python floats, one value after the other, rounding half to even as Python does."""
    x = noise(5, 16, dtype=torch.float64) * 3
    got = quantize_activation(x, 4)
    for row, out in zip(x.float().double().tolist(), got.tolist(), strict=True):
        beta = sum(map(abs, row)) / len(row)
        codes = [max(-8, min(7, round(math.sqrt(7) / (beta + 1e-5) * value))) for value in row]
        # Statistics are float32 sums: 1e-6 relative.
        assert out == pytest.approx([beta / math.sqrt(7) * code for code in codes], rel=1e-6)


def test_int4_on_normal_values_has_the_closed_form():
    """Step √(2/π)/√7 = 0.3016 σ, range -2.413 … 2.111 σ, error 0.01313 and 1.7 % clipped, by integration."""
    step = math.sqrt(2 / math.pi) / math.sqrt(7)
    assert step == pytest.approx(0.3016, abs=5e-5)
    assert (-8 * step, 7 * step) == pytest.approx((-2.413, 2.111), abs=5e-4)
    edges = [-math.inf, *((k - 0.5) * step for k in range(-7, 8)), math.inf]
    error = sum(
        scipy.integrate.quad(lambda v, c=code: (v - c * step) ** 2 * scipy.stats.norm.pdf(v), low, high)[0]
        for code, low, high in zip(range(-8, 8), edges[:-1], edges[1:], strict=True)
    )
    clipped = scipy.stats.norm.sf(7.5 * step) + scipy.stats.norm.cdf(-8.5 * step)
    assert error == pytest.approx(0.01313, abs=5e-6)
    assert clipped == pytest.approx(0.017, abs=5e-4)
    site = describe_site(planted_outliers(400, 4096, channels=0))
    # Half of the error is the clipped tail's; it varies from seed to seed by 5e-5 (1.6 million values), the share
    # of clipped ones by 1e-4 and the kurtosis by 0.004. Four times as much is allowed.
    assert site.int4_error == pytest.approx(error, abs=2e-4)
    assert site.clipped == pytest.approx(clipped, abs=4e-4)
    assert site.kurtosis == pytest.approx(3, abs=0.02)


def test_other_readings_of_equation_6_are_worse(noise):
    """Codes scaled by 7/mean, 7/(1.5 mean) or 7/max, as found in third-party code, on normal values."""
    x = noise(200, 1024, dtype=torch.float64)
    mean, largest = x.abs().mean(-1, keepdim=True), x.abs().amax(-1, keepdim=True)
    right = quantization_error(x, 4)

    def error(scale):
        codes = (x / scale).round().clamp(-8, 7)
        return float((codes * scale - x).square().sum() / x.square().sum())

    assert error(mean / 7) > 10 * right  # clips everything above the mean
    assert error(1.5 * mean / 7) > 5 * right
    assert 1.2 * right < error(largest / 7) < 3 * right  # clips nothing, but the steps are too wide


def test_a_spike_becomes_flat():
    """The Hadamard transform of a one-hot token has entries of one size, so INT4's error has a closed form: the
    code of ±√7 is 3, and (3/√7 - 1)² is left."""
    x = torch.zeros(1, 64)
    x[0, 17] = 5.0
    turned = hadamard_transform(x)
    assert turned.abs().unique().numel() == 1
    # 1e-3: ε of 1e-5 against a mean of 0.6, and float32.
    assert quantization_error(turned, 4) == pytest.approx((3 / INT4_ROOT - 1) ** 2, rel=1e-3)
    assert quantization_error(x, 4) > 0.5


def test_planted_outliers_and_heavy_tails_are_what_they_say():
    x = planted_outliers(2000, 128, channels=3, size=30.0, seed=4)
    deviations = x.std(0)
    assert (deviations > 20).sum() == 3
    assert describe_site(heavy_tails(500, 4096)).kurtosis == pytest.approx(
        9, rel=0.1
    )  # E x⁴ of a product: 3 · 3
    with pytest.raises(BadInputError, match="channels must be between 0 and features = 8, got 9"):
        planted_outliers(2, 8, channels=9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), st.sampled_from([4, 8]), st.integers(-6, 20).map(lambda k: 2.0**k))
def test_scaling_the_input_scales_the_output(seed, bits, factor):
    """Powers of two only move the exponent: INT8 exactly; INT4 but for ε, and values on an edge because of it."""
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(seed)) + 0.1
    codes, scale = activation_codes(x, bits)
    scaled_codes, scaled = activation_codes(x * factor, bits)
    torch.testing.assert_close(scaled, scale * factor, rtol=1e-6, atol=0)
    if bits == 8:
        assert torch.equal(codes, scaled_codes)
    else:
        assert (codes.int() - scaled_codes.int()).abs().max() <= 1
    weight = x if factor >= 1 else x * 8  # the floor of 1e-5 plays no part
    assert torch.equal(ternary_codes(weight)[0], ternary_codes(weight * max(1.0, factor))[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_zeros_stay_zeros(dtype):
    zeros = torch.zeros(3, 8, dtype=dtype)
    for out in (quantize_activation(zeros, 4), quantize_activation(zeros, 8), ternarize(zeros)):
        assert torch.equal(out, zeros)


def test_half_precision_does_not_overflow():
    """2,048 values of 50,000 add up to far more than float16 can hold."""
    x = torch.full((2, 2048), 5e4, dtype=torch.float16)
    for bits in (4, 8):
        assert quantize_activation(x, bits).isfinite().all()
    assert torch.equal(ternarize(x), x)


def test_the_gradient_passes_rounding_and_clipping():
    x = torch.tensor([[100.0, 0.1, -0.2, 0.0] + [0.05] * 60], requires_grad=True)  # the first is clipped far
    assert quantize_activation(x, 4)[0, 0] < 50
    quantize_activation(x, 4).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_bad_input():
    with pytest.raises(BadInputError, match="activations are quantised to 8 or 4 bits, got 2"):
        activation_codes(torch.ones(1, 4), 2)
    with pytest.raises(
        BadInputError, match=r"torch.uint8: it is quantised already.* give the latent weights"
    ):
        ternary_codes(torch.zeros(4, 4, dtype=torch.uint8))
