"""The block cache of the wave buffer: which clusters the accelerator holds, as an exact model of its traffic.

The keys and values of a cluster lie contiguously in host memory, in blocks of eight vectors of which only the
last may be short. A cache on the accelerator keeps the blocks of recently used clusters, least recently used
out first.
There is one for each sequence and key-value head. It needs no accelerator: what it counts is what would move.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from papertrial.errors import BadInputError
from papertrial.serving.retroinfer.sizes import IndexSettings, IndexSizes, prompt_sizes, update_sizes

BLOCK = 8
PAGES_PER_CLUSTER = 2


@dataclass(frozen=True)
class BufferSizes:
    """Blocks that the cache holds, and blocks that one step may bring together for attention."""

    cache_blocks: int
    execution_blocks: int


def final_sizes(prompt: int, new_tokens: int, settings: IndexSettings) -> IndexSizes:
    """Return the sizes of the index at the end of a generation whose length is announced.

    `segments` is that of the prompt. The wave buffer never grows, so it is sized for this index.
    """
    if prompt >= settings.min_index_len:
        sizes, waiting = prompt_sizes(prompt, settings), settings.steady
    else:
        sizes, waiting = IndexSizes(0, 1, 0, 0), prompt
    limit = settings.steady + settings.update_length if sizes.clusters else settings.min_index_len
    left = new_tokens
    while left > limit - waiting:
        left -= limit - waiting
        step = update_sizes(limit - settings.steady, settings)
        sizes = IndexSizes(
            sizes.clusters + step.clusters,
            sizes.segments,
            sizes.retrieved + step.retrieved,
            sizes.estimated + step.estimated,
        )
        waiting, limit = settings.steady, settings.steady + settings.update_length
    return sizes


def buffer_sizes(sizes: IndexSizes, context: int, cache_ratio: float = 0.0) -> BufferSizes:
    """Return the official sizes of cache and execution buffer for an index of (final) `sizes`.

    `cache_ratio` is the share of all clusters that the cache holds at their nominal two blocks; 0 takes three
    times the retrieved clusters. The official model configurations say 0.05, its command line 0.

    Source: microsoft/RetrievalAttention, config/config.py and cache_hub/retroinfer_cache.py.
    """
    if not 0 <= cache_ratio <= 1:
        raise BadInputError(f"cache_ratio must be between 0 and 1, got {cache_ratio}")
    cached = round(sizes.clusters * cache_ratio) if cache_ratio > 0 else 3 * sizes.retrieved
    least = 150 if context <= 4096 else 32
    return BufferSizes(PAGES_PER_CLUSTER * cached, max(least, 4 * sizes.retrieved) * PAGES_PER_CLUSTER)


@dataclass(frozen=True)
class Placed:
    """One cluster brought together for a step.

    Attributes:
        cluster: its number.
        tokens: how many it has.
        place: the row of the execution buffer at which it begins.
        blocks: where it is in the cache (a hit); empty for a miss.
        runs: first row and length of its runs of eight in host memory (a miss); empty for a hit.
    """

    cluster: int
    tokens: int
    place: int
    blocks: tuple[int, ...] = ()
    runs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Access:
    """What one step finds: hits and misses best first, and what the execution buffer had no room for."""

    hits: tuple[Placed, ...]
    misses: tuple[Placed, ...]
    skipped: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Return the tokens brought together."""
        return sum(placed.tokens for placed in self.hits + self.misses)


@dataclass
class BlockCache:
    """A least-recently-used cache of clusters, counted in blocks.

    Attributes:
        sizes: its capacity and that of the execution buffer.
        overflow: what to do with clusters for which the execution buffer has no room. They take no part in
            attention, so accuracy drops: `error` raises, `count` counts them (the official code prints a
            warning).
        hit_tokens, missed_tokens, skipped_clusters: counted since the start.
    """

    sizes: BufferSizes
    overflow: Literal["error", "count"] = "error"
    hit_tokens: int = 0
    missed_tokens: int = 0
    skipped_clusters: int = 0
    # The front of the official list is the end of this one: newest last.
    _held: OrderedDict[int, tuple[int, ...]] = field(default_factory=OrderedDict)
    _free: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = list(range(self.sizes.cache_blocks - 1, -1, -1))

    @property
    def order(self) -> list[int]:
        """Return the clusters held, most recently used first."""
        return list(reversed(self._held))

    @property
    def hit_ratio(self) -> float:
        """Return the share of tokens found in the cache since the start; NaN before the first access."""
        total = self.hit_tokens + self.missed_tokens
        return self.hit_tokens / total if total else float("nan")

    def access(self, clusters: Sequence[int], tokens: Sequence[int], starts: Sequence[int]) -> Access:
        """Look up clusters, best first; `tokens` and `starts` are their sizes and first rows in host memory.

        The first cluster that would pass the execution buffer is skipped with every later one, even one that
        would fit and even a hit. A cluster without tokens is passed over.

        Raises:
            BadInputError: no room in the execution buffer, where `overflow` is "error".
        """
        hits: list[Placed] = []
        misses: list[Placed] = []
        used = place = 0
        for position, (cluster, count, start) in enumerate(zip(clusters, tokens, starts, strict=True)):
            blocks = -(-count // BLOCK)
            if used + blocks > self.sizes.execution_blocks:
                return self._counted(Access(tuple(hits), tuple(misses), tuple(clusters[position:])))
            if not count:
                continue
            if cluster in self._held:
                hits.append(Placed(cluster, count, place, blocks=self._held[cluster]))
            else:
                rows = range(start, start + count, BLOCK)
                runs = tuple((row, min(BLOCK, start + count - row)) for row in rows)
                misses.append(Placed(cluster, count, place, runs=runs))
            used += blocks
            place += count
        return self._counted(Access(tuple(hits), tuple(misses), ()))

    def update(self, access: Access) -> list[Placed]:
        """Bring the cache up to date after an access; return the admitted misses with their new blocks.

        In this order: hits go to the front, the best-scoring last of all; misses are admitted in order while
        together they fit in the whole cache, up to the first that does not; clusters at the tail are evicted
        until there is room, hits of this very step among them; admitted misses go to the front one by one.

        Source: microsoft/RetrievalAttention, wave_buffer_cpu.cpp.
        """
        for hit in reversed(access.hits):
            self._held.move_to_end(hit.cluster)
        admitted: list[Placed] = []
        needed = 0
        for miss in access.misses:
            blocks = -(-miss.tokens // BLOCK)
            if needed + blocks > self.sizes.cache_blocks:
                break
            needed += blocks
            admitted.append(miss)
        while len(self._free) < needed:
            _, blocks_freed = self._held.popitem(last=False)
            self._free.extend(blocks_freed)
        return [self._insert(miss) for miss in admitted]

    def _insert(self, miss: Placed) -> Placed:
        blocks = tuple(self._free.pop() for _ in range(-(-miss.tokens // BLOCK)))
        self._held[miss.cluster] = blocks
        return Placed(miss.cluster, miss.tokens, miss.place, blocks=blocks, runs=miss.runs)

    def _counted(self, access: Access) -> Access:
        if access.skipped and self.overflow == "error":
            raise BadInputError(
                f"the execution buffer of {self.sizes.execution_blocks} blocks has no room for "
                f"{len(access.skipped)} retrieved clusters, which would be left out of attention; "
                "announce the generation length when sizing it, retrieve less, or set overflow='count'"
            )
        self.hit_tokens += sum(hit.tokens for hit in access.hits)
        self.missed_tokens += sum(miss.tokens for miss in access.misses)
        self.skipped_clusters += len(access.skipped)
        return access
