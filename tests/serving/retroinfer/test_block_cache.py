from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.serving.retroinfer.block_cache import (
    BLOCK,
    BlockCache,
    BufferSizes,
    buffer_sizes,
    final_sizes,
)
from papertrial.serving.retroinfer.sizes import IndexSettings, IndexSizes, prompt_sizes


class Simulator:
    """The cache by brute force: a list of clusters, most recently used first, and their sizes in blocks."""

    def __init__(self, capacity, execution, sizes):
        self.capacity, self.execution, self.sizes, self.held = capacity, execution, sizes, []

    def step(self, clusters):
        room, found = self.execution, []
        skipped = []
        for position, cluster in enumerate(clusters):
            if self.sizes[cluster] > room:
                skipped = clusters[position:]
                break
            room -= self.sizes[cluster]
            if self.sizes[cluster]:
                found.append(cluster)
        hits = [c for c in found if c in self.held]
        misses = [c for c in found if c not in self.held]
        for hit in hits[::-1]:
            self.held.remove(hit)
            self.held.insert(0, hit)
        admitted = []
        for miss in misses:
            if sum(self.sizes[c] for c in [*admitted, miss]) > self.capacity:
                break
            admitted.append(miss)
        while sum(self.sizes[c] for c in [*self.held, *admitted]) > self.capacity:
            self.held.pop()
        for miss in admitted:
            self.held.insert(0, miss)
        return hits, misses, skipped, admitted


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_it_is_the_simulator(data):
    tokens = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=14))
    capacity = data.draw(st.integers(0, 12))
    execution = data.draw(st.integers(1, 14))
    starts = [sum(tokens[:c]) for c in range(len(tokens))]
    simulator = Simulator(capacity, execution, [math.ceil(n / BLOCK) for n in tokens])
    cache = BlockCache(BufferSizes(capacity, execution), overflow="count")
    hit_tokens = skipped = 0
    for _ in range(data.draw(st.integers(1, 12))):
        some = data.draw(st.lists(st.sampled_from(range(len(tokens))), unique=True, max_size=8))
        access = cache.access(some, [tokens[c] for c in some], [starts[c] for c in some])
        admitted = cache.update(access)
        hits, misses, left, taken = simulator.step(some)
        assert [placed.cluster for placed in access.hits] == hits
        assert [placed.cluster for placed in access.misses] == misses
        assert list(access.skipped) == left
        assert [placed.cluster for placed in admitted] == taken
        assert cache.order == simulator.held
        hit_tokens += sum(tokens[c] for c in hits)
        skipped += len(left)
    assert (cache.hit_tokens, cache.skipped_clusters) == (hit_tokens, skipped)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_blocks_and_places_never_overlap(data):
    tokens = data.draw(st.lists(st.integers(0, 30), min_size=4, max_size=10))
    cache = BlockCache(BufferSizes(8, 40), overflow="count")
    owned: dict[int, tuple[int, ...]] = {}
    for _ in range(8):
        some = data.draw(st.lists(st.sampled_from(range(len(tokens))), unique=True, max_size=6))
        access = cache.access(some, [tokens[c] for c in some], [100 * c for c in some])
        place = 0
        for placed in sorted(access.hits + access.misses, key=lambda one: one.place):
            assert placed.place == place
            place += placed.tokens
        assert access.tokens == place
        for hit in access.hits:
            assert hit.blocks == owned[hit.cluster]
        for miss in access.misses:
            rows = [row for first, length in miss.runs for row in range(first, first + length)]
            assert rows == list(range(100 * miss.cluster, 100 * miss.cluster + miss.tokens))
            assert all(length == BLOCK for _, length in miss.runs[:-1])
        for placed in cache.update(access):
            owned[placed.cluster] = placed.blocks
        held = [block for c in cache.order for block in owned[c]]
        assert len(held) == len(set(held))
        assert all(0 <= block < 8 for block in held)


def accessed(cache, *clusters, tokens=8):
    access = cache.access(clusters, [tokens] * len(clusters), [tokens * c for c in clusters])
    return access, cache.update(access)


def test_the_order_after_hits_and_misses():
    cache = BlockCache(BufferSizes(6, 32))
    accessed(cache, 0, 1, 2, 3)
    # Inserted in order, each to the front: the worst-scoring admitted miss is in front.
    assert cache.order == [3, 2, 1, 0]
    accessed(cache, 1, 0)
    # Hits move from last to first: the best-scoring one ends in front.
    assert cache.order == [1, 0, 3, 2]


def test_hits_of_the_same_step_may_be_evicted():
    cache = BlockCache(BufferSizes(3, 32))
    accessed(cache, 0, 1, 2)
    access, admitted = accessed(cache, 2, 5, 6, 7)
    assert [hit.cluster for hit in access.hits] == [2]
    assert [miss.cluster for miss in admitted] == [5, 6, 7]
    assert cache.order == [7, 6, 5]


def test_a_cluster_larger_than_the_cache_blocks_every_later_miss():
    cache = BlockCache(BufferSizes(2, 32))
    accessed(cache, 9)
    access = cache.access([0, 1], [24, 8], [0, 24])
    assert cache.update(access) == []
    assert cache.order == [9]


def test_overflow_is_an_error_or_counted_and_takes_no_part():
    cache = BlockCache(BufferSizes(8, 2), overflow="count")
    accessed(cache, 0)
    # Cluster 1 does not fit, so neither it nor the hit 0 nor the small 2 after it take part.
    access = cache.access([3, 1, 0, 2], [8, 16, 8, 8], [24, 8, 0, 30])
    assert access.skipped == (1, 0, 2)
    cache.update(access)
    assert cache.order == [3, 0]
    assert cache.skipped_clusters == 3
    strict = BlockCache(BufferSizes(8, 2))
    with pytest.raises(
        BadInputError, match="execution buffer of 2 blocks has no room for 1 retrieved clusters"
    ):
        strict.access([1, 0], [16, 8], [0, 16])


def test_hit_ratio_counts_tokens():
    cache = BlockCache(BufferSizes(8, 32))
    assert math.isnan(cache.hit_ratio)
    accessed(cache, 0, 1)
    accessed(cache, 0, 2)
    assert cache.hit_ratio == pytest.approx(1 / 4)


def test_official_buffer_sizes():
    sizes = prompt_sizes(131_072, IndexSettings())
    assert buffer_sizes(sizes, 131_072) == BufferSizes(2 * 3 * 147, 2 * 4 * 147)
    assert buffer_sizes(sizes, 131_072, 0.05) == BufferSizes(2 * 410, 2 * 4 * 147)
    few = IndexSizes(64, 1, 1, 15)
    assert buffer_sizes(few, 1092) == BufferSizes(6, 300)
    assert buffer_sizes(few, 4097) == BufferSizes(6, 64)
    with pytest.raises(BadInputError, match="cache_ratio must be between 0 and 1, got 2"):
        buffer_sizes(few, 4097, 2.0)


@pytest.mark.parametrize(
    ("prompt", "new", "updates"),
    [(5000, 0, 0), (5000, 1024, 0), (5000, 1025, 1), (5000, 2048, 1), (5000, 2049, 2)],
)
def test_final_sizes_count_the_updates_to_come(prompt, new, updates):
    start = prompt_sizes(prompt, IndexSettings())
    expected = IndexSizes(
        start.clusters + 64 * updates, 1, start.retrieved + updates, start.estimated + 15 * updates
    )
    assert final_sizes(prompt, new, IndexSettings()) == expected


@pytest.mark.parametrize(
    ("prompt", "new", "clusters"), [(92, 1000, 0), (92, 1001, 64), (92, 2024, 64), (92, 2025, 128)]
)
def test_final_sizes_of_short_prompts(prompt, new, clusters):
    assert final_sizes(prompt, new, IndexSettings()).clusters == clusters
