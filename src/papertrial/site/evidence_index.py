"""Which settings have been measured, kept in memory and read again only where folders have changed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from papertrial.trial.evidence import TUNING_SEED

_YOUNG = 1_000_000_000  # ns; a folder this young may change again within the file system's clock tick


@dataclass(frozen=True)
class Group:
    """One trial measured under one group of settings.

    Attributes:
        name: of its folder, `<trial>-<hash>`; also how the page's addresses call it.
        jobs: how many pairs (rounds, where timed) are measured; tuning does not count.
        changed: when something was last measured, in nanoseconds since 1970.
    """

    paper: str
    name: str
    folder: Path
    trial: str
    version: int
    settings: Mapping[str, Any]
    jobs: int
    changed: int


class EvidenceIndex:
    """The evidence of one home. Looking again costs one `stat` for each group of settings.

    Links are not followed: whatever lies outside the evidence folder is never shown.
    """

    def __init__(self, home: Path) -> None:
        self.root = home / "evidence"
        self._groups: dict[str, tuple[int, Group]] = {}

    def papers(self) -> list[str]:
        """Return the papers of which something was measured."""
        return sorted(self._folders(self.root))

    def groups(self, paper: str) -> list[Group]:
        """Return what was measured of a paper, newest first; empty groups are left out."""
        root = self.root / paper
        found = [self._group(paper, root, name) for name in self._folders(root)]
        return sorted((group for group in found if group), key=lambda group: (-group.changed, group.name))

    def everything(self) -> list[Group]:
        """Return all that was measured, newest first."""
        found = [group for paper in self.papers() for group in self.groups(paper)]
        return sorted(found, key=lambda group: (-group.changed, group.paper, group.name))

    def find(self, paper: str, name: str) -> Group | None:
        """Return one group, or None where there is none of that name."""
        return next((group for group in self.groups(paper) if group.name == name), None)

    def _group(self, paper: str, root: Path, name: str) -> Group | None:
        folder = root / name
        changed = _changed(folder / "measured")
        if changed is None:
            return None
        kept = self._groups.get(str(folder))
        if kept is not None and kept[0] == changed and time.time_ns() - changed > _YOUNG:
            return kept[1]
        about = _about(folder / "settings.json")
        if about is None:
            return None
        jobs = _count_jobs(folder / "measured")
        settings, trial, version = about
        group = Group(paper, name, folder, trial, version, settings, jobs, changed)
        self._groups[str(folder)] = (changed, group)
        return group

    def _folders(self, root: Path) -> list[str]:
        try:
            with os.scandir(root) as entries:
                return [one.name for one in entries if one.is_dir(follow_symlinks=False)]
        except OSError:
            return []


def _changed(folder: Path) -> int | None:
    try:
        return folder.stat(follow_symlinks=False).st_mtime_ns
    except OSError:
        return None


def _about(file: Path) -> tuple[dict[str, Any], str, int] | None:
    try:
        raw = json.loads(file.read_bytes())
        return dict(raw["settings"]), str(raw["trial"]), int(raw["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _count_jobs(folder: Path) -> int:
    tuning = f".seed-{TUNING_SEED}.json"
    with os.scandir(folder) as entries:
        names = [one.name for one in entries]
    return sum(
        name.endswith(".json") and not name.startswith(".") and not name.endswith(tuning) for name in names
    )
