"""Both stages of training with one optimizer: INT8 activations, then INT4; two learning rates.

Source: arXiv 2504.18415, section 2.3 and table 9; the shape of the schedule is that of BitNet b1.58.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from papertrial.efficient.bitnet_v2.convert import set_activation_bits
from papertrial.efficient.bitnet_v2.linear import BitLinear, keep_ternary_weights
from papertrial.errors import BadInputError
from papertrial.training import TrainingHistory, train

PAPER_RATES: Mapping[str, tuple[float, float]] = {
    "400M": (1.8e-3, 1.2e-3),
    "1.3B": (1.2e-3, 8e-4),
    "3B": (1.2e-3, 6.4e-4),
    "7B": (1e-3, 6e-4),
}
"""Peak learning rates of both phases by model size. Source: arXiv 2504.18415, table 9."""


@dataclass(frozen=True)
class TwoStages:
    """When learning rate, weight decay and activation bits change.

    The learning rate rises over `warmup` steps to `first_rate`, falls along a line, drops to `second_rate` at
    `drop`, and falls along a line to zero at the end. Weight decay is `weight_decay` up to the drop, and zero
    after. At `switch` activations go from 8 to 4 bits. Neither the line before the drop nor the place of the
    drop is in the paper: the line aims half-way between the two rates, the drop is at the middle.

    Attributes:
        steps: optimizer steps, both stages together.
        first_rate: peak learning rate before the drop.
        second_rate: learning rate right after the drop; two thirds of the first (table 9, 400M) if not given.
        weight_decay: before the drop.
        warmup: steps; the paper's are 375.
        drop: share of the steps after which rate and weight decay drop.
        switch: share of the steps after which activations have 4 bits; the paper's is 95 of 100 B tokens.
            1.0 never switches.
    """

    steps: int
    first_rate: float
    second_rate: float | None = None
    weight_decay: float = 0.1
    warmup: int = 375
    drop: float = 0.5
    switch: float = 0.95

    def check(self) -> None:
        """Raise `BadInputError` for values that make no schedule."""
        if self.steps < 3:
            raise BadInputError(
                f"steps must be at least 3, one for each part of the schedule, got {self.steps}"
            )
        if not 0.0 < self.drop < 1.0 or not 0.0 < self.switch <= 1.0:
            raise BadInputError(
                "drop must lie between 0 and 1, and switch above 0 and up to 1; "
                f"got {self.drop} and {self.switch}"
            )
        first = min(self.drop_step, self.switch_step)
        if not 0 <= self.warmup < first:
            raise BadInputError(
                f"warmup must end before drop and switch, before step {first}, got {self.warmup}"
            )
        if not 0.0 < self.second <= self.first_rate:
            raise BadInputError(
                f"second_rate must be above 0 and at most first_rate = {self.first_rate}, got {self.second}"
            )

    @property
    def second(self) -> float:
        """The learning rate right after the drop."""
        return self.first_rate * 2 / 3 if self.second_rate is None else self.second_rate

    @property
    def drop_step(self) -> int:
        """How many steps are taken before the drop."""
        return min(max(1, round(self.drop * self.steps)), self.steps - 1)

    @property
    def switch_step(self) -> int:
        """How many steps are taken with 8 bits."""
        return (
            self.steps if self.switch == 1.0 else min(max(1, round(self.switch * self.steps)), self.steps - 1)
        )

    def parts(self) -> list[Part]:
        """Return the stretches between changes, in order."""
        edges = sorted({0, self.drop_step, self.switch_step, self.steps})
        return [
            Part(
                start=start,
                stop=stop,
                begins_at=self._rate_after(start, from_left=False),
                ends_at=self._rate_after(stop, from_left=True),
                warmup=self.warmup if start == 0 else 0,
                weight_decay=self.weight_decay if stop <= self.drop_step else 0.0,
                bits=8 if stop <= self.switch_step else 4,
            )
            for start, stop in pairwise(edges)
        ]

    def _rate_after(self, step: int, *, from_left: bool) -> float:
        if step < self.drop_step or (step == self.drop_step and from_left):
            lowest = (self.first_rate + self.second) / 2
            done = max(0, step - self.warmup) / (self.drop_step - self.warmup)
            return self.first_rate + (lowest - self.first_rate) * done
        return self.second * (self.steps - step) / (self.steps - self.drop_step)


@dataclass(frozen=True)
class Part:
    """A stretch of training in which nothing but the learning rate changes, and that along one line.

    Attributes:
        start: steps taken before it.
        stop: steps taken at its end.
        begins_at: learning rate at its start (the peak, where it warms up).
        ends_at: learning rate of its last step.
        warmup: steps of a linear rise at its start.
        weight_decay: of every parameter group that has any.
        bits: of activations.
    """

    start: int
    stop: int
    begins_at: float
    ends_at: float
    warmup: int
    weight_decay: float
    bits: int


@dataclass(frozen=True)
class TwoStageHistory:
    """What happened, over all parts.

    Attributes:
        losses: one a step.
        learning_rates: one a step, of the first parameter group.
        bits: of activations, one a step.
        diverged_at: the step (from 1) at which loss or gradient was not finite; None if all went well.
    """

    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    diverged_at: int | None = None


def train_two_stages(
    model: nn.Module,
    batches: Iterator[Any],
    optimizer: torch.optim.Optimizer,
    plan: TwoStages,
    *,
    clip: float | None = None,
    accumulate: int = 1,
    dtype: str = "float32",
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    before_switch: Callable[[], None] | None = None,
    checkpoint: Path | None = None,
) -> TwoStageHistory:
    """Train `model` through both stages and return what happened; the optimizer keeps its state throughout.

    Q_w(W) is computed once a step, however many batches an update accumulates. A model without BitLinears is
    trained on the same schedule, in full precision throughout (a baseline).

    Args:
        model: after `use_bitnet`, or a full-precision one.
        batches: as `papertrial.training.train` takes them.
        optimizer: AdamW with betas (0.9, 0.95) in the paper. The ratios of its groups' learning rates are kept;
            weight decay falls to zero in all groups at the drop.
        plan: when what changes.
        clip: largest gradient norm.
        accumulate: batches an update.
        dtype: "float32", or "bfloat16" for autocast.
        on_step: called after each step with its number and `loss`, `lr`, `grad_norm`.
        before_switch: called when stage 1 is done, before activations go to 4 bits.
        checkpoint: a folder; an interrupted run called again with the same arguments goes on from there.

    Raises:
        BadInputError: the plan makes no schedule, or as `train`.
    """
    plan.check()
    is_bitnet = any(isinstance(module, BitLinear) for module in model.modules())
    first = [float(group["lr"]) for group in optimizer.param_groups]
    ratios = [rate / first[0] for rate in first]
    decays = [float(group.get("weight_decay", 0.0)) > 0.0 for group in optimizer.param_groups]
    history = TwoStageHistory()
    end_keeping = keep_ternary_weights(model, optimizer) if is_bitnet else None
    try:
        for number, part in enumerate(plan.parts()):
            if part.bits == 4 and part.start == plan.switch_step and before_switch is not None:
                before_switch()
            if is_bitnet:
                set_activation_bits(model, part.bits, optimizer=optimizer if part.start else None)
            for group, ratio, decaying in zip(optimizer.param_groups, ratios, decays, strict=True):
                group["lr"] = part.begins_at * ratio
                if decaying:
                    group["weight_decay"] = part.weight_decay
            done = train(
                model,
                batches,
                optimizer,
                steps=part.stop - part.start,
                schedule="linear",
                warmup=part.warmup / (part.stop - part.start),
                final=part.ends_at / part.begins_at,
                clip=clip,
                accumulate=accumulate,
                dtype=dtype,
                on_step=_shifted(on_step, part.start),
                checkpoint=None if checkpoint is None else checkpoint / f"part-{number}",
            )
            history = _joined(history, done, part)
            if history.diverged_at is not None:
                break
    finally:
        if end_keeping is not None:
            end_keeping()
    return history


def _shifted(
    on_step: Callable[[int, Mapping[str, float]], None] | None, start: int
) -> Callable[[int, Mapping[str, float]], None] | None:
    return None if on_step is None else lambda step, values: on_step(start + step, values)


def _joined(history: TwoStageHistory, done: TrainingHistory, part: Part) -> TwoStageHistory:
    return TwoStageHistory(
        history.losses + done.losses,
        history.learning_rates + done.learning_rates,
        history.bits + [part.bits] * done.steps,
        None if done.diverged_at is None else part.start + done.diverged_at,
    )
