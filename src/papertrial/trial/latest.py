"""The latest verdict on each claim, kept beside the evidence so that listing papers reads one small file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from papertrial.trial.files import to_json, write_atomically
from papertrial.trial.verdict import Verdict

if TYPE_CHECKING:
    from papertrial.trial.summary import PaperSummary


@dataclass(frozen=True)
class Latest:
    """The latest verdict on one claim, with what it rests on."""

    verdict: Verdict
    made: str
    scale: str
    command: str


def remember(home: Path, summary: PaperSummary) -> None:
    """Keep the verdicts of a run; claims that it did not measure keep their earlier verdict.

    Raises:
        OSError: the home cannot be written.
    """
    file = _file(home, summary.card.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        kept = _read(file)
        for claim in summary.card.tested:
            verdict, trial = summary.verdicts[claim.name], summary.trials.get(claim.trial or "")
            if trial is not None and verdict.word != "not measured":
                kept[claim.name] = {
                    "verdict": asdict(verdict),
                    "made": summary.made,
                    "scale": trial.scale,
                    "command": trial.command,
                }
        write_atomically(file, to_json(kept, indent=1))


def recall(home: Path, paper: str) -> dict[str, Latest]:
    """Return the latest verdicts on a paper's claims, by claim; empty where none was measured."""
    return {
        name: Latest(Verdict.from_json(raw["verdict"]), raw["made"], raw["scale"], raw["command"])
        for name, raw in _read(_file(home, paper)).items()
    }


def _file(home: Path, paper: str) -> Path:
    return home / "evidence" / paper / "verdicts.json"


def _read(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content
