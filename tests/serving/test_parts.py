"""Merging, gathering and counting: each against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.serving.counters import StepBytes, dense_step_bytes, token_bytes
from papertrial.serving.gathering import gather_blocks, gather_rows, run_rows
from papertrial.serving.merging import merge_attention


@settings(max_examples=40, deadline=None)
@given(
    parts=st.integers(1, 5),
    tokens=st.integers(1, 40),
    size=st.sampled_from([1.0, 30.0]),
    seed=st.integers(0, 999),
)
def test_attention_over_parts_merges_into_one_softmax(parts, tokens, size, seed):
    draw = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(3, tokens, generator=draw, dtype=torch.float64)
    values = torch.randn(tokens, 5, generator=draw, dtype=torch.float64)
    part = torch.randint(parts, (tokens,), generator=draw)
    outs, sums = [], []
    for i in range(parts):
        own = logits[:, part == i]
        # A part without tokens has a softmax over nothing: zeros, and the log of an empty sum.
        outs.append(own.softmax(-1) @ values[part == i])
        sums.append(own.logsumexp(-1) if own.shape[1] else torch.full((3,), -math.inf))
    out, log_sum_exp = merge_attention(torch.stack(outs), torch.stack(sums))
    torch.testing.assert_close(out.double(), logits.softmax(-1) @ values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(log_sum_exp.double(), logits.logsumexp(-1), atol=1e-5, rtol=1e-5)


def test_merging_survives_large_scores_and_empty_parts():
    outs = torch.tensor([[[1.0]], [[3.0]], [[float("nan")]]])
    out, total = merge_attention(outs, torch.tensor([[5000.0], [5000.0], [-math.inf]]))
    assert out.item() == pytest.approx(2.0)
    assert total.item() == pytest.approx(5000.0 + math.log(2.0))
    out, total = merge_attention(outs[2:], torch.tensor([[-math.inf]]))
    assert out.item() == 0.0
    assert total.item() == -math.inf


def test_rows_and_blocks_are_those_of_their_head():
    source = torch.randn(3, 12, 4)
    index = torch.tensor([[5, 0, 5], [1, 11, 2], [0, 0, 0]])
    assert torch.equal(gather_rows(source, index), torch.stack([source[h, index[h]] for h in range(3)]))
    blocks = torch.tensor([[2, 0], [1, 1], [0, 2]])
    expected = torch.stack([torch.cat([source[h, 4 * b : 4 * b + 4] for b in blocks[h]]) for h in range(3)])
    assert torch.equal(gather_blocks(source, blocks, 4), expected)
    view = torch.randn(3, 20, 4)[:, :12]
    assert torch.equal(gather_rows(view, index), torch.stack([view[h, index[h]] for h in range(3)]))
    with pytest.raises(BadInputError, match="12 tokens in blocks of 5"):
        gather_blocks(source, blocks, 5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), min_size=3, max_size=3),
        min_size=1,
        max_size=3,
    )
)
def test_runs_are_laid_end_to_end(runs):
    starts = torch.tensor([[start for start, _ in head] for head in runs])
    lengths = torch.tensor([[length for _, length in head] for head in runs])
    rows, counts = run_rows(starts, lengths)
    for head, own, count in zip(runs, rows.tolist(), counts.tolist(), strict=True):
        expected = [row for start, length in head for row in range(start, start + length)]
        assert own[:count] == expected
        assert own[count:] == [0] * (rows.shape[1] - count)


def test_bytes_of_a_dense_step():
    assert token_bytes(tokens=10, dim=128, element=2) == 10 * 2 * 128 * 2
    assert dense_step_bytes(tokens=131_072, kv_heads=2, dim=128, element=4).total == 2**28
    assert StepBytes(1, 2, 4).total == 7
