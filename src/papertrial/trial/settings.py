"""The identity of a trial's settings: what must be equal for two measurements to belong together."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

from papertrial.trial.contract import Trial
from papertrial.trial.files import plain, to_json


class Identity:
    """What a folder of evidence is about: paper, trial, its version, settings and input files.

    Two runs share evidence only if all of these are equal. Files and folders that a setting names count
    with their sizes and times of change, so that edited data never mix with old evidence.
    """

    def __init__(self, paper: str, trial_name: str, trial: Trial) -> None:
        self.paper = paper
        self.trial_name = trial_name
        self.version = type(trial).version
        self.settings = settings_of(trial)
        self.inputs = _fingerprints(trial)

    @cached_property
    def hash(self) -> str:
        """The first ten hexadecimal digits of the SHA-256 of everything above."""
        return hashlib.sha256(to_json(self.as_dict())).hexdigest()[:10]

    def as_dict(self) -> dict[str, Any]:
        """Return the identity as JSON holds it."""
        return {
            "paper": self.paper,
            "trial": self.trial_name,
            "version": self.version,
            "settings": self.settings,
            "inputs": self.inputs,
        }


def settings_of(trial: Trial) -> dict[str, Any]:
    """Return a trial's settings as JSON holds them."""
    return {field.name: plain(getattr(trial, field.name)) for field in fields(trial)}


def changed_settings(trial: Trial) -> dict[str, Any]:
    """Return the settings that differ from the trial's defaults."""
    default = settings_of(type(trial)())
    return {name: value for name, value in settings_of(trial).items() if value != default[name]}


def _fingerprints(trial: Trial) -> dict[str, str]:
    prints = {}
    for field in fields(trial):
        value = getattr(trial, field.name)
        if (
            not isinstance(value, str | Path)
            or not str(value)
            or "\n" in str(value)
            or len(str(value)) > 1000
        ):
            continue
        path = Path(value).expanduser()
        if path.exists() and path.resolve() != Path.cwd().resolve():
            prints[field.name] = _fingerprint(path)
    return prints


def _fingerprint(path: Path) -> str:
    """Hash names, sizes and times of change: enough to see an edit, cheap for a folder of checkpoints."""
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
