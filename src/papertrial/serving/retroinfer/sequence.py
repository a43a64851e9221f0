"""One sequence in one layer: the steady zone, the index, and how tokens move between them."""

from __future__ import annotations

import time

import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertrial.serving.caches import grown
from papertrial.serving.retroinfer.attention import attend_all, tripartite_attention
from papertrial.serving.retroinfer.block_cache import buffer_sizes, final_sizes
from papertrial.serving.retroinfer.index import WaveIndex
from papertrial.serving.retroinfer.sizes import IndexSettings, prompt_sizes, update_sizes
from papertrial.serving.retroinfer.wave_buffer import WaveBuffer


class RetroSequence:
    """The keys and values of one sequence in one layer, ready to decode; padding is not among them.

    A prompt of at least `settings.min_index_len` tokens is indexed at once: its first `sink` and last
    `window` tokens stay in the steady zone. A shorter one stays in the steady zone as a whole, so attention
    is dense, until `min_index_len` tokens are there.

    Attributes:
        index: the wave index, None while attention is dense.
        buffer: the wave buffer, None unless `settings.cache_ratio` asks for one.
        tokens: tokens seen.
        build_seconds: time spent in clustering the prompt.
        update_seconds: time spent in clustering generated tokens.
        updates: how often generated tokens were indexed.
    """

    def __init__(
        self,
        keys: Float[Tensor, "heads tokens dim"],
        values: Float[Tensor, "heads tokens dim"],
        settings: IndexSettings,
        assignment: Int[Tensor, "heads indexed"] | None = None,
    ) -> None:
        """Index the prompt; `assignment`, where given, has the clusters of tokens between sink and window."""
        self.settings = settings
        self.index: WaveIndex | None = None
        self.buffer: WaveBuffer | None = None
        self.tokens = self._prompt = keys.shape[1]
        self.build_seconds = self.update_seconds = 0.0
        self.updates = 0
        start = time.perf_counter()
        if self.tokens >= settings.min_index_len:
            first, last = settings.sink, self.tokens - settings.window
            self.index = self._empty_index(keys)
            sizes = prompt_sizes(self.tokens, settings)
            self.index.add(keys[:, first:last], values[:, first:last], sizes, settings, assignment)
            keys = torch.cat([keys[:, :first], keys[:, last:]], dim=1)
            values = torch.cat([values[:, :first], values[:, last:]], dim=1)
            self.build_seconds = time.perf_counter() - start
        self._keys = keys.new_empty(keys.shape[0], self._steady_limit, keys.shape[2])
        self._values = torch.empty_like(self._keys)
        self.steady = keys.shape[1]
        self._keys[:, : self.steady] = keys
        self._values[:, : self.steady] = values

    @property
    def is_indexed(self) -> bool:
        """Say whether attention goes through the index (else it is dense)."""
        return self.index is not None

    @property
    def steady_keys(self) -> Float[Tensor, "heads steady dim"]:
        """Return the keys that every step attends exactly: sink, window and tokens not yet indexed."""
        return self._keys[:, : self.steady]

    @property
    def steady_values(self) -> Float[Tensor, "heads steady dim"]:
        """Return the values of `steady_keys`."""
        return self._values[:, : self.steady]

    def append(self, key: Float[Tensor, "heads dim"], value: Float[Tensor, "heads dim"]) -> None:
        """Add the newest token to the steady zone; if the zone is full, first index what has left the window.

        Source: arXiv 2505.02922 (index update); microsoft/RetrievalAttention, cache_hub.
        """
        if self.steady >= self._steady_limit:
            self._index_oldest()
        self._keys = grown(self._keys, self.steady + 1)
        self._values = grown(self._values, self.steady + 1)
        self._keys[:, self.steady] = key
        self._values[:, self.steady] = value
        self.steady += 1
        self.tokens += 1

    def attend(
        self, queries: Float[Tensor, "heads group dim"], scale: float
    ) -> Float[Tensor, "heads group dim"]:
        """Return one decode step's attention for the query heads of every key-value head."""
        keys, values = self.steady_keys, self.steady_values
        if self.index is not None:
            return tripartite_attention(
                self.index, queries, keys, values, scale, self.settings.backend, self.buffer
            )
        return attend_all(queries, keys, values, scale, self.settings.backend)

    def everything(self) -> tuple[Float[Tensor, "heads tokens dim"], Float[Tensor, "heads tokens dim"]]:
        """Return all keys and values seen, clusters first, then the steady zone: not in text order."""
        if self.index is None:
            return self.steady_keys, self.steady_values
        count = self.index.tokens
        return (
            torch.cat([self.index.keys[:, :count].to(self._keys.device), self.steady_keys], dim=1),
            torch.cat([self.index.values[:, :count].to(self._keys.device), self.steady_values], dim=1),
        )

    @property
    def _steady_limit(self) -> int:
        settings = self.settings
        if self.index is None:
            return settings.min_index_len
        return settings.steady + settings.update_length

    def _index_oldest(self) -> None:
        settings, start = self.settings, time.perf_counter()
        first, last = settings.sink, self.steady - settings.window
        if self.index is None:
            self.index = self._empty_index(self._keys)
        sizes = update_sizes(last - first, settings)
        self.index.add(self._keys[:, first:last], self._values[:, first:last], sizes, settings)
        for buffer in (self._keys, self._values):
            buffer[:, first : settings.steady] = buffer[:, last : self.steady].clone()
        self.steady = settings.steady
        self.updates += 1
        self.update_seconds += time.perf_counter() - start

    def _empty_index(self, keys: Tensor) -> WaveIndex:
        settings, offloads = self.settings, self.settings.cache_ratio is not None
        index = WaveIndex(keys.shape[0], keys.shape[2], keys.dtype, keys.device, in_host_memory=offloads)
        if settings.cache_ratio is not None:
            last = final_sizes(self._prompt, settings.max_new_tokens, settings)
            sizes = buffer_sizes(last, self._prompt, settings.cache_ratio)
            self.buffer = WaveBuffer(index, sizes, keys.device)
        return index
