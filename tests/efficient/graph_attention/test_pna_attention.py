from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from papertrial.efficient.graph_attention import PnaSettings, Processing, use_graph_attention
from papertrial.efficient.graph_attention.aggregates import (
    degrees,
    largest_of_neighbours,
    longest_and_shortest,
    mean_and_variance,
)
from papertrial.errors import BadInputError

VARIANTS = {
    "softmax": PnaSettings(),
    "relu": PnaSettings(weights="relu"),
    "sharp softplus": PnaSettings(processing=Processing("sharp_softplus"), train_threshold=True),
    "own maximum": PnaSettings(max_over="own"),
    "language model": PnaSettings(language_model=True, processing=Processing("silu", threshold=0.1)),
}


def random_graph(length, seed, share=0.6):
    """A causal graph with weights, some edges missing, and the values of its tokens."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(1, 2, length, length, generator=generator).tril()
    A = A * (torch.rand(A.shape, generator=generator) < share)
    return A, torch.randn(1, 2, length, 3, generator=generator)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 9), seed=st.integers(0, 99), share=st.sampled_from([0.0, 0.3, 1.0]))
def test_aggregates_are_numpys(length, seed, share):
    A, V = random_graph(length, seed, share)
    mean, variance = mean_and_variance(A, V)
    largest = largest_of_neighbours(A > 0, V)
    longest, shortest = longest_and_shortest(A > 0.5, V, V)
    for head in range(2):
        a, v = A[0, head].double().numpy(), V[0, head].double().numpy()
        lengths = np.linalg.norm(v, axis=1)
        for i in range(length):
            degree = a[i].sum() or 1.0
            expected = a[i] @ v / degree
            spread = np.maximum(a[i] @ v**2 / degree - expected**2, 0)
            np.testing.assert_allclose(mean[0, head, i], expected, atol=1e-5)
            np.testing.assert_allclose(variance[0, head, i], spread, atol=1e-5)
            heard = np.flatnonzero(a[i] > 0)
            top = v[heard].max(0) if len(heard) else np.zeros(3)
            np.testing.assert_allclose(largest[0, head, i], top, atol=1e-6)
            near = np.flatnonzero(a[i] > 0.5)
            far = v[near[lengths[near].argmax()]] if len(near) else v[i]
            close = v[near[lengths[near].argmin()]] if len(near) else v[i]
            np.testing.assert_allclose(longest[0, head, i], far, atol=1e-6)
            np.testing.assert_allclose(shortest[0, head, i], close, atol=1e-6)


def test_uniform_weights_give_the_plain_statistics():
    """Oracle: A uniform over the neighbours; then sum = deg · mean as well."""
    V = torch.randn(1, 1, 7, 3, generator=torch.Generator().manual_seed(0))
    A = torch.ones(1, 1, 7, 7).tril() * 0.25
    mean, variance = mean_and_variance(A, V)
    for i in range(7):
        seen = V[0, 0, : i + 1]
        torch.testing.assert_close(mean[0, 0, i], seen.mean(0))
        torch.testing.assert_close(variance[0, 0, i], seen.var(0, correction=0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(A @ V, degrees(A) * mean)


def test_the_maximum_is_taken_some_rows_at_a_time(monkeypatch):
    A, V = random_graph(9, 4)
    whole = largest_of_neighbours(A > 0, V)
    monkeypatch.setattr("papertrial.efficient.graph_attention.aggregates._ROWS_BUDGET", 1)
    assert torch.equal(largest_of_neighbours(A > 0, V), whole)


def test_the_released_maximum_is_a_tokens_own_value(tiny, stirred, tokens):
    """The finding: with `own`, a neighbour's large value does not reach the maximum; with `neighbours` it does."""
    edges = torch.ones(1, 4, 5, 5).tril()
    values = torch.zeros(1, 4, 5, 8)
    values[:, :, 0] = 9.0  # token 0 is everybody's neighbour
    taken = {}
    for over in ("neighbours", "own"):
        module = use_graph_attention(tiny(), PnaSettings(max_over=over)).modules[0]
        taken[over] = module._aggregates(edges, values, values)[2]
    assert (taken["neighbours"] == 9.0).all()
    assert (taken["own"][:, :, 1:] == 0.0).all()


@pytest.fixture
def swapped(tiny, stirred):
    def make(settings, **changed):
        model = tiny(**changed)
        swap = use_graph_attention(model, settings)
        for module in swap.modules:
            stirred(module)
        return model, swap

    return make


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("shared", [4, 2])
def test_cached_decoding_is_one_pass_and_nothing_later_is_heard(swapped, tokens, name, shared):
    model, _ = swapped(VARIANTS[name], num_key_value_heads=shared)
    ids, cache = tokens(), DynamicCache(config=model.config)
    with torch.no_grad():
        whole = model(ids).logits
        parts = [model(part, past_key_values=cache).logits for part in ids.split([5, 1, 6], dim=1)]
        other = ids.clone()
        other[:, 7] = (other[:, 7] + 1) % 40
        changed = model(other).logits
    # a variance is a difference of two near numbers: its rounding is larger than theirs
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(changed[:, :7], whole[:, :7], atol=1e-6, rtol=1e-5)
    assert (changed[:, 7:] - whole[:, 7:]).abs().max() > 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_left_padding_changes_nothing(swapped, tokens, name):
    model, _ = swapped(VARIANTS[name])
    ids = tokens(1, 8)
    padded = torch.cat([torch.full((1, 4), 7), ids], 1)
    mask = torch.tensor([[0] * 4 + [1] * 8])
    with torch.no_grad():
        logits = model(padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
        torch.testing.assert_close(logits[:, 4:], model(ids).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_weight_is_trained_without_nan(tiny, tokens, name):
    """ReLU leaves rows without a neighbour, which are −∞ and NaN in the released code."""
    model = tiny()
    swap = use_graph_attention(model, VARIANTS[name])
    ids = tokens()
    model(ids, labels=ids).loss.backward()
    for weight_name, weight in swap.modules[0].named_parameters():
        assert weight.grad is not None, weight_name
        assert torch.isfinite(weight.grad).all(), weight_name


def test_the_attention_handed_back_is_unprocessed(swapped, tokens):
    model, swap = swapped(PnaSettings(processing=Processing("binary")))
    seen = []
    swap.modules[0].register_forward_hook(lambda _, args, output: seen.append(output[1]))
    with torch.no_grad():
        model(tokens())
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(2, 4, 12))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights": "sigmoid"}, "unknown weights 'sigmoid'"),
        ({"max_over": "all"}, "unknown max_over 'all'"),
        ({"multiplier": -1.0}, "multiplier must be above 0"),
        ({"train_threshold": True, "processing": Processing("binary")}, "no threshold with a gradient"),
    ],
)
def test_bad_settings_are_refused(changed, said):
    with pytest.raises(BadInputError, match=said):
        PnaSettings(**changed)
