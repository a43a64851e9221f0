from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.chance import BernoulliScorer, ConstantScorer, chance_prm_score
from papertrial.posttrain.prmbench.evaluation import evaluate, evaluate_scores, score_items, tune_threshold
from papertrial.posttrain.prmbench.metrics import KINDS, evaluate_labels, good_share, lay_out, make_sheet
from papertrial.posttrain.prmbench.rows import items_of, read_rows
from papertrial.posttrain.steps import Solution, StepLabels, StepScorer, StepScores, Unscored


def counted_plainly(items, predictions):
    """The counting once more, item by item in plain Python: what the vectorised pass is held to."""
    tables = {
        kind: {"tp": 0, "fp": 0, "tn": 0, "fn": 0, "first": [], "similarity": []}
        for kind in (*KINDS, "total")
    }
    shares = {}
    for item in items:
        labels = predictions.get(item.id)
        if isinstance(labels, StepLabels) and item.classification == "correct":
            shares[item.idx] = sum(labels.good) / len(item.steps)
    for item in items:
        labels = predictions.get(item.id)
        if not isinstance(labels, StepLabels):
            continue
        good = labels.good
        if item.classification in ("redundency", "circular") and labels.redundant is not None:
            good = [not one for one in labels.redundant]
        targets = [item.classification] + ["total"] * (item.classification != "correct")
        for name in targets:
            table = tables[name]
            for place, label in enumerate(good, start=1):
                wrong = place in item.errors
                table["fp" if wrong and label else "tn" if wrong else "tp" if label else "fn"] += 1
                if place == item.first_listed:
                    table["first"].append(0 if label else 1)
            if item.classification != "correct" and shares.get(item.idx):
                table["similarity"].append(abs(sum(good) / len(good) - shares[item.idx]))
    return {name: metrics_of(table) for name, table in tables.items()}


def metrics_of(table):
    def ratio(part, whole):
        return part / whole if whole else -1

    def f1(precision, recall):
        return 2 * precision * recall / (precision + recall) if precision + recall else -1

    def mean(values):
        return sum(values) / len(values) if values else -1

    tp, fp, tn, fn = (table[name] for name in ("tp", "fp", "tn", "fn"))
    p, r, np_, nr = ratio(tp, tp + fp), ratio(tp, tp + fn), ratio(tn, tn + fn), ratio(tn, tn + fp)
    return {
        "precision": p,
        "recall": r,
        "f1": f1(p, r),
        "negative_precision": np_,
        "negative_recall": nr,
        "negative_f1": f1(np_, nr),
        "step_accuracy": ratio(tp + tn, tp + fp + tn + fn),
        "correct_step_accuracy": r,
        "wrong_step_accuracy": nr,
        "first_error_accuracy": mean(table["first"]),
        "similarity": mean(table["similarity"]),
    }


def random_predictions(items, seed, accept=0.6):
    rng = np.random.default_rng(seed)
    predictions = {}
    for item in items:
        draw = rng.random()
        if draw < 0.1:
            predictions[item.id] = Unscored("no answer")
            continue
        count = len(item.steps)
        redundant = rng.random(count) < 0.3 if draw < 0.5 else None
        predictions[item.id] = StepLabels(rng.random(count) < accept, redundant)
    return predictions


def report_of(items, predictions):
    sheet = make_sheet(items)
    return evaluate_labels(sheet, lay_out(sheet, predictions))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), accept=st.sampled_from([0.0, 0.3, 0.8, 1.0]))
def test_one_pass_counts_as_the_plain_loop_does(random_items, seed, accept):
    items = random_items(seed, problems=5)
    predictions = random_predictions(items, seed + 1, accept)
    report = report_of(items, predictions)
    plain = counted_plainly(items, predictions)
    assert asdict(report.total) == pytest.approx(plain["total"], abs=1e-12)
    for kind, scores in report.by_kind.items():
        assert asdict(scores) == pytest.approx(plain[kind], abs=1e-12), kind
    valid = [name for name, one in predictions.items() if isinstance(one, StepLabels)]
    edited = [item.id for item in items if item.classification != "correct"]
    assert report.items == len(set(valid) & set(edited))
    assert report.validity_rate == report.items / len(edited)


def test_scikit_learn_agrees_where_nothing_is_undefined(random_items):
    items = random_items(0, problems=60)
    predictions = {
        name: StepLabels(one.good) if isinstance(one, StepLabels) else StepLabels(np.array([True]))
        for name, one in random_predictions(items, 1).items()
    }
    predictions = {
        item.id: StepLabels(np.resize(predictions[item.id].good, len(item.steps))) for item in items
    }
    report = report_of(items, predictions)
    for kind in ("counterfactual", "redundency", None):
        chosen = [i for i in items if (i.classification == kind if kind else i.classification != "correct")]
        truth = np.array([place not in i.errors for i in chosen for place in range(1, len(i.steps) + 1)])
        said = np.concatenate([predictions[i.id].good for i in chosen])
        scores = report.by_kind[kind] if kind else report.total
        assert scores.f1 == pytest.approx(f1_score(truth, said, pos_label=True), abs=1e-12)
        assert scores.negative_f1 == pytest.approx(f1_score(truth, said, pos_label=False), abs=1e-12)


def perfect(items):
    wrong = {item.id: [place in item.errors for place in range(1, len(item.steps) + 1)] for item in items}
    return {name: StepLabels(~np.array(one)) for name, one in wrong.items()}


def test_a_perfect_scorer_gets_everything(real_items):
    report = report_of(real_items, perfect(real_items))
    assert report.prm_score() == 100
    assert report.total.first_error_accuracy == 1
    assert all(report.prm_score(kind) == 100 for kind in report.by_kind)
    assert [report.group_score(group) for group in ("simplicity", "soundness", "sensitivity")] == [100] * 3


def test_the_published_multi_solutions_column_is_f1_alone(random_items):
    """The spreadsheet's formula would give a perfect scorer 0 there; the tables print up to 99.7."""
    items = random_items(0)
    report = report_of(items, perfect(items))
    assert report.by_kind["multi_solutions"].negative_f1 == -1
    assert report.prm_score("multi_solutions", behaviour="released") == 0
    assert report.prm_score("multi_solutions") == 100
    with pytest.raises(BadInputError, match="behaviour must be"):
        report.prm_score("multi_solutions", behaviour="other")


def test_accepting_everything(random_items):
    items = random_items(3)
    report = evaluate(ConstantScorer(1.0), items).report
    scores = report.total
    assert scores.negative_precision == -1
    assert scores.negative_recall == scores.negative_f1 == 0
    share = report.good_share
    assert scores.f1 == pytest.approx(2 * share / (1 + share))
    assert report.prm_score() == pytest.approx(chance_prm_score(share, 1.0))
    assert good_share(items) == pytest.approx(share)


def test_rejecting_only_good_steps_counts_minus_one(random_items):
    """Precision and recall of wrong steps are both 0 then, and the released rule makes F1 −1 of that."""
    items = [item for item in random_items(3) if item.classification == "deception"]
    predictions = {
        item.id: StepLabels(np.array([place in item.errors for place in range(1, len(item.steps) + 1)]))
        for item in items
    }
    assert report_of(items, predictions).by_kind["deception"].negative_f1 == -1


@pytest.mark.parametrize("seed", range(5))
def test_order_does_not_matter(random_items, seed):
    items = random_items(7)
    predictions = random_predictions(items, 8)
    shuffled = [items[at] for at in np.random.default_rng(seed).permutation(len(items))]
    one, other = report_of(items, predictions), report_of(shuffled, predictions)
    assert asdict(one.total) == pytest.approx(asdict(other.total), abs=1e-12)
    assert one.validity_rate == other.validity_rate


def test_rows_that_come_twice_change_nothing(shared_data):
    rows = read_rows(shared_data("prmbench"))
    once, twice = items_of(rows)[0], items_of(rows + rows)[0]
    assert once == twice


def test_redundancy_labels_decide_for_two_classes_only(row):
    rows = [row(classification=kind) for kind in ("redundency", "circular", "deception")]
    items = items_of(rows)[0]
    # validity says all good; redundancy says exactly the errors
    predictions = {
        item.id: StepLabels(
            np.ones(len(item.steps), dtype=bool),
            np.array([place in item.errors for place in range(1, len(item.steps) + 1)]),
        )
        for item in items
    }
    report = report_of(items, predictions)
    assert report.prm_score("redundency") == report.prm_score("circular") == 100
    assert report.by_kind["deception"].wrong_step_accuracy == 0
    assert report.by_kind["correct"].recall == 1  # a control always counts by validity


def test_predictions_must_fit_the_items(random_items):
    items = random_items(1, problems=2)
    sheet = make_sheet(items)
    predictions = perfect(items)
    with pytest.raises(BadInputError, match="1 predictions are for unknown items: nobody"):
        lay_out(sheet, {**predictions, "nobody": Unscored("")})
    fewer = {name: one for name, one in predictions.items() if name != items[0].id}
    with pytest.raises(BadInputError, match=f"1 items have no prediction: {items[0].id}"):
        lay_out(sheet, fewer)
    labels = lay_out(sheet, fewer, allowed_missing=1)
    assert not labels.present[0]
    short = {**predictions, items[0].id: StepLabels(np.ones(99, dtype=bool))}
    with pytest.raises(BadInputError, match=f"{items[0].id} has {len(items[0].steps)} steps and 99 labels"):
        lay_out(sheet, short)
    with pytest.raises(BadInputError, match="no items"):
        make_sheet([])
    with pytest.raises(BadInputError, match="ids must be unique"):
        make_sheet([items[0], items[0]])


def test_a_missing_item_lowers_the_validity_rate(random_items):
    items = list(random_items(1, problems=3))
    edited = [item for item in items if item.classification != "correct"]
    predictions = perfect(items)
    del predictions[edited[0].id]
    sheet = make_sheet(items)
    report = evaluate_labels(sheet, lay_out(sheet, predictions, allowed_missing=4))
    assert report.validity_rate == pytest.approx(1 - 1 / len(edited))
    control = next(item for item in items if item.classification == "correct")
    del predictions[control.id]
    # A control without prediction is not taken out of the number expected, as in the released code.
    report = evaluate_labels(sheet, lay_out(sheet, predictions, allowed_missing=4))
    assert report.validity_rate == pytest.approx((len(edited) - 1) / (len(edited) + 1))


def test_an_overall_score_is_pooled_and_a_group_is_a_plain_mean(random_items):
    items = random_items(9)
    report = evaluate(BernoulliScorer(0.7, seed=1), items).report
    both = [report.prm_score("redundency"), report.prm_score("circular")]
    assert report.group_score("simplicity") == pytest.approx(sum(both) / 2)
    with pytest.raises(BadInputError, match="group must be one of"):
        report.group_score("clarity")
    # The leaderboard's row of Qwen2.5-Math-PRM-7B: NR 49.1, NCL 55.2, simplicity 52.1 (each rounded).
    assert pytest.approx(52.1, abs=0.1) == (49.1 + 55.2) / 2


def test_evaluation_of_a_scorer_reports_every_number(random_items):
    items = random_items(4)

    class Half(StepScorer):
        """Scores odd places high, and cannot score what has two steps."""

        def score_all(self, solutions, on_scored=None):
            return [
                Unscored("two steps")
                if len(one.steps) == 2
                else StepScores(np.arange(len(one.steps)) % 2 * 1.0)
                for one in solutions
            ]

    evaluation = evaluate(Half(), items)
    numbers = evaluation.metrics()
    others = np.mean([numbers[name] for name in ("es", "dr")])
    assert np.isnan(numbers["sc"])  # no such items
    assert np.isnan(numbers["simplicity_gap"])
    assert np.isfinite(others)
    two = sum(len(item.steps) == 2 and item.classification != "correct" for item in items)
    assert numbers["items"] == sum(item.classification != "correct" for item in items) - two
    assert len(evaluation.class_table()) == 1 + len(evaluation.report.by_kind)
    assert evaluation.chance_table()[1]["prmscore"] == pytest.approx(50)
    assert numbers["prmscore"] == evaluation.class_table()[0]["prmscore"]


def test_a_tuned_threshold_is_the_best_there_is(random_items):
    items = random_items(5, problems=30)
    rng = np.random.default_rng(0)
    noise = {
        item.id: StepScores(
            np.array([place not in item.errors for place in range(1, len(item.steps) + 1)])
            + rng.normal(size=len(item.steps))
        )
        for item in items
    }

    class Recorded(StepScorer):
        def score_all(self, solutions, on_scored=None):
            return [noise[one.id] for one in solutions]

    scorer = Recorded()
    best = evaluate_scores(
        items, score_items(scorer, items), tune_threshold(scorer, items)
    ).report.prm_score()
    for threshold in np.linspace(-2, 3, 101):
        assert evaluate_scores(items, noise, float(threshold)).report.prm_score() <= best + 1e-9


def test_a_solution_carries_its_id(random_items):
    item = random_items(0)[0]
    assert item.solution() == Solution(item.question, item.steps, item.id)
    assert replace(item, steps=("a",)).solution().steps == ("a",)
