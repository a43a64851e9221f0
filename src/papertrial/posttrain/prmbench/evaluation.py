"""A scorer put through the benchmark: scored once, then counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from papertrial.posttrain.prmbench.chance import chance_prm_score
from papertrial.posttrain.prmbench.classes import CLASSES, CONTROL, GROUPS
from papertrial.posttrain.prmbench.metrics import Report, evaluate_labels, lay_out, make_sheet
from papertrial.posttrain.prmbench.rows import Item
from papertrial.posttrain.prmbench.thresholds import auroc, sweep_thresholds
from papertrial.posttrain.steps import OnScored, StepScorer, StepScores, Unscored, judge


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a scorer made of the benchmark.

    Attributes:
        report: the benchmark's own metrics.
        auroc: how well validity scores order good above wrong steps, over all nine classes.
        scores: by item id, what the scorer said.
        validity_threshold, redundancy_threshold: where its scores were cut.
    """

    report: Report
    auroc: float
    scores: Mapping[str, StepScores | Unscored]
    validity_threshold: float
    redundancy_threshold: float

    def metrics(self) -> dict[str, float]:
        """Return the headline numbers by name; scores and accuracies in per cent.

        `simplicity_gap` is the simplicity group's score less the mean of the six other classes with errors.
        What is undefined is −1 (−100 in per cent) as in the released code; a class without items is NaN.
        """
        by_kind = self.report.by_kind
        numbers = {"prmscore": self.report.prm_score()}
        numbers |= {group: self.report.group_score(group) for group in GROUPS}
        for one in CLASSES:
            known = one.file_name in by_kind
            numbers[one.short.lower()] = self.report.prm_score(one.file_name) if known else float("nan")
        others = [numbers[name] for name in ("es", "sc", "dc", "ci", "ps", "dr")]
        numbers["simplicity_gap"] = numbers["simplicity"] - sum(others) / len(others)
        numbers["first_error_accuracy"] = 100 * self.report.total.first_error_accuracy
        numbers["similarity"] = self.report.total.similarity
        numbers["auroc"] = self.auroc
        numbers["validity_rate"] = self.report.validity_rate
        numbers["items"] = float(self.report.items)
        numbers["steps"] = float(self.report.steps)
        return numbers

    def class_table(self) -> list[dict[str, str | float]]:
        """Return the PRMScore and the eleven metrics of all classes together and of each."""
        rows: list[dict[str, str | float]] = [
            {"class": "all nine", "prmscore": self.report.prm_score(), **asdict(self.report.total)}
        ]
        rows += [
            {"class": kind, "prmscore": self.report.prm_score(kind), **asdict(scores)}
            for kind, scores in self.report.by_kind.items()
        ]
        return rows

    def chance_table(self) -> list[dict[str, str | float]]:
        """Return what guessing reaches on these items, in expectation (NaN where all steps are good)."""
        share = self.report.good_share
        levels = {"always good": 1.0, "base rate": share, "fair coin": 0.5, "always bad": 0.0}
        return [
            {"scorer": name, "prmscore": chance_prm_score(share, rate) if 0 < share < 1 else float("nan")}
            for name, rate in levels.items()
        ]


def score_items(
    scorer: StepScorer, items: Sequence[Item], on_scored: OnScored | None = None
) -> dict[str, StepScores | Unscored]:
    """Return what a scorer says of every item, by id."""
    results = scorer.score_all([item.solution() for item in items], on_scored)
    return {item.id: result for item, result in zip(items, results, strict=True)}


def evaluate_scores(
    items: Sequence[Item],
    scores: Mapping[str, StepScores | Unscored],
    validity_threshold: float = 0.5,
    redundancy_threshold: float = 0.5,
    *,
    allowed_missing: int = 0,
) -> Evaluation:
    """Cut scores at the thresholds and count.

    Raises:
        BadInputError: as `lay_out`: unknown or missing ids, or a wrong number of labels.
    """
    sheet = make_sheet(items)
    predictions = {
        name: judge(given, validity_threshold, redundancy_threshold)
        if isinstance(given, StepScores)
        else given
        for name, given in scores.items()
    }
    report = evaluate_labels(sheet, lay_out(sheet, predictions, allowed_missing=allowed_missing))
    ordered, wrong = pooled_scores(items, scores)
    separable = len(wrong) > 0 and wrong.any() and not wrong.all()
    area = auroc(ordered, wrong) if separable else float("nan")
    return Evaluation(report, area, scores, validity_threshold, redundancy_threshold)


def evaluate(scorer: StepScorer, items: Sequence[Item], on_scored: OnScored | None = None) -> Evaluation:
    """Score all items and count, at the scorer's own thresholds."""
    scores = score_items(scorer, items, on_scored)
    return evaluate_scores(items, scores, scorer.validity_threshold, scorer.redundancy_threshold)


def tune_threshold(scorer: StepScorer, items: Sequence[Item]) -> float:
    """Set and return the scorer's validity threshold: the one of the highest PRMScore on these items."""
    scorer.validity_threshold = sweep_thresholds(*pooled_scores(items, score_items(scorer, items))).best
    return scorer.validity_threshold


def pooled_scores(
    items: Sequence[Item], scores: Mapping[str, StepScores | Unscored]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the validity scores of all judged steps of the nine classes, and which of them are wrong."""
    judged = [
        (item, given)
        for item in items
        if item.classification != CONTROL and isinstance(given := scores.get(item.id), StepScores)
    ]
    if not judged:
        return np.empty(0), np.empty(0, dtype=bool)
    return np.concatenate([given.validity for _, given in judged]), make_sheet(
        [item for item, _ in judged]
    ).wrong
