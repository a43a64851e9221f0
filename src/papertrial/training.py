"""One small training loop: accumulation, clipping, schedules, autocast, exact resumption."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from papertrial.acceleration import accelerator_for
from papertrial.checkpoints import CheckpointFolder
from papertrial.errors import BadInputError, unknown
from papertrial.models.devices import check_autocast
from papertrial.objective import Batch, Loss, evaluate_loss, labelled_positions, model_loss, to_device

__all__ = [
    "Batch",
    "Loss",
    "Resumable",
    "Schedule",
    "TrainingHistory",
    "evaluate_loss",
    "learning_rate_factor",
    "train",
]

Schedule = Literal["constant", "linear", "cosine"]
"""The shapes that a learning rate may follow after its warm-up."""


@runtime_checkable
class Resumable(Protocol):
    """An iterator that can say where it stands and be put back there."""

    def state_dict(self) -> dict[str, Any]:
        """Return where it stands."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken."""


@dataclass(frozen=True)
class TrainingHistory:
    """What happened, one value a step.

    Attributes:
        losses: mean loss of the step's batch, before the update.
        learning_rates: of the first parameter group.
        gradient_norms: over all trained weights, before clipping; NaN where nothing has a gradient.
        diverged_at: the step (from 1) whose loss or gradient was not finite. Its update was not made, and
            training stopped there. None if all went well.
    """

    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    diverged_at: int | None = None

    @property
    def steps(self) -> int:
        """How many steps were taken, a diverged one included."""
        return len(self.losses)


def learning_rate_factor(
    step: int, steps: int, schedule: str = "cosine", warmup: float = 0.1, final: float = 0.1
) -> float:
    """Return what the peak learning rate is multiplied by at `step`, counted from 0.

    A linear rise over the first `warmup · steps` steps, then constant, or down to `final` along a line or
    half a cosine. It is transformers' curve read one step later: no step is spent at rate 0, and the last
    step is at `final` exactly.

    Raises:
        BadInputError: an unknown schedule.
    """
    if schedule not in get_args(Schedule):
        raise unknown("schedule", schedule, get_args(Schedule))
    rising = round(warmup * steps)
    done = step + 1
    if done <= rising:
        return done / rising
    if schedule == "constant":
        return 1.0
    progress = (done - rising) / (steps - rising)
    fall = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return final + (1.0 - final) * fall


def train(
    model: nn.Module,
    batches: Iterator[Any],
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    schedule: str = "cosine",
    warmup: float = 0.1,
    final: float = 0.1,
    clip: float | None = None,
    accumulate: int = 1,
    dtype: str = "float32",
    loss: Loss | None = None,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int | None = None,
) -> TrainingHistory:
    """Train `model` in place and return what happened.

    Args:
        model: on the device where it is to be trained.
        batches: gives a `Batch` each time, for ever. Moved to the model's device here. Where a run is
            resumed, it is put back by `load_state_dict` if it has that; else it must stand at its start.
        optimizer: any that steps without a closure. Its groups' learning rates are the peaks, keep their
            ratio, and are given back as they came.
        steps: updates, each of `accumulate` batches.
        schedule: shape after the warm-up; see `learning_rate_factor`.
        warmup: share of the steps.
        final: last learning rate, as a share of the peak.
        clip: largest gradient norm over all weights together.
        accumulate: batches an update. Labelled positions count alike, however they fall into batches.
        dtype: "float32" computes in the weights' own format; "bfloat16" by autocast.
        loss: in place of the model's own. Its value on each batch of an update counts alike.
        on_step: called after each step with its number (from 1) and `loss`, `lr`, `grad_norm`.
        checkpoint: a folder. If it holds a checkpoint of this run, training goes on from there, to the bit
            as if never interrupted.
        checkpoint_every: steps between checkpoints; a tenth of the run if not given. One is written at
            the end in any case.

    Raises:
        BadInputError: a setting out of range, bfloat16 where the hardware has none, a checkpoint of
            another run, batches that end early, more than one process.
    """
    plan = _Plan(steps, schedule, warmup, final, clip, accumulate, dtype)
    plan.check()
    if checkpoint_every is not None and checkpoint_every < 1:
        raise BadInputError(f"checkpoint_every must be at least 1, got {checkpoint_every}")
    run = _Run(plan, model, batches, optimizer, loss)
    check_autocast(dtype, run.device)
    folder = None if checkpoint is None else CheckpointFolder(checkpoint, run.identity())
    if folder is not None:
        run.resume(folder)
    every = checkpoint_every or max(1, steps // 10)
    was_training = model.training
    model.train()
    optimizer.zero_grad(set_to_none=True)
    try:
        with accelerator_for(run.device, dtype) as accelerator:
            while run.history.steps < steps and run.history.diverged_at is None:
                values = run.step(accelerator)
                done, whole = run.history.steps, run.history.diverged_at is None
                if folder is not None and whole and (done % every == 0 or done == steps):
                    folder.save(done, model, run.state())
                if on_step is not None:
                    on_step(done, values)
    finally:
        model.train(was_training)
        run.set_rates(1.0)
    return run.history


@dataclass(frozen=True)
class _Plan:
    """The settings that decide what a run computes."""

    steps: int
    schedule: str
    warmup: float
    final: float
    clip: float | None
    accumulate: int
    dtype: str

    def check(self) -> None:
        for name, count in (("steps", self.steps), ("accumulate", self.accumulate)):
            if count < 1:
                raise BadInputError(f"{name} must be at least 1, got {count}")
        for name, share in (("warmup", self.warmup), ("final", self.final)):
            if not 0.0 <= share <= 1.0:
                raise BadInputError(f"{name} is a share and must lie between 0 and 1, got {share}")
        if self.clip is not None and not self.clip > 0.0:
            raise BadInputError(f"clip must be above 0, or None for no clipping, got {self.clip}")
        self.factor(0)

    def factor(self, step: int) -> float:
        return learning_rate_factor(step, self.steps, self.schedule, self.warmup, self.final)


class _Run:
    """A run in progress."""

    def __init__(
        self,
        plan: _Plan,
        model: nn.Module,
        batches: Iterator[Any],
        optimizer: torch.optim.Optimizer,
        loss: Loss | None,
    ) -> None:
        self.plan = plan
        self.model = model
        self.batches = batches
        self.optimizer = optimizer
        self.loss = loss
        self.parameters: list[Tensor] = [
            weight for group in optimizer.param_groups for weight in group["params"]
        ]
        self.device = self.parameters[0].device
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self.history = TrainingHistory()

    def step(self, accelerator: Accelerator) -> dict[str, float]:
        """Take one step; return its loss, learning rate and gradient norm."""
        factor = self.plan.factor(self.history.steps)
        self.set_rates(factor)
        loss = self._backward(accelerator)
        gradients = [weight.grad for weight in self.parameters if weight.grad is not None]
        norm = get_total_norm(gradients) if gradients else torch.tensor(math.nan)
        if self.plan.clip is not None and gradients:
            clip_grads_with_norm_(self.parameters, self.plan.clip, norm)
        values = {"loss": loss, "lr": self.peaks[0] * factor, "grad_norm": float(norm)}
        self.history.losses.append(loss)
        self.history.learning_rates.append(values["lr"])
        self.history.gradient_norms.append(values["grad_norm"])
        if math.isfinite(loss) and (math.isfinite(values["grad_norm"]) or not gradients):
            self.optimizer.step()
        else:
            self.history = replace(self.history, diverged_at=self.history.steps)
        self.optimizer.zero_grad(set_to_none=True)
        return values

    def set_rates(self, factor: float) -> None:
        """Set every group's learning rate to `factor` of its peak."""
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            if isinstance(group["lr"], Tensor):  # capturable optimizers hold the tensor itself
                group["lr"].fill_(peak * factor)
            else:
                group["lr"] = peak * factor

    def identity(self) -> dict[str, Any]:
        """Return what a checkpoint must agree on to be this run's."""
        return {**asdict(self.plan), "learning_rates": self.peaks, "optimizer": type(self.optimizer).__name__}

    def state(self) -> dict[str, Any]:
        """Return everything but the weights that the rest of the run depends on."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        batches = self.batches.state_dict() if isinstance(self.batches, Resumable) else None
        return {
            "optimizer": self.optimizer.state_dict(),
            "batches": batches,
            "history": asdict(self.history),
            "random": {"cpu": torch.get_rng_state(), "cuda": cuda},
        }

    def resume(self, folder: CheckpointFolder) -> None:
        """Go to where the newest checkpoint in `folder` was written, if there is one."""
        state = folder.load(self.model)
        if state is None:
            return
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = TrainingHistory(**state["history"])
        torch.set_rng_state(state["random"]["cpu"])
        if state["random"]["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
        if isinstance(self.batches, Resumable) and state["batches"] is not None:
            self.batches.load_state_dict(state["batches"])
        else:  # a plain iterator stands at its start: draw what the run has used
            for _ in range(self.history.steps * self.plan.accumulate):
                self._next_batch()

    def _backward(self, accelerator: Accelerator) -> float:
        """Add up the gradients of one update's batches and return their mean loss."""
        taken = [self._next_batch() for _ in range(self.plan.accumulate)]
        total = torch.zeros((), device=self.device)
        for batch, share in zip(taken, self._shares(taken), strict=True):
            if share == 0.0:  # nothing labelled: the mean over nothing is NaN, and NaN times 0 is, too
                continue
            with accelerator.autocast():
                loss = (self.loss or model_loss)(self.model, to_device(batch, self.device)) * share
            accelerator.backward(loss)
            total += loss.detach().float()
        return float(total)

    def _shares(self, taken: Sequence[Batch]) -> list[float]:
        """Return the share of each batch in the update: that of its labelled positions."""
        if len(taken) == 1 or self.loss is not None:
            return [1.0 / len(taken)] * len(taken)
        counts = [labelled_positions(self.model, batch) for batch in taken]
        if not any(counts):
            raise BadInputError(f"no position is labelled in any of {len(taken)} batches of one update")
        return [count / sum(counts) for count in counts]

    def _next_batch(self) -> Batch:
        try:
            return cast(Batch, next(self.batches))
        except StopIteration as end:
            raise BadInputError(
                f"the batches ended after {self.history.steps} of {self.plan.steps} steps; "
                "papertrial.data.tokens.batches never ends"
            ) from end
