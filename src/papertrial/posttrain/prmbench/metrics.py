"""Counting right and wrong labels, all classes in one vectorised pass.

A good step is a positive. An undefined ratio is −1, and F1 is computed from those −1s unless they cancel:
the released code does so, and its published numbers rest on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.classes import CLASSES, CONTROL, GROUPS
from papertrial.posttrain.prmbench.rows import Item
from papertrial.posttrain.steps import StepLabels, Unscored

UNDEFINED = -1.0
KINDS = (*(one.file_name for one in CLASSES), CONTROL)
_KIND_NUMBER = {name: number for number, name in enumerate(KINDS)}
_BY_REDUNDANCY = np.array([one.judged_by_redundancy for one in CLASSES] + [False])


@dataclass(frozen=True)
class Scores:
    """The eleven metrics of one class, or of all together.

    Attributes:
        precision, recall, f1: of good steps.
        negative_precision, negative_recall, negative_f1: of wrong steps.
        step_accuracy: labels that are right.
        correct_step_accuracy: good steps that are labelled good.
        wrong_step_accuracy: wrong steps that are labelled wrong.
        first_error_accuracy: items whose first wrong step is labelled wrong.
        similarity: mean distance between an item's share of good labels and its control's. It is called
            similarity in the paper; smaller is more alike.
    """

    precision: float
    recall: float
    f1: float
    negative_precision: float
    negative_recall: float
    negative_f1: float
    step_accuracy: float
    correct_step_accuracy: float
    wrong_step_accuracy: float
    first_error_accuracy: float
    similarity: float


@dataclass(frozen=True, eq=False)
class Sheet:
    """The items' truth in flat arrays, ready for counting many sets of labels.

    Attributes:
        items: what the arrays are about, in order.
        starts: where each item's steps begin in the flat arrays; one more than there are items.
        wrong: whether each step is wrong.
        kind: for each item, its place in `KINDS`.
        first_error: for each item, the flat place of its first listed error; −1 where it has none inside.
        control: for each item, the number of the control of the same problem; −1 where there is none.
    """

    items: Sequence[Item]
    starts: Int[np.ndarray, " items_and_end"]
    wrong: Bool[np.ndarray, " all_steps"]
    kind: Int[np.ndarray, " items"]
    first_error: Int[np.ndarray, " items"]
    control: Int[np.ndarray, " items"]

    @cached_property
    def kind_of_step(self) -> Int[np.ndarray, " all_steps"]:
        """For each step, the place of its item's class in `KINDS`."""
        return np.repeat(self.kind, np.diff(self.starts))

    @cached_property
    def item_of_step(self) -> Int[np.ndarray, " all_steps"]:
        """For each step, the number of its item."""
        return np.repeat(np.arange(len(self.items)), np.diff(self.starts))


def make_sheet(items: Sequence[Item]) -> Sheet:
    """Lay items out for counting.

    Raises:
        BadInputError: no items, or two with one id.
    """
    if not items:
        raise BadInputError("there are no items to evaluate")
    number_of = {item.id: number for number, item in enumerate(items)}
    if len(number_of) < len(items):
        raise BadInputError(
            f"{len(items) - len(number_of)} items share an id with another; ids must be unique"
        )
    starts = np.concatenate([[0], np.cumsum([len(item.steps) for item in items])])
    wrong = np.zeros(starts[-1], dtype=bool)
    wrong[
        [start + place - 1 for start, item in zip(starts, items, strict=False) for place in item.errors]
    ] = True
    # An item whose first listed error lies beyond its last step has no first error, as in the released code.
    first = [
        int(start) + item.first_listed - 1 if item.first_listed in item.errors else -1
        for start, item in zip(starts, items, strict=False)
    ]
    control = [
        number_of.get(f"{CONTROL}_{item.idx}", -1) if item.classification != CONTROL else -1 for item in items
    ]
    kind = np.array([_KIND_NUMBER[item.classification] for item in items])
    return Sheet(items, starts, wrong, kind, np.array(first), np.array(control))


@dataclass(frozen=True, eq=False)
class Labels:
    """What a scorer said, laid out beside a sheet.

    Attributes:
        good: for each step of the sheet, whether it counts as labelled good (False where not judged).
        judged: for each item, whether it has valid labels.
        present: for each item, whether there is any prediction, valid or not.
    """

    good: Bool[np.ndarray, " all_steps"]
    judged: Bool[np.ndarray, " items"]
    present: Bool[np.ndarray, " items"]


def lay_out(
    sheet: Sheet, predictions: Mapping[str, StepLabels | Unscored], *, allowed_missing: int = 0
) -> Labels:
    """Put predictions in a sheet's order; redundancy decides for the two classes of simplicity.

    Args:
        sheet: the items' truth.
        predictions: by item id.
        allowed_missing: how many items may lack a prediction. The released evaluation lets four pass.

    Raises:
        BadInputError: predictions for unknown ids, more missing ones than allowed, or a number of labels
            that is not the number of steps (the released code silently shortens).
    """
    strangers = sorted(set(predictions) - {item.id for item in sheet.items})
    missing = [item.id for item in sheet.items if item.id not in predictions]
    if strangers:
        raise BadInputError(f"{len(strangers)} predictions are for unknown items: {_listed(strangers)}")
    if len(missing) > allowed_missing:
        raise BadInputError(f"{len(missing)} items have no prediction: {_listed(missing)}")
    good: list[np.ndarray] = []
    judged = np.zeros(len(sheet.items), dtype=bool)
    for number, item in enumerate(sheet.items):
        labels = predictions.get(item.id)
        if not isinstance(labels, StepLabels):
            good.append(np.zeros(len(item.steps), dtype=bool))
            continue
        redundant = labels.redundant if _BY_REDUNDANCY[sheet.kind[number]] else None
        chosen = labels.good if redundant is None else ~redundant
        if len(chosen) != len(item.steps):
            raise BadInputError(f"{item.id} has {len(item.steps)} steps and {len(chosen)} labels")
        judged[number] = True
        good.append(chosen)
    present = np.array([item.id in predictions for item in sheet.items])
    return Labels(np.concatenate(good), judged, present)


@dataclass(frozen=True)
class Report:
    """All numbers of one scorer.

    Attributes:
        total: over the nine classes; controls do not count.
        by_kind: by class, as the files spell it, and for the controls.
        validity_rate: judged items among those that should be (controls with a prediction left out).
        items: judged items of the nine classes.
        steps: judged steps over the nine classes.
        good_share: the share of good steps among them.
    """

    total: Scores
    by_kind: Mapping[str, Scores]
    validity_rate: float
    items: int
    steps: int
    good_share: float

    def prm_score(self, kind: str | None = None, *, behaviour: str = "paper") -> float:
        """Return the PRMScore, in per cent: half the F1 of good and half that of wrong steps.

        Args:
            kind: a class; None takes the pooled counts of all nine.
            behaviour: "paper" takes F1 alone for a class without wrong steps, as the published tables do;
                "released" applies the spreadsheet's formula there too, which gives a perfect scorer 0.

        Raises:
            BadInputError: another behaviour.
        """
        if behaviour not in ("paper", "released"):
            raise BadInputError(f"behaviour must be 'paper' or 'released', got {behaviour!r}")
        scores = self.total if kind is None else self.by_kind[kind]
        without_errors = kind in (CONTROL, "multi_solutions")
        if without_errors and behaviour == "paper":
            return 100 * scores.f1
        return 50 * (scores.f1 + scores.negative_f1)

    def group_score(self, group: str) -> float:
        """Return the plain mean of a group's class scores, in per cent; classes without items are left out.

        Raises:
            BadInputError: an unknown group.
        """
        if group not in GROUPS:
            raise BadInputError(f"group must be one of {', '.join(GROUPS)}; got {group!r}")
        kinds = [one.file_name for one in CLASSES if one.group == group and one.file_name in self.by_kind]
        return float(np.mean([self.prm_score(kind) for kind in kinds])) if kinds else float("nan")


def evaluate_labels(sheet: Sheet, labels: Labels) -> Report:
    """Count labels against the truth.

    Source: arXiv 2501.03124, section 4; ssmisya/PRMBench `mr_eval/tasks/prmtest_classified/task.py`.
    """
    counted = labels.judged[sheet.item_of_step]
    cell = sheet.kind_of_step * 4 + sheet.wrong * 2 + labels.good
    counts = np.bincount(cell[counted], minlength=4 * len(KINDS)).reshape(len(KINDS), 2, 2)
    first_right = _first_errors(sheet, labels)
    distance = _distances(sheet, labels)
    members = [sheet.kind == number for number in range(len(KINDS))]
    edited = sheet.kind != _KIND_NUMBER[CONTROL]
    by_kind = {
        kind: _scores(counts[number], first_right[members[number]], distance[members[number]])
        for number, kind in enumerate(KINDS)
        if members[number].any()
    }
    pooled = counts[: len(CLASSES)].sum(axis=0)
    valid = int((labels.judged & edited).sum())
    expected = len(sheet.items) - int((labels.present & ~edited).sum())
    return Report(
        total=_scores(pooled, first_right[edited], distance[edited]),
        by_kind=by_kind,
        validity_rate=valid / expected if expected else float("nan"),
        items=valid,
        steps=int(pooled.sum()),
        good_share=_ratio(int(pooled[0].sum()), int(pooled.sum())),
    )


def good_share(items: Sequence[Item]) -> float:
    """Return the share of good steps over the nine classes.

    Raises:
        BadInputError: no items of the nine classes.
    """
    return float(1 - make_sheet([item for item in items if item.classification != CONTROL]).wrong.mean())


def _first_errors(sheet: Sheet, labels: Labels) -> np.ndarray:
    """For each item, 1 if its first error is labelled wrong, 0 if good, NaN where there is nothing to judge."""
    known = (sheet.first_error >= 0) & labels.judged
    right = np.full(len(sheet.items), np.nan)
    right[known] = ~labels.good[sheet.first_error[known]]
    return right


def _distances(sheet: Sheet, labels: Labels) -> np.ndarray:
    """For each item, how far its mean label lies from its control's; NaN where there is no such control."""
    mean = np.add.reduceat(labels.good.astype(np.int64), sheet.starts[:-1]) / np.diff(sheet.starts)
    known = labels.judged & (sheet.control >= 0)
    known[known] = labels.judged[sheet.control[known]] & (mean[sheet.control[known]] > 0)
    distance = np.full(len(sheet.items), np.nan)
    distance[known] = np.abs(mean[known] - mean[sheet.control[known]])
    return distance


def _scores(counts: np.ndarray, first_right: np.ndarray, distance: np.ndarray) -> Scores:
    """Return the metrics of a table of counts: rows good and wrong steps, columns labelled bad and good."""
    (false_negative, true_positive), (true_negative, false_positive) = counts.tolist()
    precision = _ratio(true_positive, true_positive + false_positive)
    recall = _ratio(true_positive, true_positive + false_negative)
    negative_precision = _ratio(true_negative, true_negative + false_negative)
    negative_recall = _ratio(true_negative, true_negative + false_positive)
    return Scores(
        precision=precision,
        recall=recall,
        f1=_f1(precision, recall),
        negative_precision=negative_precision,
        negative_recall=negative_recall,
        negative_f1=_f1(negative_precision, negative_recall),
        step_accuracy=_ratio(true_positive + true_negative, int(counts.sum())),
        correct_step_accuracy=recall,
        wrong_step_accuracy=negative_recall,
        first_error_accuracy=_mean(first_right),
        similarity=_mean(distance),
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else UNDEFINED


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else UNDEFINED


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else UNDEFINED


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
