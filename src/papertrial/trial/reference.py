"""Reference evidence: each room's default trials, measured on a named machine and shipped with the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from papertrial.trial.card import Card
from papertrial.trial.files import to_json
from papertrial.trial.latest import Latest, recall
from papertrial.trial.rooms import Room
from papertrial.trial.settings import settings_of
from papertrial.trial.verdict import Verdict

if TYPE_CHECKING:
    from papertrial.trial.contract import Trial
    from papertrial.trial.summary import PaperSummary


REFERENCE_FILE = "reference.json"
_DIGITS = 5


def make_reference(summary: PaperSummary, trials: Mapping[str, type[Trial]]) -> dict[str, Any]:
    """Return the reference evidence of a room: what its default trials measured, in a few kB.

    Args:
        summary: a run of all the room's trials at their defaults.
        trials: the room's trials.
    """
    return {
        "paper": summary.card.name,
        "made": summary.made,
        "machine": next(iter(summary.trials.values())).machines[0],
        "packages": next(iter(summary.trials.values())).packages,
        "card": claims_hash(summary.card),
        "verdicts": [asdict(verdict) for verdict in summary.verdicts.values()],
        "trials": {
            name: {
                "version": trials[name].version,
                "settings": settings_of(trials[name]()),
                "scale": trial.scale,
                "command": trial.command,
                "points": {arm.arm: dict(arm.point) for arm in trial.arms if arm.point},
                "metrics": list(trial.metrics),
                "measurements": [
                    [one.arm, one.seed, *(_short(one.metrics[metric]) for metric in trial.metrics)]
                    for one in trial.measurements
                ],
                "sweep": [
                    [one.arm, dict(one.point), *(_short(one.metrics[metric]) for metric in trial.metrics)]
                    for one in trial.sweep
                ],
            }
            for name, trial in summary.trials.items()
        },
    }


def write_reference(folder: Path, reference: Mapping[str, Any]) -> Path:
    """Write a room's reference evidence."""
    path = folder / REFERENCE_FILE
    path.write_bytes(to_json(reference) + b"\n")
    return path


def load_reference(room: Room) -> dict[str, Any] | None:
    """Return a room's reference evidence, or None where it has none."""
    try:
        reference: dict[str, Any] = json.loads((room.folder / REFERENCE_FILE).read_bytes())
    except FileNotFoundError:
        return None
    return reference


def reference_verdicts(room: Room) -> dict[str, Latest]:
    """Return the verdicts of a room's reference run, by claim."""
    reference = load_reference(room)
    return {} if reference is None else verdicts_in(reference, room.card)


def verdicts_in(reference: Mapping[str, Any], card: Card) -> dict[str, Latest]:
    """Return the verdicts of reference evidence on a card's claims, by claim."""
    trials = {claim.name: claim.trial or "" for claim in card.tested}
    return {
        raw["claim"]: Latest(
            Verdict.from_json(raw),
            reference["made"],
            reference["trials"][trials[raw["claim"]]]["scale"],
            reference["trials"][trials[raw["claim"]]]["command"],
        )
        for raw in reference["verdicts"]
        if raw["claim"] in trials and trials[raw["claim"]] in reference["trials"]
    }


def latest_verdicts(room: Room, where: Path) -> tuple[dict[str, Latest], str]:
    """Return the latest verdicts on a paper's claims, and whose they are.

    Claim by claim the user's own evidence counts, else the reference run that ships with the package.
    """
    names = {claim.name for claim in room.card.tested}
    own = {name: one for name, one in recall(where, room.name).items() if name in names}
    shipped = {name: one for name, one in reference_verdicts(room).items() if name in names - own.keys()}
    made = max((one.made for one in shipped.values()), default="")[:10]
    sources = ["measured here"] * bool(own) + [f"reference run, {made}"] * bool(shipped)
    return {**shipped, **own}, "; ".join(sources) or "not measured"


def staleness(room: Room) -> list[str]:
    """Say why a room's reference evidence is not that of the room as it is now; empty where it is.

    The evidence is stale where a trial's version or default settings, the set of trials, or a tested claim's
    trial, metric, arms or relation have changed since it was made.
    """
    reference = load_reference(room)
    if reference is None:
        return [f"{room.name} has no reference evidence; make it with: make reference"]
    reasons = []
    trials = room.trials()
    if set(trials) != set(reference["trials"]):
        reasons.append(
            f"{room.name}: trials are {sorted(trials)}, measured were {sorted(reference['trials'])}"
        )
    for name, trial in trials.items():
        measured = reference["trials"].get(name)
        now = json.loads(to_json({"version": trial.version, "settings": settings_of(trial())}))
        if measured and now != {key: measured[key] for key in now}:
            reasons.append(f"{room.name}.{name}: its version or default settings have changed")
    if reference["card"] != claims_hash(room.card):
        reasons.append(f"{room.name}: a tested claim of its card has changed")
    return [f"{reason}; run make reference" for reason in reasons]


def claims_hash(card: Card) -> str:
    """Return the hash of what decides the card's verdicts."""
    deciding = [
        [claim.name, claim.trial, claim.metric, claim.arm, claim.against, str(claim.relation)]
        for claim in card.tested
    ]
    return hashlib.sha256(to_json(deciding)).hexdigest()[:10]


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
