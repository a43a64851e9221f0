"""Where to cut scores into good and bad: a sweep over every threshold, and what needs none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from papertrial.errors import BadInputError


@dataclass(frozen=True, eq=False)
class ThresholdSweep:
    """The pooled PRMScore at every threshold that labels differently.

    Attributes:
        thresholds: ascending; a step is good when its score lies above. The first accepts all.
        prm_scores: the score at each, in per cent.
    """

    thresholds: Float[np.ndarray, " cuts"]
    prm_scores: Float[np.ndarray, " cuts"]

    @property
    def best(self) -> float:
        """The threshold of the highest score (the middle one of several equal and adjacent)."""
        top = np.flatnonzero(self.prm_scores == self.prm_scores.max())
        return float(self.thresholds[top[len(top) // 2]])


def sweep_thresholds(
    scores: Float[np.ndarray, " scores"], wrong: Bool[np.ndarray, " steps"]
) -> ThresholdSweep:
    """Return the pooled PRMScore at every threshold, by one sort and cumulative counts.

    Thresholds lie midway between neighbouring scores, so that rounding on another machine does not move
    a step across.

    Raises:
        BadInputError: no steps, lists of different length, scores that are not finite, or steps that are
            all good or all wrong (nothing could be told apart).
    """
    _check(scores, wrong)
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    rejected_wrong = np.append(0, np.cumsum(wrong[order])[is_last])
    rejected = np.append(0, (np.flatnonzero(is_last) + 1))
    levels = ordered[is_last]
    below = levels[0] - 1.0
    between = np.concatenate([[below], levels[:-1] + (levels[1:] - levels[:-1]) / 2, levels[-1:]])
    total, wrong_total = len(scores), int(wrong.sum())
    good_total = total - wrong_total
    rejected_good = rejected - rejected_wrong
    accepted = total - rejected
    f1 = _f1(good_total - rejected_good, accepted, good_total)
    negative_f1 = _f1(rejected_wrong, rejected, wrong_total)
    return ThresholdSweep(between, 50 * (f1 + negative_f1))


def auroc(scores: Float[np.ndarray, " scores"], wrong: Bool[np.ndarray, " steps"]) -> float:
    """Return the probability that a good step scores above a wrong one, ties counted half.

    Raises:
        BadInputError: as `sweep_thresholds`.
    """
    _check(scores, wrong)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = (last - (counts - 1) / 2)[inverse]  # mean rank of equal scores, from 1
    good = int((~wrong).sum())
    above = rank[~wrong].sum() - good * (good + 1) / 2
    return float(above / (good * (len(scores) - good)))


def _f1(hits: np.ndarray, labelled: np.ndarray, true: int) -> np.ndarray:
    """Return 2·hits / (labelled + true); labels without any hit count −1, as in the released counting."""
    return np.where((hits == 0) & (labelled > 0), -1.0, 2 * hits / (labelled + true))


def _check(scores: np.ndarray, wrong: np.ndarray) -> None:
    if len(scores) != len(wrong):
        raise BadInputError(f"{len(scores)} scores for {len(wrong)} steps; each step needs one")
    if not np.isfinite(scores).all():
        raise BadInputError("scores must be finite numbers")
    if wrong.all() or not wrong.any():
        raise BadInputError("thresholds need both good and wrong steps, and all of these are alike")
