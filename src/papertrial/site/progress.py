"""How far a run is: which pairs it must measure, which are measured, and what the running ones say."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from papertrial.trial.contract import Trial
from papertrial.trial.evidence import TUNING_SEED, Curve, Evidence, job_name
from papertrial.trial.tuning import grid_points

_MOST_POINTS = 400


@dataclass(frozen=True)
class ArmProgress:
    """One arm: how many of its pairs are measured, and the steps of those that run."""

    arm: str
    done: int
    planned: int
    running: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Progress:
    """A whole run.

    Attributes:
        phase: "tuning" until every point of the grids is measured, then "measuring".
        elapsed: seconds since it started.
        left: seconds that it will take about, where that can be told.
        curve: the name of the value that is drawn; None where nothing is.
        curves: by arm, one curve for each seed, running ones as far as they are.
    """

    phase: str
    arms: tuple[ArmProgress, ...]
    elapsed: float
    left: float | None = None
    curve: str | None = None
    curves: Mapping[str, Sequence[Curve]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many pairs are measured."""
        return sum(arm.done for arm in self.arms)

    @property
    def planned(self) -> int:
        """How many pairs there are."""
        return sum(arm.planned for arm in self.arms)


def planned_jobs(trial: Trial, seeds: int) -> dict[str, list[str]]:
    """Return the names of the files that a whole run leaves, by arm; a timed round counts for each arm."""
    jobs: dict[str, list[str]] = {}
    for arm in trial.arms:
        points = grid_points(trial, arm)
        tuning = [job_name(arm, TUNING_SEED, point) for point in points if len(points) > 1]
        if trial.timed:
            measuring = [f"round.seed-{seed}" for seed in range(seeds)]
        else:
            measuring = [job_name(arm, seed, {}) for seed in range(seeds)]
        jobs[arm] = tuning + measuring
    return jobs


class ProgressReader:
    """Reads how far one run is, for as many readers as there are.

    What running pairs say is gone once they are finished; it is kept here until their curves are written.
    """

    def __init__(self, evidence: Evidence, trial: Trial, seeds: int, started: float) -> None:
        self.evidence, self.trial, self.started = evidence, trial, started
        self.jobs = planned_jobs(trial, seeds)
        self.latest = Progress(
            "measuring", tuple(ArmProgress(a, 0, len(j)) for a, j in self.jobs.items()), 0.0
        )
        self.version = 0
        self._found: int | None = None
        self._points: dict[tuple[str, int], dict[str, Curve]] = {}
        self._written: tuple[int, dict[str, dict[int, dict[str, Curve]]]] = (-1, {})

    def poll(self) -> Progress:
        """Look at the files; `version` grows where something has changed."""
        measured = self._measured()
        live = self.evidence.live()
        arms = tuple(
            ArmProgress(
                arm,
                sum(job in measured for job in jobs),
                len(jobs),
                tuple(state for state in live if state.get("arm") == arm),
            )
            for arm, jobs in self.jobs.items()
        )
        self._take(live)
        tuning = {job for jobs in self.jobs.values() for job in jobs if job.endswith(f"seed-{TUNING_SEED}")}
        now = Progress(
            "tuning" if tuning - measured else "measuring",
            arms,
            time.time() - self.started,
            curve=self.trial.curve,
            curves=self._curves(len(measured)),
        )
        now = self._with_time_left(now)
        if (now.phase, now.arms) != (self.latest.phase, self.latest.arms):
            self.version += 1
        self.latest = now
        return now

    def _measured(self) -> set[str]:
        try:
            with os.scandir(self.evidence.folder / "measured") as entries:
                return {one.name.removesuffix(".json") for one in entries if not one.name.startswith(".")}
        except OSError:
            return set()

    def _take(self, live: Sequence[Mapping[str, Any]]) -> None:
        for state in live:
            curves = self._points.setdefault((str(state.get("arm")), int(state.get("seed", 0))), {})
            for name, value in dict(state.get("values", {})).items():
                steps, numbers = curves.setdefault(name, ([], []))
                if (not steps or state["done"] > steps[-1]) and len(steps) < _MOST_POINTS:
                    steps.append(float(state["done"]))
                    numbers.append(float(value))

    def _curves(self, measured: int) -> dict[str, list[Curve]]:
        """Return the main curve of every pair: written ones as they are, running ones as far as was seen."""
        name = self.trial.curve
        if name is None:
            return {}
        if self._written[0] != measured:
            self._written = (measured, self.evidence.curves())
        found: dict[str, list[Curve]] = {arm: [] for arm in self.jobs}
        for arm, seeds in self._written[1].items():
            found.setdefault(arm, []).extend(curves[name] for curves in seeds.values() if name in curves)
        for (arm, seed), curves in self._points.items():
            if seed != TUNING_SEED and seed not in self._written[1].get(arm, {}) and name in curves:
                found.setdefault(arm, []).append(curves[name])
        return {arm: [one for one in curves if len(one[0]) > 1] for arm, curves in found.items()}

    def _with_time_left(self, now: Progress) -> Progress:
        """Guess from the pairs that this run has measured; those found at its start say nothing."""
        if self._found is None:
            self._found = now.done
        fresh = now.done - self._found
        if fresh < 1 or now.done >= now.planned:
            return now
        left = now.elapsed / fresh * (now.planned - now.done)
        return Progress(now.phase, now.arms, now.elapsed, left, now.curve, now.curves)
