"""Summaries of trials from what lies on disk: one's own evidence, or the reference run that ships."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from papertrial.errors import BadInputError
from papertrial.site.evidence_index import Group
from papertrial.trial.card import Card
from papertrial.trial.contract import Trial
from papertrial.trial.evidence import TUNING_SEED, Evidence, Measurement
from papertrial.trial.files import number_from_json
from papertrial.trial.runner import Result
from papertrial.trial.summary import PaperSummary, TrialSummary, summarise

NO_FOLDER = Path("-")


def restore(kind: type[Trial], settings: Mapping[str, Any]) -> Trial:
    """Return a trial with settings as JSON holds them.

    Raises:
        BadInputError: the trial has no such settings any more.
    """
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}
    if set(settings) != known:
        differing = ", ".join(sorted(set(settings) ^ known))
        raise BadInputError(f"{kind.__name__} has other settings now: {differing}")
    return kind(**{name: _typed(value, hints[name]) for name, value in settings.items()})


def trial_of_group(card: Card, kinds: Mapping[str, type[Trial]], group: Group) -> Trial:
    """Return the trial with the settings of a group.

    Raises:
        BadInputError: the trial, its version or its settings are not those of the room any more.
    """
    kind = kinds.get(group.trial)
    if kind is None:
        raise BadInputError(f"{card.name} has no trial {group.trial!r} any more")
    if kind.version != group.version:
        raise BadInputError(
            f"{card.name}.{group.trial} has version {kind.version} now, this was measured by {group.version}"
        )
    return restore(kind, group.settings)


def summary_of_group(card: Card, kinds: Mapping[str, type[Trial]], group: Group) -> PaperSummary:
    """Summarise what was measured under one group of settings, with the verdicts that follow from it.

    Raises:
        BadInputError: the trial, its version or its settings are not those of the room any more.
    """
    trial = trial_of_group(card, kinds, group)
    measured = _measurements(group.folder, trial)
    evidence = Evidence(group.folder)
    result = Result(
        evidence,
        measurements=[one for one in measured if one.seed != TUNING_SEED],
        sweep=[one for one in measured if one.seed == TUNING_SEED],
        curves=evidence.curves(),
    )
    summary = summarise(card, kinds, {group.trial: (trial, result)})
    shown = summary.trials[group.trial]
    own = [path for path in shown.artifacts if not _linked(group.folder, path)]
    newest = max((one.finished for one in result.measurements), default=summary.made)
    trials = {group.trial: replace(shown, artifacts=own)}
    return replace(summary, trials=trials, made=newest)


def summary_of_reference(
    card: Card, kinds: Mapping[str, type[Trial]], reference: Mapping[str, Any]
) -> dict[str, TrialSummary]:
    """Summarise the trials of a reference run; a trial that has changed since then is left out."""
    found = {}
    for name, raw in reference["trials"].items():
        kind = kinds.get(name)
        if kind is None or list(kind.metrics) != raw["metrics"] or kind.version != raw["version"]:
            continue
        try:
            trial = restore(kind, raw["settings"])
        except BadInputError:
            continue
        metrics, points = raw["metrics"], raw.get("points", {})
        measured = [
            _unpacked(arm, seed, points.get(arm, {}), metrics, values)
            for arm, seed, *values in raw["measurements"]
        ]
        sweep = [
            _unpacked(arm, TUNING_SEED, point, metrics, values)
            for arm, point, *values in raw.get("sweep", ())
        ]
        result = Result(Evidence(NO_FOLDER), measurements=measured, sweep=sweep)
        shown = summarise(card, {name: kind}, {name: (trial, result)}).trials[name]
        found[name] = replace(
            shown,
            scale=raw["scale"],
            command=raw["command"],
            machines=[reference["machine"]],
            packages=reference["packages"],
            threads=(),
            busy=False,
            folder=None,
            arms=[replace(arm, wall_seconds=float("nan")) for arm in shown.arms],
        )
    return found


def _measurements(folder: Path, trial: Trial) -> list[Measurement]:
    """Read everything measured; unlike the runner, a reader leaves files that it cannot read where they are."""
    found = []
    for file in sorted((folder / "measured").glob("[!.]*.json")):
        try:
            read = [Measurement.from_json(raw) for raw in json.loads(file.read_bytes())]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        found += [one for one in read if one.arm in trial.arms and set(one.metrics) == set(trial.metrics)]
    return sorted(found, key=lambda one: (one.seed, trial.arms.index(one.arm)))


def _unpacked(
    arm: str, seed: int, point: Mapping[str, Any], metrics: Sequence[str], values: Sequence[Any]
) -> Measurement:
    numbers = {name: number_from_json(value) for name, value in zip(metrics, values, strict=True)}
    return Measurement(arm, seed, numbers, point)


def _typed(value: Any, hint: Any) -> Any:
    """Turn lists back into tuples and texts into paths, where the setting is one."""
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if isinstance(value, list) and any(get_origin(one) is tuple for one in choices):
        inner = next((get_args(one)[0] for one in choices if get_origin(one) is tuple), str)
        return tuple(_typed(one, inner) for one in value)
    if isinstance(value, str) and Path in choices and str not in choices:
        return Path(value)
    return value


def _linked(folder: Path, path: Path) -> bool:
    """Say whether a link lies on the way from the folder to the file."""
    return any((folder / part).is_symlink() for part in [path, *path.parents][:-1])
