"""Arms and the points of their grids: what is tried, and which point is best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from papertrial.errors import unknown
from papertrial.trial.contract import Trial
from papertrial.trial.evidence import Measurement


def best_points(trial: Trial, sweep: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    """Return each arm's best point of its grid: the one with the best finite value of `tuned_on`.

    Arms of which no point gave a finite value are left out; arms without a grid have the empty point.
    """
    best: dict[str, dict[str, Any]] = {}
    for arm in trial.arms:
        if len(grid_points(trial, arm)) <= 1:
            best[arm] = dict(grid_points(trial, arm)[0])
            continue
        assert trial.tuned_on is not None, f"{type(trial).__name__} has a grid and no tuned_on"
        sign = 1 if trial.metrics[trial.tuned_on].better == "lower" else -1
        tried = [
            (sign * one.metrics[trial.tuned_on], at, one)
            for at, one in enumerate(sweep)
            if one.arm == arm and math.isfinite(one.metrics[trial.tuned_on])
        ]
        if tried:
            best[arm] = dict(min(tried)[2].point)
    return best


def grid_points(trial: Trial, arm: str) -> list[dict[str, Any]]:
    """Return the points to try for an arm; a field that the user has set is not tuned."""
    axes = {name: values for name, values in trial.grid.get(arm, {}).items() if getattr(trial, name) is None}
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def at_edge(trial: Trial, arm: str, point: Mapping[str, Any]) -> list[str]:
    """Return the fields whose best value is the smallest or largest tried: their grid may be too narrow."""
    grid = trial.grid.get(arm, {})
    return [
        name
        for name, value in point.items()
        if len(grid[name]) > 1 and value in (min(grid[name]), max(grid[name]))
    ]


def choose_arms(trial: type[Trial], arms: Sequence[str]) -> tuple[str, ...]:
    """Return the arms to measure, in the trial's order.

    Raises:
        BadInputError: one of them is not an arm of this trial.
    """
    for arm in arms:
        if arm not in trial.arms:
            raise unknown("arm", arm, trial.arms)
    return tuple(arm for arm in trial.arms if arm in arms)
