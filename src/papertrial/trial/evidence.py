"""Evidence: one folder for one trial under one group of settings. Files are the database.

<home>/evidence/<paper>/<trial>-<hash>/
    settings.json           paper, trial, version, settings, input fingerprints
    measured/<job>.json     one file for each finished job: a pair (arm, seed), or a timed round
    curves/<job>.json       the values given to Watch.step
    artifacts/<arm>@<seed>/ what Watch.keep kept
    environments/<id>.json  machine and versions
    set-aside/              files that could not be read, under the names they had
    report.html, verdicts.json
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from papertrial.trial.files import number_from_json, plain, to_json, write_atomically
from papertrial.trial.settings import Identity

TUNING_SEED = 9001  # never measured: seeds are 0, 1, 2, …

Curve = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Measurement:
    """One arm under one seed, measured.

    Attributes:
        arm, seed: the pair.
        metrics: the numbers that `Trial.measure` returned.
        point: the tuned settings it was measured with (empty where nothing is tuned).
        wall_seconds: how long `measure` took.
        peak_bytes: the largest resident size of the process while it ran.
        peak_device_bytes: the same on the accelerator, where one was used.
        threads: CPU threads used.
        load: the machine's load average when it began; a timed figure from a busy machine is doubtful.
        environment: the id of the machine and versions.
        finished: when, in UTC, ISO 8601.
    """

    arm: str
    seed: int
    metrics: Mapping[str, float]
    point: Mapping[str, Any] = field(default_factory=dict)
    wall_seconds: float = 0.0
    peak_bytes: int | None = None
    peak_device_bytes: int | None = None
    threads: int = 1
    load: float | None = None
    environment: str = ""
    finished: str = ""

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Measurement:
        """Read one measurement; raises ValueError, KeyError or TypeError where it is not one."""
        metrics = {str(name): number_from_json(value) for name, value in raw["metrics"].items()}
        made = cls(**{**raw, "metrics": metrics})
        if not isinstance(made.arm, str) or not isinstance(made.seed, int):
            raise TypeError("a measurement needs an arm and a seed")
        return made


class Evidence:
    """The evidence of one trial under one group of settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.set_aside: list[Path] = []

    @classmethod
    def of(cls, home: Path, identity: Identity) -> Evidence:
        """Return the evidence of these settings; its folder need not exist yet."""
        return cls(home / "evidence" / identity.paper / f"{identity.trial_name}-{identity.hash}")

    def open(self, identity: Identity) -> None:
        """Make the folder and write what it is about.

        Raises:
            OSError: the home cannot be written.
        """
        path = self.folder / "settings.json"
        if not path.exists():
            write_atomically(path, to_json(identity.as_dict(), indent=1))

    @property
    def about(self) -> dict[str, Any]:
        """Paper, trial, version, settings and inputs of this evidence."""
        about: dict[str, Any] = json.loads((self.folder / "settings.json").read_bytes())
        return about

    def job_file(self, job: str) -> Path:
        """Where a job's measurements lie once it is finished."""
        return self.folder / "measured" / f"{job}.json"

    def write(
        self,
        job: str,
        measurements: list[Measurement],
        curves: Mapping[str, Mapping[str, Curve]],
        artifacts: Mapping[str, bytes],
        environment: tuple[str, dict[str, Any]],
    ) -> None:
        """Write a finished job: what belongs to it first, its measurements last and at once.

        Args:
            job: the job's name.
            measurements: one for each arm of the job.
            curves: for each arm, for each value, the steps and the values.
            artifacts: contents by path below `artifacts/`.
            environment: the id and the description of the machine.

        Raises:
            OSError: the disk is full or cannot be written. No half file is left.
        """
        environment_file = self.folder / "environments" / f"{environment[0]}.json"
        if not environment_file.exists():
            write_atomically(environment_file, to_json(environment[1], indent=1))
        for name, content in artifacts.items():
            write_atomically(self.folder / "artifacts" / name, content)
        if any(curves.values()):
            write_atomically(self.folder / "curves" / f"{job}.json", to_json(curves))
        write_atomically(self.job_file(job), to_json([asdict(one) for one in measurements]))

    def read(self, job: str) -> list[Measurement] | None:
        """Return a finished job's measurements, or None where it is not finished.

        A file that cannot be read as what it should be is moved to `set-aside/`, remembered in
        `self.set_aside`, and counts as not finished.
        """
        return self._read(self.job_file(job))

    def measurements(self) -> list[Measurement]:
        """Return everything measured on fresh seeds, in the order of seed and file name."""
        found = [one for one in self._all() if one.seed != TUNING_SEED]
        return sorted(found, key=lambda one: one.seed)

    def sweep(self) -> list[Measurement]:
        """Return everything measured while tuning."""
        return [one for one in self._all() if one.seed == TUNING_SEED]

    def curves(self) -> dict[str, dict[int, dict[str, Curve]]]:
        """Return the curves by arm, seed and name; curves that cannot be read are left out."""
        found: dict[str, dict[int, dict[str, Curve]]] = {}
        for file in sorted((self.folder / "curves").glob("*.seed-*.json")):
            seed = int(file.stem.rpartition("seed-")[2])
            if seed == TUNING_SEED or (raw := _load(file)) is None:
                continue
            for arm, values in raw.items():
                found.setdefault(arm, {})[seed] = {
                    name: (
                        [number_from_json(x) for x in steps],
                        [number_from_json(y) for y in numbers],
                    )
                    for name, (steps, numbers) in values.items()
                }
        return found

    def artifacts(self) -> list[Path]:
        """Return the files that measurements kept, relative to the folder."""
        root = self.folder / "artifacts"
        return sorted(path.relative_to(self.folder) for path in root.rglob("*") if path.is_file())

    def live_file(self, job: str) -> Path:
        """Where a running job tells how far it is; a file left by a killed run is removed."""
        file = self.folder / "live" / f"{job}.json"
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        return file

    def live(self) -> list[dict[str, Any]]:
        """Return how far the running pairs are: arm, seed, done, total, values."""
        states = (_load(file) for file in sorted((self.folder / "live").glob("[!.]*.json")))
        return [state for state in states if state is not None]

    def write_failure(self, name: str, text: str) -> None:
        """Keep the traceback of an arm that raised."""
        write_atomically(self.folder / "failures" / f"{name}.txt", text.encode())

    def environment(self, name: str) -> dict[str, Any] | None:
        """Return the machine and versions of that id."""
        return _load(self.folder / "environments" / f"{name}.json")

    def _all(self) -> Iterator[Measurement]:
        folder = self.folder / "measured"
        if not folder.is_dir():
            return
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".json"))
        for name in names:
            if not name.startswith("."):
                yield from self._read(folder / name) or ()

    def _read(self, file: Path) -> list[Measurement] | None:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return [Measurement.from_json(raw) for raw in json.loads(content)]
        except (ValueError, KeyError, TypeError, AttributeError):
            self._put_aside(file)
            return None

    def _put_aside(self, file: Path) -> None:
        target = self.folder / "set-aside" / file.name
        number = 1
        while target.exists():
            target = target.with_name(f"{file.stem}.{number}{file.suffix}")
            number += 1
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        self.set_aside.append(target)


def job_name(arm: str, seed: int, point: Mapping[str, Any]) -> str:
    """Name the job of one pair; a point of a sweep is part of the name."""
    settings = ",".join(f"{name}={plain(value)}" for name, value in sorted(point.items()))
    safe = "".join(sign if sign.isalnum() or sign in "-_.,=+" else "_" for sign in settings)
    tuned = f".{safe}" if seed == TUNING_SEED else ""
    return f"{arm}{tuned}.seed-{seed}"


def all_evidence(home: Path, paper: str) -> list[Evidence]:
    """Return every group of settings measured for a paper, newest first."""
    root = home / "evidence" / paper
    folders = [path.parent for path in root.glob("*/settings.json")]
    return [Evidence(folder) for folder in sorted(folders, key=_changed, reverse=True)]


def _changed(folder: Path) -> float:
    measured = folder / "measured"
    return (measured if measured.is_dir() else folder).stat().st_mtime


def _load(file: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return content
