"""Two runs side by side: which settings differ, and what every arm measured in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from papertrial.trial.contract import Metric
from papertrial.trial.evidence import Curve
from papertrial.trial.plots import arm_colours
from papertrial.trial.summary import PaperSummary, Spread, TrialSummary
from papertrial.trial.verdict import Verdict


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes:
        trials: the two.
        settings: those that differ, with both values; None where one trial has no such setting.
        rows: for each metric and arm that both have, both values and how the second relates to the first.
        verdicts: for each claim that either judges, both verdicts.
        curves: the main curve of every arm in both, by "arm (1)" and "arm (2)"; empty without one.
    """

    trials: tuple[TrialSummary, TrialSummary]
    settings: Sequence[tuple[str, Any, Any]]
    rows: Sequence[tuple[str, Metric, str, Spread, Spread, str]]
    verdicts: Sequence[tuple[str, Verdict | None, Verdict | None]]
    curves: Mapping[str, Sequence[Curve]]

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each curve: an arm's own in both runs."""
        own = arm_colours([arm.arm for arm in self.trials[0].arms])
        return {name: own[name.rpartition(" (")[0]] for name in self.curves}

    @property
    def dashed(self) -> list[str]:
        """The curves of the second run."""
        return [name for name in self.curves if name.endswith("(2)")]

    @property
    def same_trial(self) -> bool:
        """Whether both are runs of one trial, so that their numbers mean the same."""
        return self.trials[0].name == self.trials[1].name


def compare(first: PaperSummary, second: PaperSummary) -> Comparison:
    """Put two runs of a paper side by side. Each has one trial."""
    one, other = (next(iter(run.trials.values())) for run in (first, second))
    return Comparison(
        (one, other),
        _settings(one.settings, other.settings),
        _rows(one, other) if one.name == other.name else [],
        [
            (claim.says, first.verdicts.get(claim.name), second.verdicts.get(claim.name))
            for claim in first.card.claims
            if claim.name in first.verdicts or claim.name in second.verdicts
        ],
        _curves(one, other) if one.name == other.name else {},
    )


def _settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    names = dict.fromkeys([*one, *other])
    return [
        (name, one.get(name), other.get(name))
        for name in names
        if name not in one or name not in other or one[name] != other[name]
    ]


def _rows(one: TrialSummary, other: TrialSummary) -> list[tuple[str, Metric, str, Spread, Spread, str]]:
    arms = {arm.arm: arm.metrics for arm in other.arms}
    rows = []
    for name, metric in one.metrics.items():
        for arm in one.arms:
            if arm.arm in arms:
                first, second = arm.metrics[name], arms[arm.arm][name]
                rows.append((name, metric, arm.arm, first, second, _change(first.centre, second.centre)))
    return rows


def _change(first: float, second: float) -> str:
    """Say the second number as a multiple of the first."""
    if first == second:
        return "="
    if not first or first != first or second != second or second / first < 0:
        return "–"
    return f"{second / first:.3g}x"


def _curves(one: TrialSummary, other: TrialSummary) -> dict[str, list[Curve]]:
    name = one.curve
    if name is None:
        return {}
    found = {}
    for arm in (arm.arm for arm in one.arms):
        for number, trial in enumerate((one, other), start=1):
            curves = [values[name] for values in trial.curves.get(arm, {}).values() if name in values]
            if curves:
                found[f"{arm} ({number})"] = curves
    return found
