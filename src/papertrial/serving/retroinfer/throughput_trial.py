"""The trial of decoding throughput: at equal batch, and each arm at its best batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, no_type_check

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from papertrial.serving.retroinfer.sizes import IndexSettings


@dataclass(frozen=True)
class ThroughputTrial(Trial):
    """Decode whole tokens through all layers of a model, dense and by wave index, at several batch sizes.

    The paper's 4.5x divides two best throughputs, each at the largest batch that fits: it mixes a faster step
    with a larger batch. Here both are told apart. On a CPU every batch fits, and a toy model's step is mostly
    not attention: its figures say what a step costs around the index, not what a GPU gains.

    Attributes:
        model: a toy model, a folder or a hub id.
        context: tokens in the cache before decoding.
        batches: batch sizes to try, separated by commas.
        new_tokens: tokens decoded and timed for each batch.
        retrieve: share of the clusters attended exactly.
        estimate: share of the clusters approximated.
        cache_ratio: keep keys and values in host memory behind a wave buffer with this share of the clusters.
        dtype: number format of the model.
        device: where it runs.
    """

    model: str = "tiny-llama"
    context: int = 2048
    batches: str = "1,2"
    new_tokens: int = 6
    retrieve: float = 0.018
    estimate: float = 0.232
    cache_ratio: float | None = None
    dtype: str = "float32"
    device: str = "cpu"

    arms: ClassVar[tuple[str, ...]] = ("dense", "retroinfer")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "equal_tokens_per_second": Metric("tokens/s", "higher", "timed"),
        "best_tokens_per_second": Metric("tokens/s", "higher", "timed"),
        "best_batch": Metric("sequences", "higher", "exact"),
    }
    seeds: ClassVar[int] = 10
    timed: ClassVar[bool] = True

    def check(self) -> None:
        """Raise BadInputError for batch sizes that are none, or a context too short to index."""
        self.batch_sizes()
        least = self._settings().min_index_len
        if self.context < least:
            raise BadInputError(
                f"context must be at least {least}, below which attention is dense, got {self.context}"
            )
        if self.new_tokens < 1:
            raise BadInputError(f"new_tokens must be at least 1, got {self.new_tokens}")

    def batch_sizes(self) -> list[int]:
        """Return the batch sizes, smallest first."""
        words = self.batches.split(",")
        if not all(word.strip().isdigit() and int(word) > 0 for word in words):
            raise BadInputError(f"batches must be whole numbers like 1,2,4, got {self.batches!r}")
        return sorted({int(word) for word in words})

    def scale(self) -> str:
        """Say at what size this trial measures."""
        return f"{self.model}, {self.context} tokens, batches {self.batches}, {self.dtype}, {self.device}"

    @classmethod
    def quick(cls) -> ThroughputTrial:
        """Return the trial at 1200 tokens."""
        return cls(context=1200, batches="1,2", new_tokens=2)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Return tokens a second at the smallest batch and at the best, and which that is."""
        from papertrial.models import load_causal_lm
        from papertrial.serving.retroinfer.throughput import by_batch

        model = load_causal_lm(self.model, dtype=self.dtype, device=self.device).eval()
        settings = None if arm == "dense" else self._settings()
        sizes = self.batch_sizes()
        found = by_batch(model, settings, sizes, self.context, self.new_tokens, seed)
        for batch, speed in found.items():
            watch.step(batch, sizes[-1], tokens_per_second=speed)
        if not found:
            return dict.fromkeys(self.metrics, math.nan)
        best = max(found, key=found.__getitem__)
        return {
            "equal_tokens_per_second": found[min(found)],
            "best_tokens_per_second": found[best],
            "best_batch": float(best),
        }

    @no_type_check
    def _settings(self) -> IndexSettings:
        from papertrial.serving.retroinfer.sizes import IndexSettings

        return replace(
            IndexSettings(),
            retrieve=self.retrieve,
            estimate=self.estimate,
            cache_ratio=self.cache_ratio,
            max_new_tokens=self.new_tokens + 1,
        )
