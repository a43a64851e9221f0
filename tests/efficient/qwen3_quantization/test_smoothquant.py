from __future__ import annotations

import pytest
import torch

from papertrial.efficient.layouts import layout_of
from papertrial.efficient.outliers import plant_outliers
from papertrial.efficient.qwen3_quantization.quantize import quantize_model
from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings
from papertrial.efficient.qwen3_quantization.smoothquant import smooth_norm, smoothing_scales
from papertrial.errors import BadInputError


def test_half_and_half_evens_activations_and_weights(problem):
    weight, x, _ = problem()
    other = torch.randn(7, 64, generator=torch.Generator().manual_seed(9))
    largest = x.abs().amax(0)
    scales = smoothing_scales(largest, [weight, other])
    columns = torch.cat([weight, other]).abs().amax(0)
    torch.testing.assert_close(largest / scales, columns * scales)


@pytest.mark.parametrize(("alpha", "evened"), [(1.0, "activations"), (0.0, "weights")])
def test_the_ends_of_alpha(problem, alpha, evened):
    weight, x, _ = problem()
    largest = x.abs().amax(0)
    scales = smoothing_scales(largest, [weight], alpha)
    even = largest / scales if evened == "activations" else weight.abs().amax(0) * scales
    torch.testing.assert_close(even, torch.ones(64))


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-gemma3", "tiny-phi3"])
def test_smoothing_leaves_the_model_as_it_was(tiny, ids, name):
    model = tiny(name)
    with torch.no_grad():
        before = model(ids).logits
        for layer in layout_of(model).layers:
            for norm in layer.norm_groups:
                smooth_norm(layer, norm, torch.rand(64, generator=torch.Generator().manual_seed(0)) * 9 + 0.1)
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-gemma3"])
def test_smoothing_mends_outliers_that_plain_rounding_suffers_from(tiny, ids, name):
    with torch.no_grad():
        whole = tiny(name)(ids).logits
        errors = {}
        for method in ("smoothquant", "rtn_wa"):
            model = tiny(name)
            plant_outliers(model, 3, 30.0)
            quantize_model(model, QuantizationSettings(method, 8, -1, activation_bits=8), ids)
            errors[method] = float((model(ids).logits - whole).norm() / whole.norm())
    assert errors["smoothquant"] < 0.03
    assert errors["smoothquant"] < errors["rtn_wa"] / 3


def test_without_outliers_there_is_little_to_mend(tiny, ids):
    with torch.no_grad():
        whole = tiny()(ids).logits
        errors = []
        for method in ("smoothquant", "rtn_wa"):
            model = tiny()
            quantize_model(model, QuantizationSettings(method, 8, -1), ids)
            errors.append(float((model(ids).logits - whole).norm() / whole.norm()))
    assert max(errors) < 0.03


def test_every_matrix_rounds_its_input_and_nothing_else(tiny, ids):
    model = tiny()
    quantize_model(model, QuantizationSettings("rtn_wa", 4, -1, activation_bits=6), ids)
    for name in layout_of(model).linears:
        layer = model.get_submodule(name)
        assert layer.activation_bits == 6
        assert layer.group_size == layer.in_features
        zeros = layer.quantized_weight().zeros
        assert bool((zeros == 8).all())  # symmetric: codes 1 … 15 about 8
    assert isinstance(model.lm_head, torch.nn.Linear)


def test_impossible_smoothing_is_refused(problem):
    weight, x, _ = problem()
    with pytest.raises(BadInputError, match=r"alpha must lie between 0 and 1, got 1\.5"):
        smoothing_scales(x.abs().amax(0), [weight], 1.5)
    with pytest.raises(BadInputError, match="largest activations are not finite"):
        smoothing_scales(x.abs().amax(0) * float("inf"), [weight])
