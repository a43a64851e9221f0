from __future__ import annotations

import numpy as np
import pytest

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.evaluation import evaluate
from papertrial.posttrain.prmbench.procedural import make_rows
from papertrial.posttrain.prmbench.rows import items_of
from papertrial.posttrain.prmbench.surface import (
    LengthRule,
    SurfaceScorer,
    split_by_problem,
    surface_features,
)
from papertrial.posttrain.steps import Solution

ALL = ("position", "length", "overlap")


def test_the_features_of_a_small_solution():
    features = surface_features([Solution("q", ("add a b", "add b", "x"))], ALL)
    mean = (7 + 5 + 1) / 3
    expected = [
        [1 / 3, 1, 3, 2, np.log(8), 7 / mean, 0],
        [2 / 3, 2, 3, 1, np.log(6), 5 / mean, 2 / 3],
        [1, 3, 3, 0, np.log(2), 1 / mean, 0],
    ]
    np.testing.assert_allclose(features, expected)
    np.testing.assert_allclose(surface_features([Solution("q", ("", " "))], ALL)[:, -1], 0)


def mean_score(items, sets, model, splits=2):
    scores = []
    for seed in range(splits):
        fitting, judged = split_by_problem(items, seed)
        scores.append(evaluate(SurfaceScorer(sets, model).fit(fitting), judged).report.prm_score())
    return float(np.mean(scores))


@pytest.mark.parametrize(
    ("sets", "model", "lowest"),
    [
        (("position",), "logistic", 56),
        (("position",), "boosting", 56),
        (("position", "length"), "boosting", 60),
        (ALL, "boosting", 60),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, tuple) else str(given),
)
def test_models_that_read_no_mathematics_score_high_on_the_released_rows(real_items, sets, model, lowest):
    """On all 6,216 rows they reach 60–67 with GPT-4o at 66.8; this slice, a seventh, leaves less to fit."""
    assert lowest < mean_score(real_items, sets, model) < 68


def test_an_unfitted_length_rule_beats_guessing_on_the_released_rows(real_items):
    assert 53 < evaluate(LengthRule(), real_items).report.prm_score() < 56  # 54.6 on all rows


@pytest.fixture(scope="module")
def procedural_halves():
    return items_of(make_rows(250, seed=1))[0], items_of(make_rows(120, seed=2))[0]


@pytest.mark.parametrize("sets", [("position",), ("position", "length"), ALL], ids="-".join)
@pytest.mark.parametrize("model", ["logistic", "boosting"])
def test_on_procedural_rows_they_are_at_chance(procedural_halves, sets, model):
    """The injectors give place, length and words no meaning; a tuned threshold then finds 50 and some luck."""
    fitting, judged = procedural_halves
    evaluation = evaluate(SurfaceScorer(sets, model).fit(fitting), judged)
    # 5,600 steps: the standard error of the score is about 0.7 points, of the area 0.01
    assert 47 < evaluation.report.prm_score() < 54
    assert 0.46 < evaluation.auroc < 0.56


def test_the_length_rule_is_strict():
    scorer = LengthRule(1.25)
    scores = scorer.score("q", ["12345", "123"])  # the mean is 4, and 5 is 1.25 times it
    assert scorer.label(scores).good.tolist() == [True, True]
    assert scorer.label(scorer.score("q", ["123456", "123"])).good.tolist() == [False, True]
    with pytest.raises(BadInputError, match="ratio must be positive"):
        LengthRule(0.0)


def test_items_of_one_question_stay_together(random_items):
    items = random_items(0)
    one, other = split_by_problem(items, 3)
    assert {item.problem for item in one}.isdisjoint({item.problem for item in other})
    assert sorted(item.id for item in one + other) == sorted(item.id for item in items)
    assert split_by_problem(items, 3) == (one, other)
    with pytest.raises(BadInputError, match="cannot split 12 questions at share 1"):
        split_by_problem(items, 0, share=1.0)


def test_what_cannot_be_fitted_is_refused(random_items):
    with pytest.raises(BadInputError, match="must be fitted first"):
        SurfaceScorer().score("q", ["a"])
    with pytest.raises(BadInputError, match="unknown feature set 'lenght'; did you mean length"):
        SurfaceScorer(("lenght",))
    with pytest.raises(BadInputError, match="at least one feature set"):
        SurfaceScorer(())
    with pytest.raises(BadInputError, match="unknown surface model"):
        SurfaceScorer(model="forest")
    faultless = [item for item in random_items(0) if item.classification == "multi_solutions"]
    with pytest.raises(BadInputError, match="all of these are alike"):
        SurfaceScorer().fit(faultless)
