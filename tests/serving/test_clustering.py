from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from papertrial.errors import BadInputError
from papertrial.serving.clustering import (
    cluster_keys,
    nearest,
    segment_round,
    starting_tokens,
    sum_by_cluster,
)
from papertrial.serving.retroinfer import IndexSettings
from papertrial.serving.retroinfer.naive import naive_cluster_keys


def keys_of(heads, tokens, dim, seed):
    return torch.randn(heads, tokens, dim, generator=torch.Generator().manual_seed(seed)) + 2.0


@settings(max_examples=15, deadline=None)
@given(
    heads=st.integers(1, 2),
    own=st.integers(1, 4),
    segments=st.integers(1, 3),
    extra=st.integers(0, 30),
    rounds=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_it_is_the_clustering_written_out(heads, own, segments, extra, rounds, seed):
    clusters = own * segments
    # float64, so that no near-tie falls differently than in the reference.
    keys = keys_of(heads, clusters + extra, 4, seed).double()
    assignment, centroids = naive_cluster_keys(keys, clusters, segments, rounds)
    found = cluster_keys(keys.float(), clusters, segments, rounds)
    assert torch.equal(found.assignment, assignment)
    # Sums of float32 keys, a few dozen of them.
    torch.testing.assert_close(found.centroids.double(), centroids, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.sizes, torch.stack([a.bincount(minlength=clusters) for a in assignment]))


def test_every_token_is_in_one_cluster_whose_centroid_is_its_mean():
    keys = keys_of(2, 500, 8, 0)
    found = cluster_keys(keys, 40, 4)
    assert found.sizes.sum(1).tolist() == [500, 500]
    for head in range(2):
        for c in range(40):
            members = keys[head][found.assignment[head] == c]
            if len(members):
                torch.testing.assert_close(found.centroids[head, c], members.mean(0), atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(segments=st.integers(1, 4), own=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_segment_round_leaves_unit_lengths_and_stays_in_its_segment(segments, own, seed):
    tokens = segments * own * 3 + 1
    keys = keys_of(2, tokens, 6, seed)
    centred = keys - keys.mean(1, keepdim=True)
    start = centred[:, starting_tokens(tokens, segments * own, keys.device)]
    moved = segment_round(centred, start, segments)
    changed = (moved != start).any(2)
    torch.testing.assert_close(moved.norm(dim=2)[changed], torch.ones(int(changed.sum())))
    # The tail and the other segments have no part: changing them changes nothing in the first segment.
    other = centred.clone()
    other[:, tokens // segments :] *= -3
    again = segment_round(other, start, segments)
    assert torch.equal(again[:, :own], moved[:, :own])


@settings(max_examples=20, deadline=None)
@given(
    segments=st.integers(1, 5),
    own=st.integers(1, 4),
    extra=st.integers(0, 9),
    reach=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_reach_limits_the_last_round_alone(segments, own, extra, reach, seed):
    clusters = segments * own
    keys = keys_of(1, 3 * clusters + extra, 4, seed)
    tokens = keys.shape[1]
    found = cluster_keys(keys, clusters, segments, rounds=1, reach=reach)
    # One round: the centroids are the starting keys, so the choice can be written out with a mask.
    centred = (keys - keys.mean(1, keepdim=True))[0]
    scores = centred @ centred[starting_tokens(tokens, clusters, keys.device)].T
    mine = (torch.arange(tokens) // (tokens // segments)).clamp(max=segments - 1)
    theirs = torch.arange(clusters) // own
    scores[(mine[:, None] - theirs).abs() > reach] = -torch.inf
    assert torch.equal(found.assignment[0], scores.argmax(1))


def test_a_reach_over_all_segments_is_none():
    keys = keys_of(2, 300, 8, 1)
    assert torch.equal(cluster_keys(keys, 24, 4, reach=3).assignment, cluster_keys(keys, 24, 4).assignment)
    with pytest.raises(BadInputError, match="reach must be None or at least 0 segments, got -1"):
        cluster_keys(keys, 24, 4, reach=-1)
    with pytest.raises(BadInputError, match="reach must be None or at least 0, got -2"):
        IndexSettings(reach=-2)


def test_starting_tokens_by_the_formula():
    assert starting_tokens(100, 8, torch.device("cpu")).tolist() == [6, 18, 31, 43, 56, 68, 81, 93]
    assert starting_tokens(8, 8, torch.device("cpu")).tolist() == list(range(8))
    # Exact where float32 is not: 5_000_001 tokens, 312_500 clusters.
    places = starting_tokens(5_000_001, 312_500, torch.device("cpu"))
    assert places[-1].item() == (2 * 312_499 + 1) * 5_000_001 // 625_000


def test_ties_go_to_the_lowest_cluster_and_empty_clusters_keep_their_centroid():
    points = torch.ones(1, 3, 2)
    assert nearest(points, torch.ones(1, 4, 2)).tolist() == [[0, 0, 0]]
    centroids = torch.tensor([[[1.0, 1.0], [-5.0, -5.0]]])
    moved = segment_round(points, centroids, 1)
    torch.testing.assert_close(moved, torch.tensor([[[0.5**0.5, 0.5**0.5], [-5.0, -5.0]]]))
    same = torch.ones(1, 16, 2)
    found = cluster_keys(same, 8, 1)
    assert found.sizes.tolist() == [[16] + [0] * 7]
    assert torch.equal(found.centroids, torch.ones(1, 8, 2))


def test_chunks_do_not_matter(monkeypatch):
    keys = keys_of(2, 300, 8, 1)
    whole = cluster_keys(keys, 24, 3)
    monkeypatch.setattr("papertrial.serving.clustering.SCORES_PER_CHUNK", 24 * 7)
    pieces = cluster_keys(keys, 24, 3)
    assert torch.equal(whole.assignment, pieces.assignment)


def test_sums_are_taken_in_float32():
    rows = torch.full((1, 4096, 1), 1.0, dtype=torch.bfloat16)
    sums, sizes = sum_by_cluster(rows, torch.zeros(1, 4096, dtype=torch.long), 2)
    # In bfloat16 the sum would stop at 256.
    assert sums.tolist() == [[[4096.0], [0.0]]]
    assert sizes.tolist() == [[4096, 0]]


def test_well_separated_groups_are_found_as_by_k_means():
    """The distance is not scikit-learn's (inner product, not L2), so only a clear case must agree."""
    draw = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(16, 16, generator=draw)).Q[:6] * 10
    label = torch.arange(6).repeat_interleave(50)[torch.randperm(300, generator=draw)]
    keys = directions[label] + 0.3 * torch.randn(300, 16, generator=draw)
    # A fresh start from tokens can put two centroids in one group; the six groups are then still separated.
    found = cluster_keys(keys[None], 24, 1).assignment[0]
    peer = KMeans(6, n_init=3, random_state=0).fit_predict(keys.numpy())
    for c in found.unique():
        assert len(set(peer[(found == c).numpy()])) == 1


@pytest.mark.parametrize(
    ("clusters", "segments", "rounds", "said"),
    [
        (11, 1, 1, "between 1 and the 10 keys, got 11"),
        (0, 1, 1, "between 1 and the 10 keys, got 0"),
        (9, 2, 1, "multiple of segments, got 9 and 2"),
        (8, 2, 0, "rounds must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_clustered_is_refused(clusters, segments, rounds, said):
    with pytest.raises(BadInputError, match=said):
        cluster_keys(torch.randn(1, 10, 2), clusters, segments, rounds)
