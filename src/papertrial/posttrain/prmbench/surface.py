"""Scorers that read no mathematics: where a step stands, how long it is, which words it repeats.

On the released rows such models come close to the best that is published, because edited steps can be
recognised by place and length. No result on this benchmark means much until it is held beside them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from papertrial.errors import BadInputError, unknown
from papertrial.posttrain.prmbench.classes import CONTROL
from papertrial.posttrain.prmbench.metrics import make_sheet
from papertrial.posttrain.prmbench.rows import Item
from papertrial.posttrain.prmbench.thresholds import sweep_thresholds
from papertrial.posttrain.steps import (
    OnScored,
    Solution,
    StepScorer,
    StepScores,
    Unscored,
    checked_solutions,
)

FEATURES: dict[str, tuple[str, ...]] = {
    "position": ("place / steps", "place", "steps", "steps - place"),
    "length": ("log(1 + characters)", "characters / mean of the solution"),
    "overlap": ("largest Jaccard overlap of words with an earlier step",),
}
_WORD = re.compile(r"\w+")


def surface_features(
    solutions: Sequence[Solution], sets: Sequence[str]
) -> Float[np.ndarray, "steps features"]:
    """Return the features of every step of all solutions, one row a step.

    Args:
        solutions: what to describe.
        sets: names out of `FEATURES`, each adding its columns.

    Raises:
        BadInputError: an unknown set, none at all, or no solutions.
    """
    for name in sets:
        if name not in FEATURES:
            raise unknown("feature set", name, FEATURES)
    if not sets or not solutions:
        raise BadInputError("surface features need at least one feature set and one solution")
    makers = {"position": _positions, "length": _lengths, "overlap": _overlaps}
    return np.concatenate(
        [np.concatenate([makers[name](one.steps) for name in sets], axis=1) for one in solutions]
    )


class SurfaceScorer(StepScorer):
    """A model fitted on surface features; its score is the probability that a step is good.

    Args:
        sets: which features, names out of `FEATURES`.
        model: "logistic" (a logistic regression on standardised features) or "boosting" (histogram
            gradient boosting at scikit-learn's defaults).

    Raises:
        BadInputError: an unknown model or feature set.
    """

    def __init__(
        self, sets: Sequence[str] = ("position", "length", "overlap"), model: str = "boosting"
    ) -> None:
        if model not in ("logistic", "boosting"):
            raise unknown("surface model", model, ("logistic", "boosting"))
        surface_features([Solution("", ("a step",))], sets)
        self.sets = tuple(sets)
        self._model = (
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            if model == "logistic"
            else HistGradientBoostingClassifier(random_state=0)
        )
        self._fitted = False

    def fit(self, items: Sequence[Item]) -> SurfaceScorer:
        """Fit model and threshold (the one of the highest PRMScore) on items whose errors are known.

        Controls are left out, as the benchmark's totals leave them out.

        Raises:
            BadInputError: items whose steps are all good or all wrong.
        """
        items = [item for item in items if item.classification != CONTROL]
        wrong = make_sheet(items).wrong
        if wrong.all() or not wrong.any():
            raise BadInputError("fitting needs both good and wrong steps, and all of these are alike")
        features = surface_features([item.solution() for item in items], self.sets)
        self._model.fit(features, ~wrong)
        self._fitted = True
        self.validity_threshold = sweep_thresholds(self._probabilities(features), wrong).best
        return self

    def score_all(
        self, solutions: Sequence[Solution], on_scored: OnScored | None = None
    ) -> list[StepScores | Unscored]:
        """See `StepScorer.score_all`.

        Raises:
            BadInputError: before `fit`.
        """
        if not self._fitted:
            raise BadInputError("a surface scorer must be fitted first: SurfaceScorer(...).fit(items)")
        if not solutions:
            return []
        chances = self._probabilities(surface_features(checked_solutions(solutions), self.sets))
        ends = np.cumsum([len(one.steps) for one in solutions])[:-1]
        return [StepScores(part) for part in np.split(chances, ends)]

    def _probabilities(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self._model.predict_proba(features)[:, 1], dtype=np.float64)


class LengthRule(StepScorer):
    """Calls a step bad if it is longer than `ratio` times the mean step of its solution. Nothing is fitted.

    Raises:
        BadInputError: a ratio that is not positive.
    """

    def __init__(self, ratio: float = 1.25) -> None:
        if not ratio > 0:
            raise BadInputError(f"ratio must be positive, got {ratio}")
        self.validity_threshold = -ratio

    def score_all(
        self, solutions: Sequence[Solution], on_scored: OnScored | None = None
    ) -> list[StepScores | Unscored]:
        """See `StepScorer.score_all`. The score is minus the relative length."""
        # nextafter: "longer than" is strict, so a step of exactly the ratio is still good.
        return [
            StepScores(np.nextafter(-_lengths(one.steps)[:, 1], np.inf))
            for one in checked_solutions(solutions)
        ]


def split_by_problem(items: Sequence[Item], seed: int, share: float = 0.5) -> tuple[list[Item], list[Item]]:
    """Return two halves such that all items of one original question lie in the same.

    Args:
        items: what to split.
        seed: draws the split.
        share: of the questions that go to the first part.

    Raises:
        BadInputError: a share outside 0..1, or so few questions that a part would be empty.
    """
    problems = sorted({item.problem for item in items})
    count = round(share * len(problems)) if 0 < share < 1 else 0
    if not 0 < count < len(problems):
        raise BadInputError(
            f"cannot split {len(problems)} questions at share {share}: both parts need at least one"
        )
    chosen = np.random.default_rng(seed).permutation(len(problems))[:count]
    first = {problems[at] for at in chosen}
    return [one for one in items if one.problem in first], [one for one in items if one.problem not in first]


def _positions(steps: Sequence[str]) -> Float[np.ndarray, "steps 4"]:
    count = len(steps)
    place = np.arange(1, count + 1, dtype=np.float64)
    return np.stack([place / count, place, np.full(count, float(count)), count - place], axis=1)


def _lengths(steps: Sequence[str]) -> Float[np.ndarray, "steps 2"]:
    length = np.array([len(step) for step in steps], dtype=np.float64)
    mean = length.mean() or 1.0  # a solution of blank steps: all are of mean length
    return np.stack([np.log1p(length), length / mean], axis=1)


def _overlaps(steps: Sequence[str]) -> Float[np.ndarray, "steps 1"]:
    words = [frozenset(_WORD.findall(step.lower())) for step in steps]
    largest = np.zeros((len(steps), 1))
    for at, own in enumerate(words):
        for earlier in words[:at]:
            if own or earlier:
                largest[at, 0] = max(largest[at, 0], len(own & earlier) / len(own | earlier))
    return largest
