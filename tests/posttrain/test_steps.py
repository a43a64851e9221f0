from __future__ import annotations

import numpy as np
import pytest

from papertrial.errors import BadInputError
from papertrial.posttrain.steps import (
    Solution,
    StepScorer,
    StepScores,
    Unscored,
    checked_solutions,
    judge,
    without_step_number,
)


@pytest.mark.parametrize(
    ("step", "bare"),
    [
        ("Step 3. Add.", "Add."),
        ("step 12.Add.", "Add."),
        ("  7. Add. ", "Add."),
        ("3.5 is the mean.", "5 is the mean."),  # as the released code reads it
        ("Steps follow.", "Steps follow."),
        ("So 4. That is it.", "So 4. That is it."),
    ],
)
def test_a_leading_step_number_is_cut(step, bare):
    assert without_step_number(step) == bare


def test_a_threshold_itself_is_not_above_it():
    labels = judge(StepScores(np.array([0.4, 0.5, 0.6]), np.array([0.1, 0.2, 0.3])), 0.5, 0.2)
    assert labels.good.tolist() == [False, False, True]
    assert labels.redundant.tolist() == [False, False, True]


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(BadInputError, match="validity score of step 2 is nan"):
        StepScores(np.array([0.1, np.nan]))
    with pytest.raises(BadInputError, match="redundancy score of step 1 is inf"):
        StepScores(np.array([0.1]), np.array([np.inf]))
    with pytest.raises(BadInputError, match="2 validity scores but 1 redundancy"):
        StepScores(np.array([0.1, 0.2]), np.array([0.1]))
    with pytest.raises(BadInputError, match="validity threshold must be a finite number"):
        judge(StepScores(np.array([0.1])), float("nan"), 0.5)


def test_a_solution_without_steps_is_refused():
    with pytest.raises(BadInputError, match="x has no steps"):
        checked_solutions([Solution("q", (), "x")])


def test_scoring_one_is_scoring_a_list_of_one():
    class Lengths(StepScorer):
        def score_all(self, solutions, on_scored=None):
            return [StepScores(np.array([float(len(s)) for s in one.steps])) for one in solutions]

    scorer = Lengths()
    scores = scorer.score("q", ["ab", "abc"])
    assert not isinstance(scores, Unscored)
    assert scores.validity.tolist() == [2.0, 3.0]
    assert scorer.label(scores).good.tolist() == [True, True]
