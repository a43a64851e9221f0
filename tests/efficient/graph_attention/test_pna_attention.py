from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from papertrial.efficient.graph_attention import PnaSettings, Processing, use_graph_attention
from papertrial.efficient.graph_attention.aggregates import (
    _largest_by_rows,
    degrees,
    largest_of_neighbours,
    longest_and_shortest,
    sum_mean_and_variance,
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
    total, mean, variance = sum_mean_and_variance(A, V)
    largest = largest_of_neighbours(A > 0, V)
    longest, shortest = longest_and_shortest(A > 0.5, V, V)
    for head in range(2):
        a, v = A[0, head].double().numpy(), V[0, head].double().numpy()
        lengths = np.linalg.norm(v, axis=1)
        for i in range(length):
            degree = a[i].sum() or 1.0
            expected = a[i] @ v / degree
            spread = np.maximum(a[i] @ v**2 / degree - expected**2, 0)
            np.testing.assert_allclose(total[0, head, i], a[i] @ v, atol=1e-5)
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
    total, mean, variance = sum_mean_and_variance(A, V)
    for i in range(7):
        seen = V[0, 0, : i + 1]
        torch.testing.assert_close(mean[0, 0, i], seen.mean(0))
        torch.testing.assert_close(variance[0, 0, i], seen.var(0, correction=0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(total, A @ V)
    torch.testing.assert_close(total, degrees(A) * mean)


def test_a_variance_is_never_below_zero():
    """Neighbours that say the same: in float32 the mean of squares may come out below the square of the mean."""
    A, V = (
        torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0)).tril(),
        torch.full((1, 1, 40, 2), 100.1),
    )
    total, _, variance = sum_mean_and_variance(A, V)
    raw = (A @ V.square()) / degrees(A) - (total / degrees(A)).square()
    assert (raw < 0).any(), "else this tests nothing"
    assert (variance >= 0).all()


def maximum_with_gradient(linked, V, find):
    """What `find` gives, and the gradient of its product with fixed numbers."""
    leaf = V.clone().requires_grad_()
    found = find(linked, leaf)
    probe = torch.linspace(-1, 2, found.numel(), dtype=V.dtype).view(found.shape)
    (found * probe).sum().backward()
    return found.detach(), leaf.grad


@settings(max_examples=25, deadline=None)
@given(
    queries=st.integers(1, 9),
    earlier=st.integers(0, 3),
    width=st.sampled_from([1, 3, 17]),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_the_compiled_maximum_and_its_gradient_are_those_of_torch(queries, earlier, width, seed, share):
    """Bit for bit: a maximum rounds nothing, and float64 sums of the gradient go through torch's own loop."""
    generator = torch.Generator().manual_seed(seed)
    keys = queries + earlier
    linked = (torch.rand(2, 3, queries, keys, generator=generator) < share).tril(earlier)
    V = torch.randn(2, 3, keys, width, generator=generator)
    found, gradient = maximum_with_gradient(linked, V, largest_of_neighbours)
    expected, exact = maximum_with_gradient(linked, V.double(), _largest_by_rows)
    assert torch.equal(found.double(), expected)
    # up to nine float32 terms of size below 2
    torch.testing.assert_close(gradient.double(), exact, atol=1e-5, rtol=1e-5)


def test_the_maximum_hands_on_what_is_not_finite():
    V = torch.zeros(1, 1, 3, 2)
    V[0, 0, 0] = torch.tensor([-np.inf, 1.0])
    V[0, 0, 1] = torch.tensor([-np.inf, np.nan])
    linked = torch.tensor([[[[True, False, False], [True, True, False], [True, True, True]]]])
    linked[..., 2, 0] = False  # not causal: the compiled loop
    found = largest_of_neighbours(linked, V)
    torch.testing.assert_close(found, _largest_by_rows(linked, V), atol=0, rtol=0, equal_nan=True)
    assert found[0, 0, 1, 0] == -np.inf, "−∞ that a neighbour says is not the 0 of nobody"
    assert found[0, 0, 1:, 1].isnan().all()
    assert torch.equal(found[0, 0, :, 0], torch.tensor([-np.inf, -np.inf, 0.0]))


def test_the_compiled_maximum_is_the_same_on_two_threads(monkeypatch):
    linked, V = torch.rand(3, 2, 6, 6).gt(0.4), torch.randn(3, 2, 6, 4)
    expected = maximum_with_gradient(linked, V, largest_of_neighbours)
    shares = []

    def halves(work, shape):
        for some in (slice(0, 2), slice(2, shape[0])):
            shares.append(some)
            work(some)

    monkeypatch.setattr("papertrial.efficient.graph_attention.largest_kernels.over_rows", halves)
    found = maximum_with_gradient(linked, V, largest_of_neighbours)
    assert len(shares) == 4
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_torch_takes_the_maximum_some_rows_at_a_time(monkeypatch):
    A, V = random_graph(9, 4)
    whole = _largest_by_rows(A > 0, V)
    monkeypatch.setattr("papertrial.efficient.graph_attention.aggregates._ROWS_BUDGET", 1)
    assert torch.equal(_largest_by_rows(A > 0, V), whole)


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
