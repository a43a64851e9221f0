"""Context extension on trial: a small model taken from 48 to 192 tokens, with and without replay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from torch import Generator, nn

    from papertrial.efficient.exaone_3_5.needle_tokens import Labelled

else:  # help is read without torch
    Generator = nn = Labelled = Any

_TOY = "tiny-llama"

_DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_QUESTIONS = 6
_ROWS = 64  # of every evaluation


@dataclass(frozen=True)
class LongContextTrial(Trial):
    """Extend the context of a small Llama fourfold and see what is won and what is forgotten.

    Stage 1 learns two tasks at a short length: eight needles with as many near misses, and periodic text.
    Stage 2 trains on long needles alone, or with a share of stage-1 batches replayed, for the same number of
    tokens; the base of the rotary angles stays, or is raised. Learning rates of stage 2 are tuned for every arm
    on the sum of the long loss and the stage-1 loss, so that an arm without replay may choose to forget little.

    Attributes:
        model: a small Llama made here, or any causal language model by folder or hub id. Tokens spread over such
            a one's vocabulary stand for facts, questions, answers and fillers, and it predicts among these alone;
            set its lr and stage1_lr, as the tuned ones are a toy's. With its tokenizer it is asked for needles of
            text as well, in English and Korean, at those of the trial's lengths that hold them: two heat maps.
        short: tokens of stage 1.
        long: tokens of stage 2.
        stage1_steps: steps of stage 1.
        stage2_steps: steps of stage 2.
        tokens: in a batch of either stage.
        replay: share of stage-2 tokens that come from stage 1, in the arms with replay.
        theta: base of the rotary angles in stage 1; a model that is loaded has its own.
        new_theta: base in the arms that raise it.
        lr: peak learning rate of stage 2; tuned if not given.
        stage1_lr: peak learning rate of stage 1.
        hidden: width of the small model.
        device: where the model trains.
    """

    model: str = _TOY
    short: int = 48
    long: int = 192
    stage1_steps: int = 300
    stage2_steps: int = 80
    tokens: int = 2304
    replay: float = 0.25
    theta: float = 1e4
    new_theta: float = 1e6
    lr: float | None = None
    stage1_lr: float = 5e-3
    hidden: int = 64
    device: str = "cpu"

    arms: ClassVar[tuple[str, ...]] = ("stage-1", "long", "long-replay", "theta-long", "theta-long-replay")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "stage1_loss": Metric("nats/token", "lower"),
        "periodic_loss": Metric("nats/token", "lower", shown=False),
        "short_needle_loss": Metric("nats/token", "lower", shown=False),
        "long_loss": Metric("nats/token", "lower"),
        "needle_long": Metric("share of answers", "higher"),
        "needle_short": Metric("share of answers", "higher", shown=False),
        "total_loss": Metric("nats/token", "lower", shown=False),
    }
    seeds: ClassVar[int] = 4
    # Without replay a lower rate forgets less, so the best of three lies lower there.
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {
        "long": {"lr": (1e-4, 3e-4, 9e-4)},
        "long-replay": {"lr": (5e-4, 1.5e-3, 5e-3)},
        "theta-long": {"lr": (1e-4, 3e-4, 9e-4)},
        "theta-long-replay": {"lr": (5e-4, 1.5e-3, 5e-3)},
    }
    tuned_on: ClassVar[str | None] = "total_loss"
    prepared_by: ClassVar[tuple[str, ...]] = (
        "model",
        "short",
        "stage1_steps",
        "stage1_lr",
        "tokens",
        "theta",
        "hidden",
    )
    curve: ClassVar[str | None] = "loss"

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        if not 28 <= self.short < self.long:
            raise BadInputError(
                f"short must be at least 28 and below long, got short={self.short} and long={self.long}"
            )
        for name in ("stage1_steps", "stage2_steps"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.tokens < self.long:
            raise BadInputError(f"a batch of {self.tokens} tokens holds no text of {self.long}; raise tokens")
        if not 0 < self.replay < 1:
            raise BadInputError(f"replay is a share and lies in (0, 1), got {self.replay}")
        for name in ("theta", "new_theta", "stage1_lr", *(() if self.lr is None else ("lr",))):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInputError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("theta", "hidden"):
            if self.model != _TOY and getattr(self, name) != getattr(type(self), name):
                raise BadInputError(f"{name} can be set for {_TOY} only, not for {self.model!r}")

    def prepare(self, seed: int, folder: Path) -> None:
        """Train stage 1."""
        import torch
        from safetensors.torch import save_model

        from papertrial.training import train

        model = self._model(seed)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.stage1_lr, weight_decay=0.0)
        train(model, self._stage1(generator), optimizer, steps=self.stage1_steps, clip=1.0)
        save_model(model, str(folder / "model.safetensors"))

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Train stage 2 and evaluate both stages' tasks."""
        import torch

        from papertrial.efficient.exaone_3_5.haystacks import heat_map
        from papertrial.efficient.exaone_3_5.long_context import Extension, extend_context

        model = self._model(seed, watch.prepared)
        if arm != "stage-1":
            if self.lr is None:
                raise BadInputError("lr is tuned by the runner; set it to measure an arm by hand")
            generator = torch.Generator().manual_seed(10_000 + seed)
            theta = self.new_theta if arm.startswith("theta") else None
            replay = self.replay if arm.endswith("replay") else 0.0
            recipe = Extension(self.long, theta, replay, self.stage2_steps, self.lr)
            history = extend_context(
                model,
                self._needles(self.long, generator),
                self._stage1(generator),
                recipe,
                on_step=lambda done, values: watch.step(done, self.stage2_steps, loss=values["loss"]),
            )
            if history.diverged_at is not None:
                return dict.fromkeys(self.metrics, math.inf)
        measured, grid = self._evaluate(model, seed)
        lengths = (self.short, (self.short + self.long) // 2, self.long)
        watch.keep(f"needles-{arm}-{seed}", heat_map(grid, lengths, _DEPTHS, f"{arm}, seed {seed}"))
        if self.model != _TOY:
            self._ask_in_text(model, f"{arm}-{seed}", seed, lengths, watch)
        return measured

    def scale(self) -> str:
        """Say model, lengths and tokens."""
        count = 2 * 168 * self.hidden + 2 * 10 * self.hidden**2
        tokens = self.tokens * (self.stage1_steps + self.stage2_steps) / 1e6
        named = f"{_TOY} {count / 1e6:.2f} M parameters" if self.model == _TOY else self.model
        size = f"{named}, {tokens:.1f} M tokens, {self.device.replace('cpu', 'CPU')}"
        return f"{self.short} to {self.long} tokens of context, {size}"

    @classmethod
    def quick(cls) -> LongContextTrial:
        """Return the trial with few steps on a narrow model and one learning rate."""
        return cls(short=32, long=48, stage1_steps=10, stage2_steps=4, tokens=384, lr=3e-3, hidden=16)

    def _model(self, seed: int, folder: Path | None = None) -> nn.Module:
        """Return the small model, or the one named as a model of the needles' symbols; stage 1 from its folder."""
        from safetensors.torch import load_model

        from papertrial.efficient.exaone_3_5.needle_tokens import NeedleVocabulary
        from papertrial.efficient.exaone_3_5.respelled import Respelled, spread_spelling
        from papertrial.models import load_causal_lm

        symbols = NeedleVocabulary().size
        model: nn.Module
        if self.model == _TOY:
            model = load_causal_lm(
                _TOY,
                vocab_size=symbols,
                seed=seed,
                device=self.device,
                hidden_size=self.hidden,
                intermediate_size=2 * self.hidden,
                num_attention_heads=4,
                num_key_value_heads=4,
                rope_parameters={"rope_type": "default", "rope_theta": self.theta},
            )
        else:
            loaded = load_causal_lm(self.model, device=self.device, seed=seed)
            model = Respelled(loaded, spread_spelling(loaded, symbols))
        if folder is not None:
            load_model(model, folder / "model.safetensors", device=self.device)
        return model

    def _ask_in_text(self, model: Any, run: str, seed: int, lengths: Sequence[int], watch: Watch) -> None:
        """Keep a heat map of text needles for each language; with its question a text has one of `lengths`."""
        from papertrial.efficient.exaone_3_5.haystacks import evaluate_haystacks, haystack_lengths
        from papertrial.models import load_tokenizer

        try:
            tokenizer = load_tokenizer(self.model)
        except BadInputError as problem:
            watch.keep(f"haystack-{run}", f"no needles of text: {problem}")
            return
        for language in ("en", "ko"):
            if held := haystack_lengths(tokenizer, lengths, language=language, seed=seed):
                grid = evaluate_haystacks(model.model, tokenizer, held, languages=(language,), seed=seed)
                watch.keep(f"haystack-{language}-{run}", grid.figure(language))

    def _needles(self, length: int, generator: Generator) -> Iterator[dict[str, Any]]:
        from papertrial.efficient.exaone_3_5.needle_tokens import NeedleVocabulary, needle_batch

        while True:
            rows = self.tokens // length
            yield needle_batch(NeedleVocabulary(), rows, length, _QUESTIONS, generator).arguments()

    def _stage1(self, generator: Generator) -> Iterator[dict[str, Any]]:
        """Give batches of two thirds needles and one third periodic texts, all of the short length."""
        import torch

        from papertrial.efficient.exaone_3_5.needle_tokens import (
            NeedleVocabulary,
            needle_batch,
            periodic_batch,
        )

        rows, vocabulary = self.tokens // self.short, NeedleVocabulary()
        third = max(1, rows // 3)
        while True:
            parts = (
                needle_batch(vocabulary, max(1, rows - third), self.short, _QUESTIONS, generator),
                periodic_batch(vocabulary, third, self.short, generator),
            )
            yield {
                "input_ids": torch.cat([part.tokens for part in parts]),
                "labels": torch.cat([part.labels for part in parts]),
            }

    def _evaluate(self, model: nn.Module, seed: int) -> tuple[dict[str, float], list[list[float]]]:
        import torch

        from papertrial.efficient.exaone_3_5.needle_tokens import (
            NeedleVocabulary,
            needle_at_depth,
            needle_batch,
            periodic_batch,
        )

        generator, vocabulary = torch.Generator().manual_seed(900_000 + seed), NeedleVocabulary()
        model.eval()
        tasks = {
            "periodic_loss": periodic_batch(vocabulary, 2 * _ROWS, self.short, generator),
            "short_needle_loss": needle_batch(vocabulary, 2 * _ROWS, self.short, _QUESTIONS, generator),
            "long_loss": needle_batch(vocabulary, _ROWS, self.long, _QUESTIONS, generator),
        }
        values = {name: self._score(model, task)[0] for name, task in tasks.items()}
        grid = []
        for length in (self.short, (self.short + self.long) // 2, self.long):
            row = [needle_at_depth(vocabulary, _ROWS, length, depth, generator) for depth in _DEPTHS]
            grid.append([self._score(model, task)[1] for task in row])
        stage1 = (values["periodic_loss"] + values["short_needle_loss"]) / 2
        return {
            **values,
            "stage1_loss": stage1,
            "needle_short": sum(grid[0]) / len(_DEPTHS),
            "needle_long": sum(grid[-1]) / len(_DEPTHS),
            "total_loss": stage1 + values["long_loss"],
        }, grid

    def _score(self, model: nn.Module, task: Labelled) -> tuple[float, float]:
        """Return mean loss and share of right answers; a loaded model gets no more tokens at once than a batch has.

        Every row has as many labels, so that means over some rows may be averaged.
        """
        import torch

        from papertrial.efficient.exaone_3_5.needle_tokens import Labelled, answer_accuracy

        rows, length = task.tokens.shape
        most = rows if self.model == _TOY else max(1, self.tokens // length)
        loss = right = 0.0
        with torch.no_grad():
            for tokens, labels in zip(task.tokens.split(most), task.labels.split(most), strict=True):
                part = Labelled(tokens, labels)
                given = {name: value.to(self.device) for name, value in part.arguments().items()}
                out: Any = model(**given, use_cache=False)
                loss += float(out.loss) * len(tokens) / rows
                right += answer_accuracy(out.logits.cpu(), part) * len(tokens) / rows
        return loss, right
