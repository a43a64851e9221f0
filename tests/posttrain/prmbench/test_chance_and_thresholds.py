from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.chance import BernoulliScorer, ConstantScorer, chance_prm_score
from papertrial.posttrain.prmbench.evaluation import evaluate
from papertrial.posttrain.prmbench.metrics import evaluate_labels, lay_out, make_sheet
from papertrial.posttrain.prmbench.rows import Item
from papertrial.posttrain.prmbench.thresholds import auroc, sweep_thresholds
from papertrial.posttrain.steps import Solution, StepLabels


def one_item(wrong):
    steps = tuple(str(at) for at in range(len(wrong)))
    errors = tuple(at + 1 for at, one in enumerate(wrong) if one)
    return Item("deception_1", "1", "deception", "q", steps, errors, min(errors, default=0), "q")


def prm_score(wrong, good):
    sheet = make_sheet([one_item(wrong)])
    return evaluate_labels(sheet, lay_out(sheet, {"deception_1": StepLabels(good)})).prm_score()


def test_the_levels_of_the_full_set():
    """84.24 % of the released steps are good; the four levels follow from that alone."""
    share = 0.8424
    assert chance_prm_score(share, share) == pytest.approx(50)
    assert chance_prm_score(share, 1.0) == pytest.approx(45.7, abs=0.05)
    assert chance_prm_score(share, 0.5) == pytest.approx(43.4, abs=0.05)
    assert chance_prm_score(share, 0.0) == pytest.approx(13.6, abs=0.05)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_guessing_reaches_the_formula(rate):
    rng = np.random.default_rng(0)
    wrong = rng.random(200_000) < 0.16
    items = [one_item(wrong)]
    found = evaluate(BernoulliScorer(rate, seed=1), items).report.prm_score()
    # standard error of a share over 32,000 wrong steps is 0.3 points, and F1 halves it
    assert found == pytest.approx(chance_prm_score(1 - wrong.mean(), rate), abs=0.4)


def test_guesses_are_drawn_from_the_seed():
    solutions = [Solution("q", ("a",) * 50), Solution("q", ("b",) * 3)]
    one, other = (BernoulliScorer(0.5, seed=4).score_all(solutions) for _ in range(2))
    assert [a.validity.tolist() for a in one] == [b.validity.tolist() for b in other]
    assert [len(a.validity) for a in one] == [50, 3]
    assert BernoulliScorer(0.5).score_all([]) == []
    assert ConstantScorer(0.0).score_all(solutions)[1].validity.tolist() == [0, 0, 0]


def test_shares_outside_are_refused():
    for share, rate in ((0.0, 0.5), (1.0, 0.5), (0.5, -0.1), (0.5, 1.1)):
        with pytest.raises(BadInputError, match="must lie between 0 and 1"):
            chance_prm_score(share, rate)
    with pytest.raises(BadInputError, match="accept_rate"):
        BernoulliScorer(1.5)


CASES = st.lists(st.tuples(st.integers(-3, 3).map(float), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({wrong for _, wrong in pairs}) == 2
)


@given(CASES)
def test_the_sweep_counts_as_the_benchmark_does(pairs):
    scores = np.array([score for score, _ in pairs])
    wrong = np.array([one for _, one in pairs])
    sweep = sweep_thresholds(scores, wrong)
    assert len(sweep.thresholds) == len(set(scores.tolist())) + 1
    for threshold, found in zip(sweep.thresholds, sweep.prm_scores, strict=True):
        assert found == pytest.approx(prm_score(wrong, scores > threshold), abs=1e-9)
    assert sweep.prm_scores.max() == pytest.approx(prm_score(wrong, scores > sweep.best), abs=1e-9)


@given(CASES)
def test_scikit_learn_has_the_same_area(pairs):
    scores = np.array([score for score, _ in pairs])
    wrong = np.array([one for _, one in pairs])
    assert auroc(scores, wrong) == pytest.approx(roc_auc_score(~wrong, scores), abs=1e-12)


def test_what_cannot_be_swept_is_refused():
    wrong = np.array([True, False])
    with pytest.raises(BadInputError, match="3 scores for 2 steps"):
        sweep_thresholds(np.zeros(3), wrong)
    with pytest.raises(BadInputError, match="finite"):
        auroc(np.array([0.0, np.nan]), wrong)
    with pytest.raises(BadInputError, match="all of these are alike"):
        auroc(np.zeros(2), np.array([True, True]))
