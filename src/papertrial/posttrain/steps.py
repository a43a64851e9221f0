"""What it means to score the steps of a solution: one interface for every process reward model."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from papertrial.errors import BadInputError

OnScored = Callable[[int, int], None]
_STEP_NUMBER = re.compile(r"^(?:step\s*\d+\.\s*|\d+\.\s*)", re.IGNORECASE)


@dataclass(frozen=True)
class Solution:
    """A question and the steps that answer it. `id` names it in messages."""

    question: str
    steps: tuple[str, ...]
    id: str = ""

    def __str__(self) -> str:
        return self.id or f"the solution of {self.question[:40]!r}"


@dataclass(frozen=True, eq=False)
class StepScores:
    """What a scorer makes of each step of one solution.

    Attributes:
        validity: higher means more surely a good step. One number a step.
        redundancy: higher means more surely a superfluous step; None where the scorer has no opinion.

    Raises:
        BadInputError: a score that is not a finite number, or lists of different length.
    """

    validity: Float[np.ndarray, " steps"]
    redundancy: Float[np.ndarray, " as_many"] | None = None

    def __post_init__(self) -> None:
        for name, scores in (("validity", self.validity), ("redundancy", self.redundancy)):
            if scores is not None and not np.isfinite(scores).all():
                bad = int(np.flatnonzero(~np.isfinite(scores))[0])
                raise BadInputError(
                    f"the {name} score of step {bad + 1} is {scores[bad]}; scores must be finite numbers"
                )
        if self.redundancy is not None and len(self.redundancy) != len(self.validity):
            raise BadInputError(
                f"{len(self.validity)} validity scores but {len(self.redundancy)} redundancy scores; "
                "each step needs one of both"
            )


@dataclass(frozen=True)
class Unscored:
    """Why a solution got no scores (too long, an answer that is no JSON). It counts as invalid."""

    reason: str


@dataclass(frozen=True, eq=False)
class StepLabels:
    """Scores turned into yes or no.

    Attributes:
        good: whether each step is judged good.
        redundant: whether each step is judged superfluous; None where the scorer has no opinion.
    """

    good: Bool[np.ndarray, " steps"]
    redundant: Bool[np.ndarray, " steps"] | None = None


class StepScorer(ABC):
    """Scores every step of a solution.

    Attributes:
        validity_threshold: a step is good when its validity lies above this.
        redundancy_threshold: a step is redundant when its redundancy lies above this.
    """

    validity_threshold: float = 0.5
    redundancy_threshold: float = 0.5

    @abstractmethod
    def score_all(
        self, solutions: Sequence[Solution], on_scored: OnScored | None = None
    ) -> list[StepScores | Unscored]:
        """Score many solutions, in the order given, and tell `on_scored(done, total)` on the way.

        Scores have exactly one entry a step; a solution that cannot be scored whole is `Unscored`.
        """

    def score(self, question: str, steps: Sequence[str]) -> StepScores | Unscored:
        """Score the steps of one solution."""
        return self.score_all([Solution(question, tuple(steps))])[0]

    def label(self, scores: StepScores) -> StepLabels:
        """Apply the scorer's thresholds."""
        return judge(scores, self.validity_threshold, self.redundancy_threshold)


def judge(scores: StepScores, validity_threshold: float, redundancy_threshold: float) -> StepLabels:
    """Return which steps are good and which are redundant: those whose score lies above the threshold.

    Raises:
        BadInputError: a threshold that is not a finite number.
    """
    for name, threshold in (("validity", validity_threshold), ("redundancy", redundancy_threshold)):
        if not math.isfinite(threshold):
            raise BadInputError(f"the {name} threshold must be a finite number, got {threshold}")
    redundancy = scores.redundancy
    return StepLabels(
        good=scores.validity > validity_threshold,
        redundant=None if redundancy is None else redundancy > redundancy_threshold,
    )


def without_step_number(step: str) -> str:
    """Return a step without surrounding white space and a leading `Step 3.` or `3.`."""
    return _STEP_NUMBER.sub("", step.strip())


def checked_solutions(solutions: Sequence[Solution]) -> list[Solution]:
    """Return the solutions as a list, after checking that each has steps.

    Raises:
        BadInputError: a solution without any step.
    """
    for solution in solutions:
        if not solution.steps:
            raise BadInputError(f"{solution} has no steps; a step scorer needs at least one")
    return list(solutions)
