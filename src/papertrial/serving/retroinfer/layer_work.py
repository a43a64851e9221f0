"""The work of the `attention` trial: make a layer, cluster it once, time each way to attend."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean, median

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from papertrial.errors import unknown
from papertrial.serving.clustering import cluster_keys
from papertrial.serving.counters import token_bytes
from papertrial.serving.retroinfer.attention import choose_clusters
from papertrial.serving.retroinfer.baselines import BestTokens, DecodeStep, DenseStep, QuestPages, WaveStep
from papertrial.serving.retroinfer.block_cache import BlockCache, buffer_sizes
from papertrial.serving.retroinfer.sizes import IndexSettings, prompt_sizes
from papertrial.serving.retroinfer.synthetic import SyntheticLayer, make_layer

# 48 MB of float32: more than the last-level cache of the machines this runs on.
EVICTED_NUMBERS = 12 * 2**20
NO_TRAFFIC = {"hit_ratio": math.nan, "moved_bytes": math.nan}


@dataclass(frozen=True)
class LayerWork:
    """One layer of a kind and size, and the settings of its index."""

    structure: str
    tokens: int
    steps: int
    kv_heads: int
    group: int
    dim: int
    settings: IndexSettings

    @property
    def scale(self) -> float:
        """Return the softmax scale."""
        return self.dim**-0.5

    def layer(self, seed: int) -> SyntheticLayer:
        """Return the keys, values and queries of one seed, made once for all arms."""
        return _layer(self, seed)

    def prepare(self, seed: int, folder: Path) -> None:
        """Cluster the keys once for all arms; keep the assignment, the seconds it took and the token budget.

        The budget is what the index attends exactly in the mean step of one head: other ways get the same.
        """
        layer, settings = self.layer(seed), self.settings
        sizes = prompt_sizes(self.tokens, settings)
        start = time.perf_counter()
        indexed = layer.keys[:, settings.sink : self.tokens - settings.window]
        assignment = cluster_keys(indexed, sizes.clusters, sizes.segments, settings.rounds).assignment
        wave = WaveStep(layer.keys, layer.values, settings, assignment, 0.0)
        seconds = time.perf_counter() - start
        exact = [float(wave.zones(q, self.scale)[0].sum()) / self.kv_heads for q in layer.queries]
        save_file({"assignment": assignment.int()}, folder / "clusters.safetensors")
        facts = {"build_seconds": seconds, "budget": round(fmean(exact))}
        (folder / "facts.json").write_text(json.dumps(facts))

    def step(self, arm: str, seed: int, folder: Path) -> DecodeStep:
        """Return an arm's way to attend. Raises BadInputError for an unknown arm."""
        layer = self.layer(seed)
        facts = json.loads((folder / "facts.json").read_text())
        if arm in ("dense", "sdpa"):
            return DenseStep(layer.keys, layer.values, is_compiled=arm == "dense")
        if arm == "quest":
            return QuestPages(layer.keys, layer.values, facts["budget"])
        if arm == "best-tokens":
            return BestTokens(layer.keys, layer.values, facts["budget"])
        if arm not in ("retroinfer", "retrieval-only"):
            raise unknown(
                "arm", arm, ("dense", "sdpa", "retroinfer", "retrieval-only", "quest", "best-tokens")
            )
        assignment = load_file(folder / "clusters.safetensors")["assignment"]
        return WaveStep(layer.keys, layer.values, self.settings, assignment, facts["build_seconds"])

    def measure(self, arm: str, seed: int, folder: Path) -> dict[str, float]:
        """Time an arm's decode steps, and compare its outputs with attention in float64.

        The step that pays back a build is held against dense attention timed in the same minute.
        """
        layer, step = self.layer(seed), self.step(arm, seed, folder)
        dense_ms = median(step_times(self.step("dense", seed, folder), layer, self.scale))
        step_ms = median(step_times(step, layer, self.scale))
        seen = [
            compare(step, queries, self.scale, *truth)
            for queries, truth in zip(layer.queries, _truths(self, seed), strict=True)
        ]
        seconds, saved = step.build_seconds, dense_ms - step_ms
        payback = 1e3 * seconds / saved if saved > 0 else math.inf
        return {name: fmean(one[name] for one in seen) for name in seen[0]} | {
            "step_ms": step_ms,
            "build_seconds": seconds or math.nan,
            "payback_steps": payback if seconds else math.nan,
            **(self.traffic(step, layer) if isinstance(step, WaveStep) else NO_TRAFFIC),
        }

    def traffic(self, step: WaveStep, layer: SyntheticLayer) -> dict[str, float]:
        """Return what a wave buffer in front of host memory would do: hits, and bytes moved for each step.

        The official buffer, whose cache holds 5 % of the clusters, is led through the steps; the first finds it
        empty and is not counted.
        """
        index = step.index
        sizes = buffer_sizes(prompt_sizes(self.tokens, self.settings), self.tokens, cache_ratio=0.05)
        # A step may overflow the execution buffer; then the traffic of what fits is counted.
        caches = [BlockCache(sizes, overflow="count") for _ in range(self.kv_heads)]
        hits = misses = 0
        for number, queries in enumerate(layer.queries):
            chosen = choose_clusters(index, queries, self.scale).retrieved
            tokens, starts = index.sizes.gather(1, chosen), index.starts.gather(1, chosen)
            for cache, *found in zip(caches, chosen.tolist(), tokens.tolist(), starts.tolist(), strict=True):
                access = cache.access(*found)
                cache.update(access)
                if number:
                    hits += sum(hit.tokens for hit in access.hits)
                    misses += sum(miss.tokens for miss in access.misses)
        if len(layer.queries) == 1:
            return NO_TRAFFIC
        moved = token_bytes(misses, self.dim, layer.keys.element_size())
        return {"hit_ratio": hits / (hits + misses), "moved_bytes": moved / (len(layer.queries) - 1)}


def step_times(step: DecodeStep, layer: SyntheticLayer, scale: float) -> list[float]:
    """Return the milliseconds of each decode step.

    Each begins with nothing of the layer in the processor's caches: in a model all other layers come between
    two visits to one, and an index that stays cached would look faster than it is.
    """
    step.attend(layer.queries[0], scale)
    times = []
    for queries in layer.queries:
        _other_layers().sum()
        start = time.perf_counter()
        step.attend(queries, scale)
        times.append(1e3 * (time.perf_counter() - start))
    return times


def compare(
    step: DecodeStep, queries: Tensor, scale: float, truth: Tensor, shares: Tensor
) -> dict[str, float]:
    """Return how far a step is from `truth`, how much attention its tokens hold, and what it reads."""
    out = step.attend(queries, scale).double()
    exact, estimated = step.zones(queries, scale)
    heads = shares.shape[0]
    return {
        "error": float((out - truth).norm() / truth.norm()),
        "mass_exact": float(shares[exact].sum()) / heads,
        "mass_touched": float(shares[exact | estimated].sum()) / heads,
        "step_bytes": float(step.step_bytes(queries, scale).total),
    }


@lru_cache(maxsize=1)
def _layer(work: LayerWork, seed: int) -> SyntheticLayer:
    return make_layer(work.structure, work.tokens, work.steps, seed, work.kv_heads, work.group, work.dim)


@lru_cache(maxsize=1)
def _truths(work: LayerWork, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return for every step the attention in float64, and each token's share of it, mean over a group."""
    layer = work.layer(seed)
    keys, values = layer.keys.double(), layer.values.double()
    queries = layer.queries.double().transpose(0, 1).flatten(1, 2)
    shares = torch.bmm(queries, keys.transpose(1, 2)).mul_(work.scale).softmax(-1)
    outs = torch.bmm(shares, values).unflatten(1, (work.steps, work.group))
    of_group = shares.unflatten(1, (work.steps, work.group)).mean(2)
    return [(outs[:, step], of_group[:, step]) for step in range(work.steps)]


@lru_cache(maxsize=1)
def _other_layers() -> Tensor:
    return torch.zeros(EVICTED_NUMBERS)
