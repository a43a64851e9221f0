from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.serving.retroinfer.attention import (
    choose_clusters,
    estimate_attention,
    exact_attention,
    tripartite_attention,
)
from papertrial.serving.retroinfer.index import WaveIndex
from papertrial.serving.retroinfer.kernels import choose
from papertrial.serving.retroinfer.naive import (
    naive_cluster_keys,
    naive_tripartite_attention,
    rank_clusters,
)
from papertrial.serving.retroinfer.sizes import IndexSettings, IndexSizes

SCALE = 0.4
# float32 sums of a few dozen terms of size one.
CLOSE = {"atol": 2e-5, "rtol": 2e-5}
BACKENDS = ["compiled", "torch"]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.integers(16, 90),
    clusters=st.integers(1, 16),
    share=st.floats(0, 1),
    touched=st.integers(1, 16),
    heads=st.integers(1, 2),
    group=st.integers(1, 5),
    steady=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_both_paths_are_the_mechanism_written_out(
    make_index, backend, tokens, clusters, share, touched, heads, group, steady, seed
):
    touched = min(touched, clusters)
    retrieved = max(1, round(share * touched))
    index, keys, values, queries, steady_keys, steady_values = make_index(
        tokens, clusters, retrieved, touched - retrieved, heads, group, 6, seed, steady
    )
    # The clustering itself is held to its reference in test_clustering; here its result is given.
    assignment, centroids = naive_cluster_keys(keys, clusters, 1, 3)
    expected = naive_tripartite_attention(
        queries,
        keys,
        values,
        assignment,
        centroids,
        retrieved,
        touched - retrieved,
        steady_keys,
        steady_values,
        SCALE,
    )
    out = tripartite_attention(index, queries, steady_keys, steady_values, SCALE, backend)
    torch.testing.assert_close(out.double(), expected, **CLOSE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_retrieving_all_clusters_is_dense_attention(make_index, backend):
    index, keys, values, queries, steady_keys, steady_values = make_index(retrieved=12, estimated=0)
    expected, _ = exact_attention(
        queries, torch.cat([keys, steady_keys], 1), torch.cat([values, steady_values], 1), None, SCALE
    )
    out = tripartite_attention(index, queries, steady_keys, steady_values, SCALE, backend)
    torch.testing.assert_close(out, expected, **CLOSE)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("retrieved", [1, 7, 24])
def test_clusters_of_one_token_are_estimated_exactly(make_index, backend, retrieved):
    alone = torch.arange(24).expand(2, 24)
    index, keys, values, queries, steady_keys, steady_values = make_index(
        24, 24, retrieved, 24 - retrieved, assignment=alone
    )
    expected, _ = exact_attention(
        queries, torch.cat([keys, steady_keys], 1), torch.cat([values, steady_values], 1), None, SCALE
    )
    out = tripartite_attention(index, queries, steady_keys, steady_values, SCALE, backend)
    torch.testing.assert_close(out, expected, **CLOSE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_clusters_of_equal_keys_are_estimated_exactly(backend):
    draw = torch.Generator().manual_seed(0)
    assignment = torch.arange(8).repeat(5).expand(2, 40)
    keys = torch.randn(2, 8, 6, generator=draw)[:, assignment[0]]
    values, queries = torch.randn(2, 40, 6, generator=draw), torch.randn(2, 3, 6, generator=draw)
    index = WaveIndex(2, 6, torch.float32, torch.device("cpu"))
    index.add(keys, values, IndexSizes(8, 1, 1, 7), IndexSettings(), assignment)
    expected, _ = exact_attention(queries, keys, values, None, SCALE)
    # One steady token far below all others has no weight.
    far = -100 * queries.sum(1, keepdim=True)
    out = tripartite_attention(index, queries, far, torch.zeros(2, 1, 6), SCALE, backend)
    without, _ = exact_attention(
        queries, torch.cat([keys, far], 1), torch.cat([values, 0 * far], 1), None, SCALE
    )
    torch.testing.assert_close(out, without, **CLOSE)
    assert expected.shape == out.shape


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 999), size=st.sampled_from([0.1, 1.0, 4.0]))
def test_the_estimate_never_exceeds_the_true_mass_of_any_cluster(make_index, seed, size):
    index, keys, _, queries, *_ = make_index(60, 12, 1, 11, seed=seed)
    queries = size * queries
    assignment, _ = naive_cluster_keys(keys, 12, 1, 3)
    logits = torch.einsum("hgd,htd->hgt", queries, keys).double() * SCALE
    estimated = (
        torch.einsum("hgd,hcd->hgc", queries, index.centroids).double() * SCALE + index.sizes[:, None].log()
    )
    for head in range(2):
        for c in range(12):
            members = logits[head][:, assignment[head] == c]
            if members.shape[1]:
                # float32 rounding of logits up to about 50.
                assert (estimated[head, :, c] <= members.logsumexp(-1) + 1e-4).all()


def test_the_parts_of_an_estimate_are_those_of_its_formula(make_index):
    index, _, _, queries, *_ = make_index(60, 12, 3, 5)
    choice = choose_clusters(index, queries, SCALE)
    out, log_sum_exp = estimate_attention(index, choice)
    for head in range(2):
        for g in range(3):
            top = torch.zeros(8, dtype=torch.float64)
            bottom = 0.0
            for c in choice.estimated[head].tolist():
                weight = float(
                    torch.exp(queries[head, g].double() @ index.centroids[head, c].double() * SCALE)
                )
                top += weight * index.value_sums[head, c].double()
                bottom += weight * int(index.sizes[head, c])
            torch.testing.assert_close(out[head, g].double(), top / bottom, **CLOSE)
            assert log_sum_exp[head, g].exp().item() == pytest.approx(bottom, rel=1e-5)


def test_nothing_estimated_is_an_empty_part(make_index):
    index, _, _, queries, *_ = make_index(estimated=0)
    out, log_sum_exp = estimate_attention(index, choose_clusters(index, queries, SCALE))
    assert torch.equal(out, torch.zeros_like(out))
    assert log_sum_exp.isneginf().all()


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0]), min_size=1, max_size=12),
    first=st.integers(1, 12),
    touched=st.integers(1, 12),
)
def test_ties_are_broken_by_number_in_the_compiled_choice(scores, first, touched):
    touched = min(touched, len(scores))
    first = min(first, touched)
    ranked = sorted(range(len(scores)), key=lambda c: (-scores[c], c))
    best, rest = choose(np.array(scores, np.float32), first, touched - first)
    assert best.tolist() == sorted(ranked[:first])
    assert rest.tolist() == sorted(ranked[first:touched])


def test_equal_clusters_are_chosen_in_order():
    keys = torch.ones(1, 8, 4)
    index = WaveIndex(1, 4, torch.float32, torch.device("cpu"))
    assignment = torch.arange(8).expand(1, 8)
    index.add(keys, keys, IndexSizes(8, 1, 3, 2), IndexSettings(), assignment)
    choice = choose_clusters(index, torch.ones(1, 2, 4), SCALE)
    assert choice.retrieved.tolist() == [[0, 1, 2]]
    assert choice.estimated.tolist() == [[3, 4]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_clusters_come_last_and_add_nothing(make_index, backend):
    # Clusters 1 and 3 have no token; all clusters are touched, so they are chosen too.
    some = torch.tensor([0, 2, 4, 5]).repeat(5).expand(2, 20)
    index, keys, values, queries, steady_keys, steady_values = make_index(20, 6, 4, 2, assignment=some)
    choice = choose_clusters(index, queries, SCALE)
    assert all(set(row) == {1, 3} for row in choice.estimated.tolist())
    expected, _ = exact_attention(
        queries, torch.cat([keys, steady_keys], 1), torch.cat([values, steady_values], 1), None, SCALE
    )
    out = tripartite_attention(index, queries, steady_keys, steady_values, SCALE, backend)
    torch.testing.assert_close(out, expected, **CLOSE)


def test_empty_clusters_stay_in_the_softmax_that_ranks():
    """One head gives most of its softmax to an empty cluster, so the other head decides."""
    index = WaveIndex(1, 2, torch.float32, torch.device("cpu"))
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assignment = torch.tensor([[0, 1]])
    index.add(keys, keys, IndexSizes(3, 1, 1, 0), IndexSettings(), assignment)
    index.centroids[0, 2] = torch.tensor([8.0, 0.0])
    queries = torch.tensor([[[3.0, 0.0], [0.0, 1.0]]])
    assert choose_clusters(index, queries, 1.0).retrieved.tolist() == [[1]]
    assert rank_clusters(queries[0].double(), index.centroids[0].double(), assignment[0], 1.0)[0] == 1


def test_retrieval_only_leaves_the_estimate_out():
    keys, values = torch.randn(1, 32, 4), torch.randn(1, 32, 4)
    index = WaveIndex(1, 4, torch.float32, torch.device("cpu"))
    index.add(keys, values, IndexSizes(8, 1, 2, 3), replace(IndexSettings(), mode="retrieval-only"))
    assert (index.retrieved, index.estimated) == (2, 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_scores_do_not_overflow(make_index, backend):
    index, keys, values, queries, steady_keys, steady_values = make_index(retrieved=12, estimated=0)
    queries = 1000 * queries
    expected, _ = exact_attention(
        queries.double(),
        torch.cat([keys, steady_keys], 1).double(),
        torch.cat([values, steady_values], 1).double(),
        None,
        SCALE,
    )
    out = tripartite_attention(index, queries, steady_keys, steady_values, SCALE, backend)
    # Logits of several thousand have float32 steps of 5e-4, so weights are off by as much.
    torch.testing.assert_close(out, expected.float(), atol=5e-3, rtol=5e-3)


def test_bfloat16_takes_the_torch_path(make_index):
    index, keys, values, queries, steady_keys, steady_values = make_index()
    expected = tripartite_attention(index, queries, steady_keys, steady_values, SCALE)
    half = WaveIndex(2, 8, torch.bfloat16, torch.device("cpu"))
    assignment, _ = naive_cluster_keys(keys, 12, 1, 3)
    half.add(keys.bfloat16(), values.bfloat16(), IndexSizes(12, 1, 2, 4), IndexSettings(), assignment)
    zone = queries.bfloat16(), steady_keys.bfloat16(), steady_values.bfloat16()
    out = tripartite_attention(half, *zone, SCALE)
    assert out.dtype == torch.bfloat16
    # Eight bits: 2^-8 of logits of size four moves weights by some per cent.
    torch.testing.assert_close(out.float(), expected, atol=0.1, rtol=0.1)
    with pytest.raises(BadInputError, match="compiled backend needs float32 on a CPU"):
        tripartite_attention(half, *zone, SCALE, "compiled")


def test_step_bytes_by_hand(make_index):
    index, *_ = make_index(60, 12, 2, 4)
    read = index.step_bytes(exact_tokens=30)
    assert read.index == 2 * 12 * (8 * 4 + 4)
    assert read.estimate == 2 * 4 * 8 * 4
    assert read.exact == 30 * 2 * 8 * 4


def test_an_index_holds_every_token_once(make_index):
    index, keys, values, *_ = make_index(60, 12)
    assert index.sizes.sum(1).tolist() == [60, 60]
    torch.testing.assert_close(index.value_sums.sum(1), values.sum(1), **CLOSE)
    assignment, _ = naive_cluster_keys(keys, 12, 1, 3)
    for head in range(2):
        for c in range(12):
            start, size = int(index.starts[head, c]), int(index.sizes[head, c])
            # Rows of a cluster keep the order of the text.
            assert torch.equal(index.keys[head, start : start + size], keys[head][assignment[head] == c])
            assert torch.equal(index.values[head, start : start + size], values[head][assignment[head] == c])


def test_other_shapes_are_refused(make_index):
    index, keys, values, *_ = make_index()
    sizes = IndexSizes(8, 1, 1, 1)
    with pytest.raises(BadInputError, match=r"= \(2, 20, 8\) as in this index, got \(2, 20, 4\)"):
        index.add(torch.randn(2, 20, 4), torch.randn(2, 20, 4), sizes, IndexSettings())
    with pytest.raises(BadInputError, match=r"clusters 0 to 7, got \(2, 60\) with 8 to 8"):
        index.add(keys, values, sizes, IndexSettings(), torch.full((2, 60), 8))
