"""Graph-aware attention on trial: decoders trained from scratch, and adapters on a frozen one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from papertrial.efficient.graph_attention.adapter_trial import AdapterTrial
from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

_MARGIN_TOKENS = 5  # begin, <|sequence|>, <|/sequence|>, class, end


@dataclass(frozen=True)
class ScratchTrial(Trial):
    """Train small decoders on protein strings, one with attention and others with a graph network for it.

    All arms have the same number of weights: the MLP makes up for what attention's stand-in has more or less.
    Few strings and many epochs, so that there is something to overfit. The made-up strings hold stems whose
    later strand an earlier one decides, and a class that both decide; `decided_loss` is the loss there, where
    nothing but other tokens helps.

    Attributes:
        data: files or a hub data set of real strings, with the columns `Sequence` and `Primary_SS_Type`;
            made-up ones if not given.
        sequences: strings to train on.
        validation: strings held out.
        length: residues of a string (real ones are cut).
        epochs: rounds over the strings; the validation loss is taken after each.
        batch: strings in a batch.
        lr: constant learning rate; tuned for each arm if not given.
        multiplier: γ, hidden width of a head's graph network over its own.
        wide: γ of the arm gin-wide.
        hidden: hidden size of all arms.
        ffn: width of the reference's MLP.
        layers: decoder layers.
        heads: attention heads.
    """

    data: str | None = None
    sequences: int = 320
    validation: int = 256
    length: int = 40
    epochs: int = 10
    batch: int = 16
    lr: float | None = None
    multiplier: float = 0.5
    wide: float = 4.0
    hidden: int = 64
    ffn: int = 160
    layers: int = 2
    heads: int = 4

    arms: ClassVar[tuple[str, ...]] = ("reference", "gin", "gin-wide", "pna", "pna-sharp")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "best_val_loss": Metric("nats/token", "lower"),
        "decided_loss": Metric("nats/token", "lower"),
        "gap": Metric("nats/token", "lower"),
        "best_epoch": Metric("epochs", "higher", shown=False),
        "parameters": Metric("weights", "lower", "exact"),
        "tokens_per_s": Metric("tokens/s", "higher"),
    }
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {
        arm: {"lr": (1e-3, 2e-3, 4e-3)} for arm in arms
    }
    tuned_on = "best_val_loss"
    prepared_by = ("data", "sequences", "validation", "length")
    curve = "validation"

    def check(self) -> None:
        """Raise `BadInputError` for sizes that do not go together."""
        for name in ("sequences", "validation", "epochs", "batch", "layers", "heads"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise BadInputError(f"lr must be above 0, got {self.lr}")
        from papertrial.efficient.graph_attention.decoders import arm_settings, make_decoder
        from papertrial.efficient.graph_attention.proteins import make_proteins

        make_proteins(1, self.length, 0)
        for arm in self.arms:
            make_decoder(arm_settings(arm, self.multiplier, self.wide), self._sizes(), 0)

    def prepare(self, seed: int, folder: Path) -> None:
        """Draw or read the strings, and write them as token ids."""
        import torch
        from safetensors.torch import save_file

        from papertrial.efficient.graph_attention.proteins import encode, make_proteins, read_proteins

        count = self.sequences + self.validation
        if self.data is None:
            ids, marks = encode(make_proteins(count, self.length, seed))
        else:
            ids = read_proteins(self.data, count, self.length + _MARGIN_TOKENS, seed)
            marks = torch.zeros_like(ids, dtype=torch.bool)
        save_file({"ids": ids, "marks": marks}, folder / "strings.safetensors")

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Train one arm, looking at the held-out strings after every epoch."""
        import torch
        from safetensors.torch import load_file

        from papertrial.data.tokens import batches
        from papertrial.efficient.graph_attention.decoders import (
            arm_settings,
            losses,
            make_decoder,
            masked_batch,
        )
        from papertrial.models import parameter_count, seeded
        from papertrial.training import train

        if self.lr is None:
            raise BadInputError("lr is tuned by the runner; set it to measure an arm by hand")
        strings = load_file(watch.prepared / "strings.safetensors")
        parts = (self.sequences, self.validation)
        (ids, held_out), (marks, held_marks) = strings["ids"].split(parts), strings["marks"].split(parts)
        model = make_decoder(arm_settings(arm, self.multiplier, self.wide), self._sizes(), seed)
        epoch = math.ceil(len(ids) / self.batch)
        seen: list[tuple[float, float]] = []
        seconds, started = 0.0, time.perf_counter()

        def look(done: int, values: Mapping[str, float]) -> None:
            nonlocal seconds, started
            if done % epoch:
                watch.step(done, epoch * self.epochs, loss=values["loss"])
                return
            seconds += time.perf_counter() - started
            seen.append(losses(model, held_out, held_marks))
            watch.step(done, epoch * self.epochs, loss=values["loss"], validation=seen[-1][0])
            started = time.perf_counter()

        optimizer = torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=0.01)
        started = time.perf_counter()
        with seeded(seed):  # the graph networks drop out
            history = train(
                model,
                (masked_batch(batch) for batch in batches(ids, self.batch, seed)),
                optimizer,
                steps=epoch * self.epochs,
                schedule="constant",
                warmup=0.0,
                clip=1.0,
                on_step=look,
            )
        if history.diverged_at is not None or not seen:
            return dict.fromkeys(self.metrics, math.inf) | {"tokens_per_s": math.nan}
        best = min(range(len(seen)), key=lambda number: seen[number][0])
        return {
            "best_val_loss": seen[best][0],
            "decided_loss": seen[best][1],
            "gap": seen[-1][0] - losses(model, ids, marks)[0],
            "best_epoch": best + 1.0,
            "parameters": float(parameter_count(model)),
            "tokens_per_s": len(history.losses) * self.batch * ids.shape[1] / seconds,
        }

    def scale(self) -> str:
        """Say what is trained, and on how much."""
        kind = "made-up protein strings" if self.data is None else f"strings of {self.data}"
        return (
            f"Llama-shaped decoders of {self.layers} layers and width {self.hidden}, {self.sequences} {kind} of "
            f"{self.length} residues, {self.epochs} epochs, CPU"
        )

    @classmethod
    def quick(cls) -> ScratchTrial:
        """Return the trial on few strings and one narrow layer."""
        return cls(
            sequences=16, validation=8, length=24, epochs=2, batch=8, hidden=16, ffn=64, layers=1, heads=2
        )

    def _sizes(self) -> Any:
        from papertrial.efficient.graph_attention.decoders import Sizes
        from papertrial.efficient.graph_attention.proteins import VOCABULARY

        return Sizes(self.hidden, self.ffn, self.layers, self.heads, len(VOCABULARY))


trials: dict[str, type[Trial]] = {"scratch": ScratchTrial, "adapter": AdapterTrial}
