"""What a scorer reaches that knows nothing: the levels to print beside every result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from papertrial.errors import BadInputError
from papertrial.posttrain.steps import (
    OnScored,
    Solution,
    StepScorer,
    StepScores,
    Unscored,
    checked_solutions,
)


def chance_prm_score(good_share: float, accept_rate: float) -> float:
    """Return the expected PRMScore, in per cent, of saying "good" with one probability, independently.

    With a share π of good steps and rate q, F1 is 2πq / (π + q) and negative F1 the same with 1 − π and
    1 − q. The base rate q = π gives exactly 50; always "good" and always "bad" give less. At q = 0 or 1 the
    ratio that is undefined leaves its F1 at 0, as the released code has it.

    Args:
        good_share: π, strictly between 0 and 1.
        accept_rate: q, from 0 to 1.

    Raises:
        BadInputError: a share or rate outside these bounds.
    """
    if not 0 < good_share < 1:
        raise BadInputError(f"good_share must lie between 0 and 1, got {good_share}")
    if not 0 <= accept_rate <= 1:
        raise BadInputError(f"accept_rate must lie between 0 and 1, got {accept_rate}")
    bad_share, reject_rate = 1 - good_share, 1 - accept_rate
    f1 = 2 * good_share * accept_rate / (good_share + accept_rate)
    negative_f1 = 2 * bad_share * reject_rate / (bad_share + reject_rate)
    return 50 * (f1 + negative_f1)


class ConstantScorer(StepScorer):
    """Gives every step the same score: accepts all (1) or none (0)."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value

    def score_all(
        self, solutions: Sequence[Solution], on_scored: OnScored | None = None
    ) -> list[StepScores | Unscored]:
        """See `StepScorer.score_all`."""
        return [StepScores(np.full(len(one.steps), self.value)) for one in checked_solutions(solutions)]


class BernoulliScorer(StepScorer):
    """Says "good" with one probability, independently at every step.

    Args:
        accept_rate: the probability.
        seed: draws the answers; the same solutions in the same order get the same answers.

    Raises:
        BadInputError: a probability outside 0..1.
    """

    def __init__(self, accept_rate: float, seed: int = 0) -> None:
        if not 0 <= accept_rate <= 1:
            raise BadInputError(f"accept_rate must lie between 0 and 1, got {accept_rate}")
        self.accept_rate = accept_rate
        self.seed = seed

    def score_all(
        self, solutions: Sequence[Solution], on_scored: OnScored | None = None
    ) -> list[StepScores | Unscored]:
        """See `StepScorer.score_all`."""
        rng = np.random.default_rng(self.seed)
        counts = [len(one.steps) for one in checked_solutions(solutions)]
        said = (rng.random(sum(counts)) < self.accept_rate).astype(np.float64)
        return [StepScores(part) for part in np.split(said, np.cumsum(counts)[:-1])] if counts else []
