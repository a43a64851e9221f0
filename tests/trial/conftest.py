"""Fixtures for the runner's tests: the made-up paper's trials, run in a home of their own."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from papertrial.trial.runner import Options, run_trial


class Bench:
    """Runs the made-up trial with some settings and options, and counts how often each pair was called."""

    def __init__(self, home: Path, log: Path) -> None:
        self.home, self.log = home, log
        self.module = importlib.import_module("lab_paper.trial")

    def trial(self, **settings):
        return self.module.NoiseTrial(log=f"@{self.log}", **settings)

    def run(self, settings=None, listener=None, name="noise", trial=None, **options):
        options.setdefault("workers", 1)
        trial = trial or self.trial(**(settings or {}))
        return run_trial("lab_paper", name, trial, Options(self.home, **options), listener)

    def calls(self):
        """Return how often each pair was measured, by file name without the count."""
        counts: dict[str, int] = {}
        for file in self.log.iterdir():
            name = file.name.rpartition(".")[0]
            counts[name] = counts.get(name, 0) + 1
        return counts


@pytest.fixture
def bench(lab, tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    return Bench(tmp_path / "home", log)
