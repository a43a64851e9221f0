"""The files of a new room: a card on the docket, a trial and a test to fill in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from papertrial.errors import BadInputError
from papertrial.trial.card import FIELDS

_CARD = """\
title   = {title}
arxiv   = "{arxiv}"
day     = {day}
status  = "docket"                       # take this line out once the room is built
purpose = "Say in one sentence who needs this and what they decide with it."

[summary.en]
whats_new = {summary}
details   = "Say in our own words how it works."
results   = "Say what the paper reports."
[summary.ko]
whats_new = "무엇이 새로운지 한두 문장으로 적습니다."
details   = "어떻게 작동하는지 우리 말로 적습니다."
results   = "논문이 보고한 결과를 적습니다."

[[claims]]
name     = "quality"
says     = "Say the claim in one sentence."
untested = "the trial is not built yet"
paper    = {{ value = "the paper's number", source = "Table 1" }}
"""
_INIT = '''\
"""{title}.

Source: arXiv {arxiv}.
"""
'''
_TRIAL = '''\
"""The trial of {title} (arXiv {arxiv})."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from papertrial.trial import Metric, Trial, Watch


@dataclass(frozen=True)
class {kind}(Trial):
    """Say in one line what is compared, on which work.

    Attributes:
        steps: how long one measurement works.
    """

    steps: int = 100

    arms: ClassVar[tuple[str, ...]] = ("baseline", "method")
    metrics: ClassVar[dict[str, Metric]] = {{"loss": Metric("nats/token", better="lower")}}

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Measure one arm under one seed."""
        raise NotImplementedError(f"measure {{arm}} here: real work, no number made up")

    def scale(self) -> str:
        """Say at what size this trial measures."""
        return f"{{self.steps}} steps, CPU"

    @classmethod
    def quick(cls) -> {kind}:
        """Return the same trial at the size of a test."""
        return cls(steps=2)


trials: dict[str, type[Trial]] = {{"main": {kind}}}
'''
_TEST = '''\
"""{title}: held to an identity, a brute-force reference and, where one installs, a peer."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.skip(reason="{name} is on the docket: its mechanism is not built yet")


def test_identity() -> None:
    """Name the limiting case in which the method must equal something known."""


def test_brute_force() -> None:
    """Hold the mechanism to a plain loop written from the paper's equations."""
'''
_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "papertrial-{dashed}"
version = "0.1.0"
dependencies = ["papertrial"]

[project.entry-points."papertrial.papers"]
"{field}.{name}" = "{name}"

[tool.setuptools]
packages = ["{name}"]
package-data = {{ {name} = ["card.toml", "reference.json"] }}
"""


@dataclass(frozen=True)
class Entry:
    """What is known of a paper before its room is made."""

    arxiv: str
    title: str
    day: date
    summary: str = ""


def write_room(entry: Entry, field: str, name: str, folder: Path) -> Iterator[Path]:
    """Write a room's files and yield their paths. Nothing that is there already is touched.

    In the folder of a field the test goes to the checkout's `tests/`; elsewhere the room becomes a package
    with its own `pyproject.toml`, which names the entry point.

    Raises:
        BadInputError: the room's folder is there already, or cannot be made.
    """
    inside = folder.name in FIELDS and (folder.parents[2] / "pyproject.toml").is_file()
    project = folder if inside else folder / f"papertrial-{name.replace('_', '-')}"
    room = project / name
    if room.exists():
        raise BadInputError(f"{room} is there already; give another --name or --into")
    words = {
        "arxiv": entry.arxiv,
        "day": entry.day.isoformat(),
        "title": entry.title,
        "name": name,
        "field": field,
        "dashed": name.replace("_", "-"),
        "kind": "".join(part.capitalize() for part in name.split("_")) + "Trial",
    }
    quoted = {
        "title": json.dumps(entry.title, ensure_ascii=False),
        "summary": json.dumps(entry.summary or "Say in our own words what is new.", ensure_ascii=False),
    }
    tests = folder.parents[2] / "tests" / field / name if inside else project / "tests"
    files = {
        room / "card.toml": _CARD.format(**{**words, **quoted}),
        room / "__init__.py": _INIT.format(**words),
        room / "trial.py": _TRIAL.format(**words),
        tests / f"test_{name}.py": _TEST.format(**words),
    }
    if not inside:
        files[project / "pyproject.toml"] = _PYPROJECT.format(**words)
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BadInputError(f"cannot write {path}: {error}") from error
        yield path
