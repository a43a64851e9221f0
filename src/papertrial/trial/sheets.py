"""Contact sheets: what the measurements of a trial kept, arms in columns and seeds in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from papertrial.trial.evidence import TUNING_SEED
from papertrial.trial.media import MEDIA_TYPES
from papertrial.trial.summary import TrialSummary

Row = tuple[str, Sequence[Path | None]]


@dataclass(frozen=True)
class Sheet:
    """What the measurements of a trial kept under one name: the arms in columns, the seeds in rows.

    Attributes:
        name: the name it was kept under.
        arms: that kept something, in the trial's order.
        rows: for each seed one file an arm, relative to the evidence, or None where that pair kept none.
        kind: whether the files are pictures or videos, which can be laid over each other; None for others.
    """

    name: str
    arms: Sequence[str]
    rows: Sequence[Row]
    kind: Literal["picture", "video"] | None


def contact_sheets(trial: TrialSummary) -> list[Sheet]:
    """Gather what the measurements kept, by file name."""
    order = {arm.arm: at for at, arm in enumerate(trial.arms)}
    found: dict[str, dict[tuple[str, str], Path]] = {}
    for path in trial.artifacts:
        arm, _, seed = path.parent.name.rpartition("@")
        if seed != str(TUNING_SEED):
            found.setdefault(path.name, {})[arm, seed] = path
    sheets = []
    for name, files in sorted(found.items()):
        arms = sorted({arm for arm, _ in files}, key=lambda arm: (order.get(arm, len(order)), arm))
        seeds = sorted({seed for _, seed in files}, key=lambda seed: (len(seed), seed))
        rows = [(seed, [files.get((arm, seed)) for arm in arms]) for seed in seeds]
        sheets.append(Sheet(Path(name).stem, arms, rows, media_kind(Path(name))))
    return sheets


def media_kind(path: Path) -> Literal["picture", "video"] | None:
    """Say whether a file is a picture or a video."""
    kind = MEDIA_TYPES.get(path.suffix.lower(), "").partition("/")[0]
    return "picture" if kind == "image" else "video" if kind == "video" else None
