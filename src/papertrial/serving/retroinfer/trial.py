"""RetroInfer on trial: a layer, kind and hostile; a model that must recall; whole tokens, timed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, no_type_check

from papertrial.errors import BadInputError
from papertrial.serving.retroinfer.throughput_trial import ThroughputTrial
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from papertrial.serving.retroinfer.layer_work import LayerWork
    from papertrial.serving.retroinfer.sizes import IndexSettings

# `no_type_check` keeps beartype off methods whose types are read without torch.
_TINY = "tiny-qwen2"
_TEXT_TASKS = ("needle", "variable-tracking", "common-words", "frequent-words")


@dataclass(frozen=True)
class AttentionTrial(Trial):
    """Decode through one attention layer: dense, by wave index, and by other ways to read less.

    Every arm but `sdpa` (torch's fused attention, queries grouped) attends by the same compiled loop, so the
    times compare what is read. Between steps the processor's caches are emptied, as a model's other layers
    would do.

    Attributes:
        context: tokens in the cache.
        data: `structured` keys (drift, recurring topics, noise) or `hostile` ones (independent: attention is
            flat).
        kv_heads: key-value heads.
        group: query heads for each key-value head.
        dim: dimensions of a head.
        steps: decode steps timed for each arm and seed.
        cluster_size: average tokens in a cluster.
        retrieve: share of the clusters attended exactly.
        estimate: share of the clusters approximated.
    """

    context: int = 32768
    data: Literal["structured", "hostile"] = "structured"
    kv_heads: int = 2
    group: int = 4
    dim: int = 128
    steps: int = 6
    cluster_size: int = 16
    retrieve: float = 0.018
    estimate: float = 0.232

    arms: ClassVar[tuple[str, ...]] = (
        "dense",
        "sdpa",
        "retroinfer",
        "retrieval-only",
        "quest",
        "best-tokens",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "step_ms": Metric("ms", "lower", "timed"),
        "error": Metric("relative L2", "lower"),
        "mass_exact": Metric("share of attention", "higher"),
        "mass_touched": Metric("share of attention", "higher", shown=False),
        "step_bytes": Metric("bytes", "lower", "exact", shown=False),
        "build_seconds": Metric("s", "lower", "timed"),
        "payback_steps": Metric("steps", "lower", "timed"),
        "hit_ratio": Metric("share of tokens", "higher", shown=False),
        "moved_bytes": Metric("bytes", "lower", shown=False),
    }
    seeds: ClassVar[int] = 10
    timed: ClassVar[bool] = True
    prepared_by: ClassVar[tuple[str, ...]] = (
        "context",
        "data",
        "kv_heads",
        "group",
        "dim",
        "steps",
        "cluster_size",
        "retrieve",
        "estimate",
    )

    def check(self) -> None:
        """Raise BadInputError for a context too short to index, or settings that no index can have."""
        for name in ("kv_heads", "group", "dim", "steps"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        _check_context(self.context, self._work("retroinfer").settings)

    def scale(self) -> str:
        """Say at what size this trial measures."""
        heads = f"{self.kv_heads} key-value heads x {self.group} queries x {self.dim}"
        return f"one layer, {self.context} tokens, {heads}, float32, {self.data} keys, CPU"

    @classmethod
    def quick(cls) -> AttentionTrial:
        """Return the trial at 2048 tokens."""
        return cls(context=2048, dim=32, steps=3)

    def prepare(self, seed: int, folder: Path) -> None:
        """Cluster the keys once for all arms."""
        self._work("retroinfer").prepare(seed, folder)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Time `steps` decode steps of one arm, and compare their outputs with float64 attention."""
        return self._work(arm).measure(arm, seed, watch.prepared)

    @no_type_check
    def _work(self, arm: str) -> LayerWork:
        from papertrial.serving.retroinfer.layer_work import LayerWork
        from papertrial.serving.retroinfer.sizes import IndexSettings

        settings = IndexSettings(
            cluster_size=self.cluster_size, retrieve=self.retrieve, estimate=self.estimate, mode=_mode(arm)
        )
        return LayerWork(self.data, self.context, self.steps, self.kv_heads, self.group, self.dim, settings)


@dataclass(frozen=True)
class HostileTrial(AttentionTrial):
    """Decode through a layer whose keys are independent: attention is flat, and no few tokens hold it.

    Here every way that reads less must be far off; settings and arms are those of `attention`.
    """

    context: int = 4096
    data: Literal["structured", "hostile"] = "hostile"


@dataclass(frozen=True)
class ModelTrial(Trial):
    """Let one model answer from a long context: dense, by wave index, and by retrieval without the estimate.

    By default a Qwen2 of two layers is trained in place to recall 24 keys that stand among fillers, and asked
    for them while it decodes; the index is scaled down with the context, so that it is really used. With
    `--model` (a folder or hub id) and `--data` (an official RULER file, or a made text task) the same arms
    answer text, with the index's own defaults.

    Attributes:
        model: `tiny-qwen2` is trained on recall; anything else is loaded and asked in text.
        data: `recall` for the tiny model; for a loaded one a RULER file (.json or .jsonl), or `needle`,
            `variable-tracking`, `common-words` or `frequent-words`.
        context: tokens to remember; a loaded model's made tasks have this length in its own tokens.
        contexts: contexts (or text tasks) for each seed.
        questions: questions for each context of the tiny model.
        phrase: tokens in a row that say one fact to the tiny model; 1 is the bare needle.
        train_steps: updates of the tiny model.
        base_seed: draws the tiny model and what it is trained on. All arms and seeds share one trained model;
            a seed draws the contexts it is asked about.
        cluster_size: average tokens in a cluster. By default 4 for the tiny model, else the official 16.
        segment: tokens clustered together. By default 128 for the tiny model, else the official 8192.
        window: last tokens attended exactly. By default 8 for the tiny model, else the official 64.
        retrieve: share of the clusters attended exactly.
        estimate: share of the clusters approximated.
        max_new_tokens: tokens a loaded model may answer with.
        dtype: number format of a loaded model.
        device: where the model runs.
    """

    model: str = _TINY
    data: str = "recall"
    context: int = 512
    contexts: int = 8
    questions: int = 48
    phrase: int = 4
    train_steps: int = 700
    base_seed: int = 0
    cluster_size: int | None = None
    segment: int | None = None
    window: int | None = None
    retrieve: float = 0.018
    estimate: float = 0.232
    max_new_tokens: int = 64
    dtype: str = "float32"
    device: str = "cpu"

    arms: ClassVar[tuple[str, ...]] = ("dense", "retroinfer", "retrieval-only")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric("%", "higher"),
        "clusters_touched": Metric("%", "lower", "exact"),
        "clusters": Metric("clusters", "lower", "exact", shown=False),
    }
    seeds: ClassVar[int] = 8
    prepared_by: ClassVar[tuple[str, ...]] = ("model", "context", "phrase", "train_steps", "base_seed")
    curve: ClassVar[str | None] = "accuracy"

    def check(self) -> None:
        """Raise BadInputError for a data set that the model cannot be asked, or too little of anything."""
        for name in ("contexts", "questions", "phrase", "train_steps", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.is_tiny and self.data != "recall":
            raise BadInputError(
                f"the tiny model knows only data=recall, got {self.data!r}; give --model for text"
            )
        if not self.is_tiny and self.data not in _TEXT_TASKS and not Path(self.data).is_file():
            raise BadInputError(
                f"data must be a RULER file or one of {', '.join(_TEXT_TASKS)} for a loaded model, "
                f"got {self.data!r}"
            )
        if self.is_tiny and self.context < 2 * 24 * self.phrase:
            raise BadInputError(
                f"24 keys in phrases of {self.phrase} need a context of {48 * self.phrase} tokens, "
                f"got {self.context}"
            )
        _check_context(self.context, self.settings("retroinfer"))

    def scale(self) -> str:
        """Say at what size this trial measures."""
        asked = "24 keys to recall" if self.is_tiny else Path(self.data).name
        return f"{self.model}, {self.context} tokens of context, {asked}, {self.dtype}, {self.device}"

    @classmethod
    def quick(cls) -> ModelTrial:
        """Return the trial with hardly any training: it shows that all runs, not that the model recalls."""
        return cls(context=256, contexts=2, questions=16, train_steps=20)

    @property
    def is_tiny(self) -> bool:
        """Say whether the model is the one trained here."""
        return self.model == _TINY

    @no_type_check
    def settings(self, arm: str) -> IndexSettings | None:
        """Return the settings of an arm's index; None for the dense arm."""
        from papertrial.serving.retroinfer.sizes import IndexSettings

        if arm == "dense":
            return None
        scaled = {"sink": 2, "cluster_size": 4, "segment": 128, "window": 8, "min_index_len": 64}
        given = {name: getattr(self, name) for name in ("cluster_size", "segment", "window")}
        changed: dict[str, Any] = {**(scaled if self.is_tiny else {})}
        changed |= {name: value for name, value in given.items() if value is not None}
        if self.is_tiny:
            changed["min_index_len"] = max(64, changed["sink"] + changed["window"] + 8)
        return replace(
            IndexSettings(), **changed, retrieve=self.retrieve, estimate=self.estimate, mode=_mode(arm)
        )

    def prepare(self, seed: int, folder: Path) -> None:
        """Train the tiny model, once for all seeds, and copy its weights; of a loaded model note the name."""
        if self.is_tiny:
            from papertrial.serving.retroinfer.recall import trained_weights

            shutil.copy(trained_weights(self.base_seed, self.context, self.phrase, self.train_steps), folder)
        else:
            (folder / "model.txt").write_text(self.model, encoding="utf-8")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Return the share of right answers and what share of the clusters a step touched."""
        from papertrial.serving.retroinfer import answering

        def told(done: int, total: int, accuracy: float) -> None:
            watch.step(done, total, accuracy=accuracy)

        if self.is_tiny:
            import torch

            from papertrial.serving.retroinfer.recall import WEIGHTS, fresh_tasks, load_recall

            model = load_recall(watch.prepared / WEIGHTS, self.base_seed, self.context)
            torch.nn.Module.to(model, self.device)  # transformers wraps `to` in a way that hides its types
            tasks = fresh_tasks(seed, self.contexts, self.context, self.questions, self.phrase)
            return answering.ask_tokens(model, tasks, self.settings(arm), told)
        from papertrial.models import load_causal_lm, load_tokenizer

        tokenizer = load_tokenizer(self.model)
        model = load_causal_lm(self.model, dtype=self.dtype, device=self.device).eval()
        questions = answering.text_tasks(self.data, self.contexts, self.context, tokenizer, seed)
        return answering.ask_text(model, tokenizer, questions, self.settings(arm), self.max_new_tokens, told)


@no_type_check
def _check_context(context: int, settings: IndexSettings) -> None:
    if context < settings.min_index_len:
        raise BadInputError(
            f"context must be at least {settings.min_index_len}, below which attention is dense, "
            f"got {context}"
        )


def _mode(arm: str) -> str:
    return "retrieval-only" if arm == "retrieval-only" else "retroinfer"


trials: dict[str, type[Trial]] = {
    "attention": AttentionTrial,
    "hostile": HostileTrial,
    "model": ModelTrial,
    "throughput": ThroughputTrial,
}
