"""The wave buffer: keys and values in host memory, a block cache on the device, transfers beside computation.

On a CUDA device host memory is pinned, copies run on a side stream and are joined by events, and the cache is
brought up to date on a thread while attention runs. On a CPU the same steps run one after the other, which is
how they are tested; there the buffer has no use but to count its traffic.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertrial.serving.retroinfer.attention import Choice
from papertrial.serving.retroinfer.block_cache import BLOCK, Access, BlockCache, BufferSizes, Placed
from papertrial.serving.retroinfer.index import WaveIndex

KeysValuesCounts = tuple[
    Float[Tensor, "heads tokens dim"], Float[Tensor, "heads tokens dim"], Int[Tensor, " heads"]
]


class WaveBuffer:
    """Brings the tokens of retrieved clusters to the device, from its cache where they are there.

    A step calls `start` (launches the copies), computes what needs no retrieved token, calls `finish` (waits
    for them), attends, and calls `release` (starts the update of the cache).

    Args:
        index: the index of one sequence; its keys and values lie in host memory.
        sizes: blocks of the cache and of the execution buffer, for each head.
        device: where attention runs.

    Source: arXiv 2505.02922 (wave buffer); microsoft/RetrievalAttention, wave_buffer_cpu.cpp, gather_copy.cu.
    """

    def __init__(self, index: WaveIndex, sizes: BufferSizes, device: torch.device) -> None:
        (heads, _, dim), dtype = index.keys.shape, index.keys.dtype
        self.index = index
        self.caches = [BlockCache(sizes) for _ in range(heads)]
        # Axis 0: keys, values. Rows of the cache are block * 8 + place in the block.
        self._cached = torch.empty(2, heads, sizes.cache_blocks * BLOCK, dim, dtype=dtype, device=device)
        # Zeros: heads with fewer tokens leave rows unwritten, and a weight of zero does not silence a NaN.
        self._execution = torch.zeros(
            2, heads, sizes.execution_blocks * BLOCK, dim, dtype=dtype, device=device
        )
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._arrived = torch.cuda.Event() if self._stream else None
        if self._stream is not None:
            # The zeros above are written by the current stream.
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self._updating: list[Future[list[Placed]]] = []
        self._accesses: list[Access] = []

    @property
    def hit_ratio(self) -> float:
        """Return the share of retrieved tokens that were in the cache, over all steps and heads."""
        hits = sum(cache.hit_tokens for cache in self.caches)
        total = hits + sum(cache.missed_tokens for cache in self.caches)
        return hits / total if total else float("nan")

    @property
    def moved_bytes(self) -> int:
        """Return the bytes of keys and values copied from host memory so far."""
        row = self.index.keys.shape[2] * self.index.keys.element_size()
        return 2 * row * sum(cache.missed_tokens for cache in self.caches)

    def start(self, choice: Choice) -> None:
        """Look up the retrieved clusters and launch the copies of their tokens into the execution buffer."""
        self._store_admitted()
        chosen = choice.retrieved
        clusters = chosen.tolist()
        tokens = self.index.sizes.gather(1, chosen).tolist()
        starts = self.index.starts.gather(1, chosen).tolist()
        self._accesses = [
            cache.access(*found) for cache, *found in zip(self.caches, clusters, tokens, starts, strict=True)
        ]
        with self._beside():
            for head, access in enumerate(self._accesses):
                self._copy_hits(head, access.hits)
                self._copy_misses(head, access.misses)
            if self._arrived is not None:
                self._arrived.record(self._stream)

    def finish(self) -> KeysValuesCounts:
        """Wait on the device for the copies; return keys, values and the tokens of each head."""
        if self._arrived is not None:
            self._arrived.wait(torch.cuda.current_stream(self._device))
        counts = [access.tokens for access in self._accesses]
        longest = max(counts)
        keys, values = self._execution[:, :, :longest]
        return keys, values, torch.tensor(counts, device=self._device)

    def release(self) -> None:
        """Say that attention has been launched: the caches are brought up to date on threads meanwhile."""
        if self._stream is not None:
            # The next copies overwrite what attention is reading now.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._updating = [
            _pool().submit(cache.update, access)
            for cache, access in zip(self.caches, self._accesses, strict=True)
        ]

    def _store_admitted(self) -> None:
        """Copy the misses that the last update admitted from the execution buffer into the cache."""
        with self._beside():
            for head, future in enumerate(self._updating):
                for placed in future.result():
                    rows = self._cache_rows(placed)
                    source = self._execution[:, head, placed.place : placed.place + placed.tokens]
                    self._cached[:, head].index_copy_(1, rows, source)
        self._updating = []

    def _copy_hits(self, head: int, hits: tuple[Placed, ...]) -> None:
        for placed in hits:
            target = self._execution[:, head, placed.place : placed.place + placed.tokens]
            target.copy_(self._cached[:, head].index_select(1, self._cache_rows(placed)))

    def _copy_misses(self, head: int, misses: tuple[Placed, ...]) -> None:
        for placed in misses:
            # The runs of one cluster follow each other, so one copy takes them all.
            first = placed.runs[0][0]
            target = self._execution[:, head, placed.place : placed.place + placed.tokens]
            target[0].copy_(self.index.keys[head, first : first + placed.tokens], non_blocking=True)
            target[1].copy_(self.index.values[head, first : first + placed.tokens], non_blocking=True)

    def _cache_rows(self, placed: Placed) -> Tensor:
        rows = torch.tensor(placed.blocks).mul_(BLOCK).unsqueeze(1) + torch.arange(BLOCK)
        return rows.reshape(-1)[: placed.tokens].to(self._device)

    def _beside(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream) if self._stream is not None else nullcontext()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="papertrial-wave-buffer")
