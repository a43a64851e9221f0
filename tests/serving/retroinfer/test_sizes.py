from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.serving.retroinfer.sizes import IndexSettings, IndexSizes, prompt_sizes, update_sizes


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # Computed with the official function.
        (30_000, IndexSizes(1872, 4, 34, 434)),
        (131_072, IndexSizes(8192, 16, 147, 1901)),
        (1_000_000, IndexSizes(62_464, 122, 1124, 14_492)),
        # By hand: round(1092/16) = 68 lies between 64 and 72, and a tie goes down.
        (1092, IndexSizes(64, 1, 1, 15)),
    ],
)
def test_the_official_sizes(tokens, expected):
    assert prompt_sizes(tokens, IndexSettings()) == expected


@given(st.integers(1092, 2_000_000))
def test_sizes_fit_each_other(tokens):
    sizes = prompt_sizes(tokens, IndexSettings())
    factor = math.lcm(8, sizes.segments)
    assert sizes.clusters % factor == 0
    assert sizes.clusters <= tokens - 68
    # The nearest multiple, or the one multiple there is.
    assert abs(sizes.clusters - round(tokens / 16)) <= factor / 2 or sizes.clusters == factor
    assert sizes.retrieved >= 1
    assert sizes.retrieved + sizes.estimated <= sizes.clusters


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(1024, IndexSizes(64, 1, 1, 15)), (16_384, IndexSizes(1024, 1, 18, 238))],
)
def test_the_official_update_steps(tokens, expected):
    assert update_sizes(tokens, IndexSettings()) == expected


def test_small_updates_have_no_more_clusters_than_tokens():
    settings = IndexSettings(cluster_size=1, update_length=12)
    assert update_sizes(12, settings).clusters == 12
    assert update_sizes(1024, IndexSettings(estimate=0.0)).estimated == 0
    all_retrieved = IndexSettings(retrieve=1.0, estimate=0.0)
    assert update_sizes(1024, all_retrieved) == IndexSizes(64, 1, 64, 0)
    assert prompt_sizes(4096, all_retrieved) == IndexSizes(256, 1, 256, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"retrieve": 0.0}, "retrieve must be above 0 and at most 1, got 0.0"),
        ({"retrieve": -0.1}, "retrieve must be above 0"),
        ({"retrieve": 1.1, "estimate": 0.0}, "retrieve must be above 0 and at most 1, got 1.1"),
        ({"estimate": -0.1}, "estimate must be between 0 and 1"),
        ({"retrieve": 0.5, "estimate": 0.6}, r"retrieve \+ estimate must be at most 1, got 0.5 \+ 0.6 = 1.1"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"sink": -1}, "sink must be at least 0, got -1"),
        ({"cluster_size": 0}, "cluster_size must be at least 1"),
        ({"update_length": 7}, "update_length must be at least 8"),
        ({"min_index_len": 75}, r"sink \+ window \+ 8 = 76 .* got 75"),
        ({"cache_ratio": 1.5}, "cache_ratio must be between 0 and 1 or None, got 1.5"),
        ({"mode": "fast"}, "mode must be retroinfer or retrieval-only, got 'fast'"),
        ({"backend": "c"}, "backend must be auto, torch or compiled, got 'c'"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed, said):
    with pytest.raises(BadInputError, match=said):
        IndexSettings(**changed)


def test_more_clusters_than_tokens_are_refused():
    settings = IndexSettings(cluster_size=1, min_index_len=76)
    with pytest.raises(BadInputError, match="set cluster_size above 1"):
        prompt_sizes(200, settings)
