"""Shared by all tests: real data where it is at hand, shapes checked, nothing from the network."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from papertrial.digest.records import Day, Entry, Paper

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data():
    """Return a function that gives the folder of one real data set, or skips the test."""

    def folder(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.is_dir():
            pytest.skip(f"the real data of {name} is not beside this checkout (../shared/data/{name})")
        return path

    return folder


LAB = Path(__file__).resolve().parent / "lab"


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """Return the room of a made-up paper, findable like any other, with a home of its own."""
    import papertrial.digest.cards  # noqa: F401  a module first imported now would keep the patched list for good
    from papertrial.trial import rooms

    room = rooms.Room("lab_paper", "efficient", LAB / "lab_paper", "lab_paper")
    found = rooms.discover()
    monkeypatch.syspath_prepend(str(LAB))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(LAB), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path / "home"))
    for user in ("cli.trying", "cli.papers", "cli.evidence", "cli.apply", "cli.new"):
        module = __import__(f"papertrial.{user}", fromlist=["discover"])
        monkeypatch.setattr(module, "discover", lambda: {**found, "lab_paper": room})
    monkeypatch.setattr(rooms, "discover", lambda: {**found, "lab_paper": room})
    return room


@pytest.fixture
def a_day():
    """Return a digest day of one paper."""
    paper = Paper("2501.00001", "A title", authors=("Ann Ado", "Bo Bu"), authors_complete=True, upvotes=3)
    sections = {"whats_new": "It is new.", "technical": "It has 4 layers.", "performance": "It gains 12 %."}
    return Day(date(2025, 1, 2), (Entry(paper, sections=sections),), "made")
