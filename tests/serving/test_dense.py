from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.serving.caches import causal_mask
from papertrial.serving.dense import decode_compiled, grouped_attention, naive_attention, runs_compiled
from papertrial.serving.kernels import TOKENS_PER_BLOCK, add_listed, add_run, exponentiate

# float32 sums over a few hundred terms of size one: 1e-5 is ten times their rounding.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def layer(batch, kv_heads, group, tokens, dim, queries=1, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, kv_heads * group, queries, dim, generator=draw),
        torch.randn(batch, kv_heads, tokens, dim, generator=draw),
        torch.randn(batch, kv_heads, tokens, dim, generator=draw),
    )


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 9),
    tokens=st.integers(1, 2 * TOKENS_PER_BLOCK + 5),
    dim=st.sampled_from([1, 3, 16, 128]),
    seed=st.integers(0, 1000),
)
def test_the_compiled_step_is_attention_by_definition(batch, kv_heads, group, tokens, dim, seed):
    queries, keys, values = layer(batch, kv_heads, group, tokens, dim, seed=seed)
    expected, log_sum_exp = naive_attention(queries.double(), keys.double(), values.double())
    packed = queries.reshape(batch, kv_heads, group, dim)
    out, found = decode_compiled(packed, keys, values, dim**-0.5)
    torch.testing.assert_close(out.reshape(queries.shape).double(), expected, **CLOSE)
    torch.testing.assert_close(found.reshape(log_sum_exp.shape).double(), log_sum_exp, **CLOSE)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_query_equals_the_definition_in_every_format(dtype, scale):
    queries, keys, values = (t.to(dtype) for t in layer(2, 2, 4, 70, 16))
    expected, _ = naive_attention(queries.double(), keys.double(), values.double(), scale=scale)
    # bfloat16 keeps eight bits: 2^-8 of values of size one, a few roundings deep.
    tolerance = 3e-2 if dtype == torch.bfloat16 else 1e-5
    out = grouped_attention(queries, keys, values, scale=scale)
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)


def test_views_of_a_larger_buffer_need_no_copy():
    queries, keys, values = layer(2, 2, 4, 100, 16)
    part = keys[:, :, :60], values[:, :, :60]
    assert runs_compiled(queries, *part)
    expected, _ = naive_attention(queries, *part)
    torch.testing.assert_close(grouped_attention(queries, *part), expected, **CLOSE)


@pytest.mark.parametrize("length", [1, 4])
def test_masked_tokens_have_no_part(length):
    queries, keys, values = layer(2, 2, 2, 30, 16, length)
    mask = causal_mask(length, 30, keys.device).repeat(2, 1, 1, 1)
    mask[0, :, :, :9] = False
    expected, _ = naive_attention(queries, keys, values, mask)
    torch.testing.assert_close(grouped_attention(queries, keys, values, mask), expected, **CLOSE)
    moved = keys.clone()
    moved[0, :, :9] += 1e3
    torch.testing.assert_close(grouped_attention(queries, moved, values, mask), expected, **CLOSE)


def test_threads_give_the_same_numbers():
    queries, keys, values = layer(2, 3, 4, 500, 32)
    one = grouped_attention(queries, keys, values)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        several = grouped_attention(queries, keys, values)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, several)


def test_nan_is_not_hidden():
    queries, keys, values = layer(1, 1, 2, 20, 8)
    keys[0, 0, 3] = float("nan")
    assert grouped_attention(queries, keys, values).isnan().all()


def test_gradients_take_the_torch_path():
    queries, keys, values = (t.requires_grad_() for t in layer(1, 1, 2, 20, 8))
    assert not runs_compiled(queries, keys, values)
    assert grouped_attention(queries, keys, values).requires_grad


def test_uneven_groups_are_refused():
    queries, _, _ = layer(1, 3, 1, 4, 8)
    _, keys, values = layer(1, 2, 1, 4, 8)
    with pytest.raises(BadInputError, match="multiple of key-value heads, got 3 and 2"):
        grouped_attention(queries, keys, values)


def test_exponentials_are_exact_to_float32():
    x = np.concatenate([np.linspace(-87.0, 0.0, 50_001), [-0.0, -1e-8]]).astype(np.float32)
    found = x.copy()
    exponentiate(found, np.empty(len(x), np.int32))
    # Rounding of x log2(e) near 126 costs 4e-6 relative; near zero, where weights matter, 2e-7.
    relative = np.abs(found / np.exp(x.astype(np.float64)) - 1)
    assert relative.max() < 1e-5
    assert relative[x > -2].max() < 3e-7
    far = np.array([-1e4, -np.inf], np.float32)
    exponentiate(far, np.empty(2, np.int32))
    assert (far < 2e-38).all()


@given(tokens=st.integers(0, 11), group=st.integers(1, 5), first=st.integers(0, 3), seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_weighted_sums_of_runs_and_lists(tokens, group, first, seed):
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(14, 6)).astype(np.float32)
    weights = draw.normal(size=(group, 14)).astype(np.float32)
    out = np.zeros((group, 6), np.float32)
    add_run(weights, first, rows, 2, 2 + tokens, out)
    expected = weights[:, first : first + tokens] @ rows[2 : 2 + tokens]
    np.testing.assert_allclose(out, expected, atol=1e-5)
    listed = draw.permutation(14)[:tokens].astype(np.int32)
    out = np.zeros((group, 6), np.float32)
    add_listed(weights, rows, listed, out)
    np.testing.assert_allclose(out, weights[:, listed] @ rows[listed], atol=1e-5)
