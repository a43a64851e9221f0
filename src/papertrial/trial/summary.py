"""What a run found, as one object: the terminal, the report, `--json` and the reference evidence show it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, quantiles, stdev
from typing import Any

from papertrial.trial.card import Card
from papertrial.trial.contract import Metric, MetricKind, Trial
from papertrial.trial.environment import describe_machine
from papertrial.trial.evidence import Curve, Evidence, Measurement
from papertrial.trial.measuring import Failure
from papertrial.trial.runner import Options, Result
from papertrial.trial.settings import changed_settings, settings_of
from papertrial.trial.tuning import at_edge, best_points
from papertrial.trial.verdict import Verdict, judge

BUSY_LOAD = 0.75  # of the cores: above it, other work takes part in what is timed


@dataclass(frozen=True)
class Spread:
    """One metric over seeds.

    Attributes:
        centre: the mean; the median where the metric is timed.
        width: the standard deviation; half the interquartile range where timed; None below two seeds.
        seeds: how many.
    """

    centre: float
    width: float | None
    seeds: int


@dataclass(frozen=True)
class ArmSummary:
    """One arm: its tuned point, its metrics, what it cost.

    Attributes:
        point: the tuned settings.
        edges: tuned fields whose best value lies at the end of its grid.
    """

    arm: str
    point: Mapping[str, Any]
    edges: Sequence[str]
    metrics: Mapping[str, Spread]
    wall_seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class TrialSummary:
    """One trial under one group of settings: what was asked, where, and what came of it."""

    name: str
    help: str
    scale: str
    settings: Mapping[str, Any]
    changed: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    curve: str | None
    timed: bool
    arms: Sequence[ArmSummary]
    measurements: Sequence[Measurement]
    sweep: Sequence[Measurement]
    curves: Mapping[str, Mapping[int, Mapping[str, Curve]]]
    failures: Sequence[Failure]
    machines: Sequence[str]
    packages: Mapping[str, str]
    threads: Sequence[int]
    busy: bool
    command: str
    folder: Path | None
    artifacts: Sequence[Path] = ()
    unsaved: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def seeds(self) -> int:
        """How many seeds every arm has."""
        return len({one.seed for one in self.measurements})


@dataclass(frozen=True)
class PaperSummary:
    """One paper: its card, its trials as run, its verdicts."""

    card: Card
    trials: Mapping[str, TrialSummary]
    verdicts: Mapping[str, Verdict]
    made: str

    @property
    def failed(self) -> bool:
        """Whether a measurement raised or could not be written."""
        return any(trial.failures or trial.unsaved for trial in self.trials.values())

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the run."""
        return any(trial.interrupted for trial in self.trials.values())

    def as_json(self) -> dict[str, Any]:
        """Return all of it as `--json` prints it."""
        raw: dict[str, Any] = asdict(self)
        raw["card"] = {
            "name": self.card.name,
            "field": self.card.field,
            "title": self.card.title,
            "arxiv": self.card.arxiv,
        }
        raw["claims"] = [self._claim_json(claim) for claim in raw.pop("verdicts")]
        for trial in raw["trials"].values():
            trial["folder"] = None if trial["folder"] is None else str(trial["folder"])
        return raw

    def _claim_json(self, name: str) -> dict[str, Any]:
        claim, verdict = self.card.claim(name), self.verdicts[name]
        about = asdict(claim) | {"relation": None if claim.relation is None else str(claim.relation)}
        trial = self.trials.get(claim.trial or "")
        return about | asdict(verdict) | {"scale": trial and trial.scale}


def summarise(
    card: Card,
    trial_types: Mapping[str, type[Trial]],
    runs: Mapping[str, tuple[Trial, Result]],
    options: Options | None = None,
) -> PaperSummary:
    """Summarise what was run of a paper and judge its claims.

    Args:
        card: the paper's card.
        trial_types: all trials of the room; those not run leave their claims "not measured".
        runs: the trials that were run, with their settings and results.
        options: how they were run, for the command that repeats it.
    """
    summaries = {
        name: _summarise_trial(f"{card.name}.{name}", name, trial, result, options)
        for name, (trial, result) in runs.items()
    }
    verdicts = judge(
        card,
        {name: summary.measurements for name, summary in summaries.items()},
        {name: trial.metrics for name, trial in trial_types.items()},
    )
    return PaperSummary(card, summaries, verdicts, datetime.now(UTC).isoformat(timespec="seconds"))


def command_for(name: str, trial: Trial, seeds: int | None = None, arms: Sequence[str] | None = None) -> str:
    """Return the command that repeats a run.

    Args:
        name: `paper.trial`.
        trial: the settings.
        seeds: the number of seeds, where it is not the trial's own.
        arms: the arms, where not all were measured.
    """
    words = ["papertrial", "try", name]
    if seeds is not None and seeds != trial.seeds:
        words += ["--seeds", str(seeds)]
    if arms is not None:
        words += ["--arms", ",".join(arms)]
    for setting, value in changed_settings(trial).items():
        flag = setting.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def _summarise_trial(
    full_name: str, name: str, trial: Trial, result: Result, options: Options | None
) -> TrialSummary:
    measured = result.measurements
    environments = _environments(result.evidence, measured)
    cores = max((one["machine"]["cores"] or 1 for one in environments), default=1)
    loads = [one.load for one in measured if one.load is not None]
    return TrialSummary(
        name=name,
        help=(type(trial).__doc__ or "").strip().split("\n")[0],
        scale=trial.scale(),
        settings=settings_of(trial),
        changed=changed_settings(trial),
        metrics=trial.metrics,
        curve=trial.curve,
        timed=trial.timed,
        arms=_summarise_arms(trial, result),
        measurements=measured,
        sweep=result.sweep,
        curves=result.curves,
        failures=result.failures,
        machines=sorted({describe_machine(one) for one in environments}),
        packages=environments[-1]["packages"] | {"python": environments[-1]["python"]}
        if environments
        else {},
        threads=sorted({one.threads for one in measured}),
        busy=trial.timed and bool(loads) and sorted(loads)[len(loads) // 2] > BUSY_LOAD * cores + 1,
        command=command_for(
            full_name, trial, options.seeds if options else None, options.arms if options else None
        ),
        folder=result.evidence.folder,
        artifacts=result.evidence.artifacts(),
        unsaved=result.unsaved,
        interrupted=result.interrupted,
    )


def _environments(evidence: Evidence, measured: Sequence[Measurement]) -> list[dict[str, Any]]:
    names = dict.fromkeys(one.environment for one in sorted(measured, key=lambda one: one.finished))
    return [found for name in names if (found := evidence.environment(name)) is not None]


def _summarise_arms(trial: Trial, result: Result) -> list[ArmSummary]:
    best = best_points(trial, result.sweep)
    summaries = []
    for arm in trial.arms:
        measured = [one for one in result.measurements if one.arm == arm]
        if not measured:
            continue
        peaks = [one.peak_bytes for one in measured if one.peak_bytes is not None]
        point = best.get(arm, dict(measured[0].point))
        summaries.append(
            ArmSummary(
                arm=arm,
                point=point,
                edges=at_edge(trial, arm, point),
                metrics={
                    name: _spread([one.metrics[name] for one in measured], metric.kind)
                    for name, metric in trial.metrics.items()
                },
                wall_seconds=math.fsum(one.wall_seconds for one in measured) / len(measured),
                peak_bytes=max(peaks, default=None),
            )
        )
    return summaries


def _spread(values: Sequence[float], kind: MetricKind) -> Spread:
    count = len(values)
    if not all(map(math.isfinite, values)):
        return Spread(math.nan, None, count)
    if count < 2:
        return Spread(values[0], None, count)
    if kind == "timed":
        low, middle, high = quantiles(values, n=4, method="inclusive")
        return Spread(middle, (high - low) / 2, count)
    return Spread(fmean(values), stdev(values), count)
