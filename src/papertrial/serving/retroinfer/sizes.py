"""How many clusters an index has and how many a step touches: the settings and the official formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass

from papertrial.errors import BadInputError


@dataclass(frozen=True)
class IndexSettings:
    """The settings of a wave index; the defaults are those of every official script.

    Attributes:
        sink: first tokens of a text, always attended exactly.
        window: last tokens, always attended exactly.
        cluster_size: average tokens in a cluster.
        segment: tokens that are clustered together in all rounds but the last.
        retrieve: share of the clusters whose tokens are attended exactly.
        estimate: share of the clusters that are approximated by centroid and summed values.
        update_length: generated tokens that are indexed together once they have left the window.
        min_index_len: texts shorter than this are attended densely until they have grown to it. The default
            is the offloading variant's, sink + window + 1024; the variant that keeps all on the GPU has 16
            452, or 8260 from eight sequences on.
        rounds: k-means rounds, the last of them global.
        reach: segments to either side whose clusters a key may join in the last round. None, as released:
            any. 1 makes the cost of indexing grow with the text instead of with its square.
        mode: `retrieval-only` leaves the estimate out.
        cache_ratio: None keeps all keys and values on the device (the official GPU-only variant). A number
            keeps them in host memory behind a wave buffer whose cache holds that share of the clusters; 0
            holds three times the retrieved ones.
        max_new_tokens: tokens that the wave buffer is sized for; it never grows.
        backend: `compiled` takes the loops of `kernels`, `torch` runs everywhere; `auto` takes the compiled
            loops where they can run (CPU, float32).

    Raises:
        BadInputError: shares outside (0, 1] or summing to more than 1, or sizes below 1.

    Source: arXiv 2505.02922; microsoft/RetrievalAttention, config/config.py.
    """

    sink: int = 4
    window: int = 64
    cluster_size: int = 16
    segment: int = 8192
    retrieve: float = 0.018
    estimate: float = 0.232
    update_length: int = 1024
    min_index_len: int = 1092
    rounds: int = 10
    reach: int | None = None
    mode: str = "retroinfer"
    cache_ratio: float | None = None
    max_new_tokens: int = 4096
    backend: str = "auto"

    def __post_init__(self) -> None:
        for name in ("window", "cluster_size", "segment", "update_length", "rounds"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.reach is not None and self.reach < 0:
            raise BadInputError(f"reach must be None or at least 0, got {self.reach}")
        if self.sink < 0:
            raise BadInputError(f"sink must be at least 0, got {self.sink}")
        if not 0 < self.retrieve <= 1:
            raise BadInputError(f"retrieve must be above 0 and at most 1, got {self.retrieve}")
        if not 0 <= self.estimate <= 1:
            raise BadInputError(f"estimate must be between 0 and 1, got {self.estimate}")
        if self.retrieve + self.estimate > 1:
            raise BadInputError(
                f"retrieve + estimate must be at most 1, got {self.retrieve} + {self.estimate} "
                f"= {self.retrieve + self.estimate:g}"
            )
        if self.mode not in ("retroinfer", "retrieval-only"):
            raise BadInputError(f"mode must be retroinfer or retrieval-only, got {self.mode!r}")
        if self.backend not in ("auto", "torch", "compiled"):
            raise BadInputError(f"backend must be auto, torch or compiled, got {self.backend!r}")
        if self.min_index_len < self.shortest:
            raise BadInputError(
                f"min_index_len must be at least sink + window + 8 = {self.shortest} (an index has 8 "
                f"clusters or more), got {self.min_index_len}"
            )
        if self.cache_ratio is not None and not 0 <= self.cache_ratio <= 1:
            raise BadInputError(f"cache_ratio must be between 0 and 1 or None, got {self.cache_ratio}")
        if self.update_length < 8:
            raise BadInputError(
                f"update_length must be at least 8 (one for each cluster), got {self.update_length}"
            )

    @property
    def steady(self) -> int:
        """Return the tokens that are attended exactly right after indexing, sink + window."""
        return self.sink + self.window

    @property
    def shortest(self) -> int:
        """Return the shortest text that has a token for each of the eight clusters of the smallest index."""
        return self.steady + 8


@dataclass(frozen=True)
class IndexSizes:
    """How large one index is and what a step touches.

    Attributes:
        clusters: centroids of the index.
        segments: parts that are clustered separately in all rounds but the last.
        retrieved: best clusters of a step, whose tokens are attended exactly.
        estimated: clusters after those, approximated.
    """

    clusters: int
    segments: int
    retrieved: int
    estimated: int


def prompt_sizes(tokens: int, settings: IndexSettings) -> IndexSizes:
    """Return the sizes of the index over a prompt of `tokens` tokens, sink and window counted.

    The number of clusters is rounded to a multiple of lcm(8, segments), ties down. A share of the clusters
    may round differently than asked: read the returned values. Rounding halves go to the even number.

    Source: microsoft/RetrievalAttention, config/config.py.
    """
    segments = max(round(tokens / settings.segment), 1)
    factor = math.lcm(8, segments)
    wanted = max(round(tokens / settings.cluster_size), factor)
    below = wanted // factor * factor
    clusters = below if wanted - below <= below + factor - wanted else below + factor
    indexed = tokens - settings.steady
    if clusters > indexed:
        raise BadInputError(
            f"{clusters} clusters need as many tokens, but {tokens} tokens leave {indexed} between "
            f"sink and window; set cluster_size above {settings.cluster_size} or min_index_len higher"
        )
    return IndexSizes(clusters, segments, *_touched(clusters, settings))


def update_sizes(tokens: int, settings: IndexSettings) -> IndexSizes:
    """Return by how much indexing `tokens` generated tokens, in one segment, grows an index.

    The retrieved and estimated counts of the index grow by these steps; they are not computed
    anew from the total.

    Source: arXiv 2505.02922 (index update); microsoft/RetrievalAttention, cache_hub/retroinfer_cache.py.
    """
    clusters = min(max(round(tokens / (settings.cluster_size * 8)) * 8, 8), tokens)
    retrieved = max(round(clusters * settings.retrieve), 1)
    estimated = (
        min(max(round(clusters * settings.estimate), 1), clusters - retrieved) if settings.estimate else 0
    )
    return IndexSizes(clusters, 1, retrieved, estimated)


def _touched(clusters: int, settings: IndexSettings) -> tuple[int, int]:
    retrieved = max(round(settings.retrieve * clusters), 1)
    return retrieved, min(round(settings.estimate * clusters), clusters - retrieved)
