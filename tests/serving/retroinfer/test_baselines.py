from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.serving.retroinfer.attention import exact_attention
from papertrial.serving.retroinfer.baselines import BestTokens, DenseStep, QuestPages, WaveStep
from papertrial.serving.retroinfer.layer_work import LayerWork, compare
from papertrial.serving.retroinfer.sizes import IndexSettings
from papertrial.serving.retroinfer.synthetic import make_layer

SCALE = 0.25
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


def layer(tokens=70, seed=0, dim=8):
    draw = torch.Generator().manual_seed(seed)
    shape = 2, tokens, dim
    return (
        torch.randn(shape, generator=draw),
        torch.randn(shape, generator=draw),
        2 * torch.randn(2, 3, dim, generator=draw),
    )


def masked(queries, keys, values, exact):
    """Return attention over the tokens of a mask, by the definition."""
    logits = (queries @ keys.transpose(1, 2) * SCALE).masked_fill(~exact[:, None], -torch.inf)
    return logits.softmax(-1) @ values


@settings(max_examples=20, deadline=None)
@given(
    tokens=st.integers(20, 90), budget=st.integers(1, 100), page=st.integers(1, 20), seed=st.integers(0, 99)
)
def test_pages_are_attended_exactly_and_bounded(tokens, budget, page, seed):
    keys, values, queries = layer(tokens, seed)
    pages = QuestPages(keys, values, budget, page)
    exact, estimated = pages.zones(queries, SCALE)
    assert not estimated.any()
    torch.testing.assert_close(pages.attend(queries, SCALE), masked(queries, keys, values, exact), **CLOSE)
    whole, number = tokens // page * page, tokens // page
    assert exact[:, whole:].all()
    assert exact[:, :whole].sum(1).tolist() == [min(-(-budget // page), number) * page] * 2
    # The bound is one: no token of a page scores above it, summed over heads or not.
    products = queries @ keys[:, :whole].transpose(1, 2)
    low, high = pages.bounds[:, :, 8:], pages.bounds[:, :, :8]
    bound = torch.maximum(queries[:, :, None] * low[:, None], queries[:, :, None] * high[:, None]).sum(-1)
    assert (products.unflatten(2, (number, page)).amax(3) <= bound + 1e-4).all()
    ranked = bound.sum(1).argsort(1, descending=True)[:, : pages.chosen]
    assert sorted(ranked[0].tolist()) == sorted(pages.choose(queries)[0].tolist())


def test_the_best_tokens_hold_more_attention_than_any_others():
    keys, values, queries = layer()
    best = BestTokens(keys, values, 12)
    exact, _ = best.zones(queries, SCALE)
    shares = (queries @ keys.transpose(1, 2) * SCALE).softmax(-1).sum(1)
    assert exact.sum(1).tolist() == [12, 12]
    assert (shares[exact].view(2, 12).amin(1) >= shares[~exact].view(2, -1).amax(1)).all()
    torch.testing.assert_close(best.attend(queries, SCALE), masked(queries, keys, values, exact), **CLOSE)
    assert best.step_bytes(queries, SCALE).total == 2 * (70 * 8 * 4 + 12 * 2 * 8 * 4)


@pytest.mark.parametrize("is_compiled", [True, False])
def test_dense_steps_are_dense(is_compiled):
    keys, values, queries = layer()
    step = DenseStep(keys, values, is_compiled)
    exact, estimated = step.zones(queries, SCALE)
    assert exact.all()
    assert not estimated.any()
    expected, _ = exact_attention(queries, keys, values, None, SCALE)
    torch.testing.assert_close(step.attend(queries, SCALE), expected, **CLOSE)
    assert step.step_bytes(queries, SCALE).total == 2 * 70 * 2 * 8 * 4


def test_the_zones_of_an_index_are_what_it_attends():
    keys, values, queries = layer(120)
    settings_ = IndexSettings(
        sink=2, window=8, cluster_size=4, retrieve=0.2, estimate=0.3, min_index_len=100, mode="retrieval-only"
    )
    assignment = torch.randint(32, (2, 110), generator=torch.Generator().manual_seed(1))
    step = WaveStep(keys, values, settings_, assignment, 1.0)
    exact, estimated = step.zones(queries, SCALE)
    assert not estimated.any()
    torch.testing.assert_close(step.attend(queries, SCALE), masked(queries, keys, values, exact), **CLOSE)
    index = step.sequence.index
    read = step.step_bytes(queries, SCALE)
    assert read.exact == int(exact.sum()) * 2 * 8 * 4
    assert read.estimate == 0
    assert read.index == 2 * index.clusters * (8 * 4 + 4)


def test_pages_that_cannot_be_are_refused():
    keys, values, _ = layer(10)
    with pytest.raises(BadInputError, match="pages of 16 tokens and a budget of 4 do not fit 10 tokens"):
        QuestPages(keys, values, 4)


def test_a_perfect_step_has_no_error_and_all_mass():
    keys, values, queries = layer()
    truth, shares = masked(queries, keys, values, torch.ones(2, 70, dtype=torch.bool)), None
    shares = (queries @ keys.transpose(1, 2) * SCALE).softmax(-1).mean(1).double()
    found = compare(DenseStep(keys, values), queries, SCALE, truth.double(), shares)
    assert found["error"] < 1e-5
    assert found["mass_exact"] == pytest.approx(1.0)
    few = compare(BestTokens(keys, values, 5), queries, SCALE, truth.double(), shares)
    assert few["mass_exact"] == pytest.approx(float(shares.topk(5, 1).values.sum()) / 2)
    assert few["error"] > 0.05


def test_structured_attention_is_concentrated_and_hostile_attention_is_flat():
    shares = {}
    for structure in ("structured", "hostile"):
        made = make_layer(structure, 4096, 2, seed=1)
        attention = (made.queries[0] @ made.keys.transpose(1, 2) * 128**-0.5).softmax(-1)
        shares[structure] = float(attention.topk(4096 // 50).values.sum(-1).mean())
    assert shares["structured"] > 0.5
    assert shares["hostile"] < 0.15
    again = make_layer("structured", 4096, 2, seed=1)
    assert torch.equal(again.keys, make_layer("structured", 4096, 2, seed=1).keys)
    with pytest.raises(BadInputError, match="unknown kind of data 'kind'"):
        make_layer("kind", 10, 1, 0)


def test_all_arms_of_a_layer_get_the_budget_of_the_index(tmp_path):
    work = LayerWork("structured", 1500, 3, 2, 2, 16, IndexSettings())
    work.prepare(0, tmp_path)
    exact = {
        arm: work.measure(arm, 0, tmp_path)["mass_exact"]
        for arm in ("retroinfer", "retrieval-only", "best-tokens", "dense")
    }
    assert exact["retroinfer"] == exact["retrieval-only"]
    assert exact["best-tokens"] >= exact["retroinfer"] - 0.02
    assert exact["dense"] == pytest.approx(1.0)
    with pytest.raises(BadInputError, match="unknown arm 'dens'; did you mean dense"):
        work.step("dens", 0, tmp_path)
