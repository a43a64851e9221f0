"""Adapters on trial: does a graph network over a frozen model's attention beat LoRA, and is it the graph?"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch


@dataclass(frozen=True)
class AdapterTrial(Trial):
    """Fine-tune one frozen model by adapters of one size, on text of another kind than it was trained on.

    LoRA on all linear maps; the graph network with messages from earlier tokens (gin-causal), with every
    token's message to itself alone (gin-self, what the released code computes), with λ fixed, and with λ
    starting alike in all layers (gin-flat); and the same network for every token by itself (mlp). If gin-self
    is as good as gin-causal, the graph is not what helps.

    Attributes:
        model: a folder or hub id of a Llama-like model; a small one trained on the language reference if not
            given, the same for all arms and seeds, as the paper adapts one model.
        data: files or a hub data set with the columns `question` and `answer`; made-up problems if not given.
        problems: texts to train on.
        validation: texts held out.
        base_steps: optimiser steps of the small model, which is trained once and kept.
        steps: optimiser steps of every adapter.
        batch: texts in a batch.
        length: tokens of a text at most.
        rank: of LoRA; the other adapters get the width that comes nearest to its number of weights.
        lr: peak learning rate of every adapter; tuned for each if not given.
    """

    model: str | None = None
    data: str | None = None
    problems: int = 960
    validation: int = 96
    base_steps: int = 300
    steps: int = 100
    batch: int = 8
    length: int = 160
    rank: int = 4
    lr: float | None = None

    arms: ClassVar[tuple[str, ...]] = ("lora", "mlp", "gin-causal", "gin-self", "gin-fixed", "gin-flat")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "val_loss": Metric("nats/token", "lower"),
        "train_loss": Metric("nats/token", "lower"),
        "off_diagonal": Metric("share", "higher"),
        "first_scale": Metric("λ", "higher", shown=False),
        "last_scale": Metric("λ", "higher", shown=False),
        "scale_rise": Metric("λ", "higher"),
        "parameters": Metric("weights", "lower", "exact"),
        "tokens_per_s": Metric("tokens/s", "higher"),
    }
    # Both kinds of adapter have their best rate inside their three; the graph networks' lie higher.
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {
        arm: {"lr": (5e-3, 1.5e-2, 4.5e-2) if arm == "lora" else (1.2e-2, 3.6e-2, 1.1e-1)} for arm in arms
    }
    tuned_on = "val_loss"
    version = 2
    prepared_by = ("model", "data", "problems", "validation", "base_steps", "length")
    curve = "loss"

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        for name in ("problems", "validation", "base_steps", "steps", "batch", "rank"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.length < 8:
            raise BadInputError(f"length must be at least 8 tokens, got {self.length}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise BadInputError(f"lr must be above 0, got {self.lr}")
        if self.data is not None:
            from papertrial.efficient.graph_attention.problems import read_problems

            found, needed = len(read_problems(self.data)), self.problems + self.validation
            if found < needed:
                raise BadInputError(
                    f"{self.data} has {found} problems, and {needed} are needed (problems + validation)"
                )
        if self.model is not None:
            from papertrial.efficient.graph_attention.fine_tuning import FineTuning, load_frozen

            FineTuning("gin-causal", load_frozen(self.model)[0], self.rank, 0)

    def prepare(self, seed: int, folder: Path) -> None:
        """Train the model that is then frozen, where that is not done yet, and write the texts as token ids."""
        import random

        from safetensors.torch import save_file

        from papertrial.efficient.graph_attention.fine_tuning import encode_texts, load_frozen
        from papertrial.efficient.graph_attention.problems import make_problems, read_problems

        _, tokenizer = load_frozen(self._base())
        count = self.problems + self.validation
        if self.data is None:
            texts = make_problems(count, seed)
        else:
            texts = random.Random(seed).sample(read_problems(self.data), count)
        save_file({"texts": encode_texts(texts, tokenizer, self.length)}, folder / "texts.safetensors")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Fine-tune one adapter."""
        import torch
        from safetensors.torch import load_file

        from papertrial.data.tokens import batches
        from papertrial.efficient.graph_attention.fine_tuning import (
            FineTuning,
            load_frozen,
            text_batch,
            text_loss,
        )
        from papertrial.models import seeded
        from papertrial.training import train

        if self.lr is None:
            raise BadInputError("lr is tuned by the runner; set it to measure an arm by hand")
        texts = load_file(watch.prepared / "texts.safetensors")["texts"]
        training, held_out = texts.split((self.problems, self.validation))
        model, _ = load_frozen(self._base())
        tuning = FineTuning(arm, model, self.rank, seed)
        weights = tuning.weights()
        optimizer = torch.optim.AdamW(weights, lr=self.lr, weight_decay=0.01)
        started = time.perf_counter()
        with seeded(seed):  # the graph networks drop out
            history = train(
                tuning.model,
                (text_batch(rows) for rows in batches(training, self.batch, seed)),
                optimizer,
                steps=self.steps,
                clip=0.5,
                on_step=lambda done, values: watch.step(done, self.steps, loss=values["loss"]),
            )
        seconds = time.perf_counter() - started
        diverged = history.diverged_at is not None
        scales = tuning.scales() or [math.nan]
        return {
            "val_loss": math.inf if diverged else text_loss(tuning.model, held_out),
            "train_loss": math.inf if diverged else text_loss(tuning.model, training[: self.validation]),
            "off_diagonal": math.nan if diverged else tuning.off_diagonal(held_out),
            "first_scale": scales[0],
            "last_scale": scales[-1],
            "scale_rise": scales[-1] - scales[0],
            "parameters": float(sum(weight.numel() for weight in weights)),
            "tokens_per_s": history.steps * self.batch * texts.shape[1] / seconds,
        }

    def scale(self) -> str:
        """Say what is adapted, by how much, and to what."""
        model = self.model or f"a Llama of 3 layers and width 64, {self.base_steps} steps of English"
        data = self.data or "made-up word problems"
        size = f"adapters of LoRA's size at rank {self.rank}"
        return f"{model}, frozen; {self.problems} {data}, {self.steps} steps; {size}"

    @classmethod
    def quick(cls) -> AdapterTrial:
        """Return the trial with a base that has learned little, and a few steps."""
        return cls(problems=16, validation=8, base_steps=2, steps=2, batch=4, length=48, rank=2)

    def _base(self) -> str:
        from papertrial.efficient.graph_attention.fine_tuning import tiny_base

        return self.model or str(tiny_base(self.base_steps))
