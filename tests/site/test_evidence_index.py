"""The index of evidence says what is on disk, and reads only what has changed."""

from __future__ import annotations

import json
import os
import shutil
import time

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from papertrial.site.evidence_index import EvidenceIndex

YEAR = 365 * 24 * 3600


def group(home, paper, name, jobs, settings=None):
    folder = home / "evidence" / paper / name
    (folder / "measured").mkdir(parents=True, exist_ok=True)
    about = {"paper": paper, "trial": name.rpartition("-")[0], "version": 1, "settings": settings or {"a": 1}}
    (folder / "settings.json").write_text(json.dumps(about))
    for job in jobs:
        (folder / "measured" / f"{job}.json").write_text("[]")
    return folder


def test_only_what_changed_is_read_again(tmp_path, monkeypatch):
    for at in range(5):
        folder = group(
            tmp_path, f"paper{at}", "noise-0123456789", ["a.seed-0", "b.seed-0", "b.x=1.seed-9001"]
        )
        os.utime(folder / "measured", (time.time() - YEAR, time.time() - YEAR))
    index = EvidenceIndex(tmp_path)
    assert sorted((one.paper, one.jobs) for one in index.everything()) == [
        (f"paper{at}", 2) for at in range(5)
    ]
    read = []
    monkeypatch.setattr("papertrial.site.evidence_index._about", lambda file: read.append(file))
    assert len(index.everything()) == 5
    assert read == []
    (tmp_path / "evidence" / "paper3" / "noise-0123456789" / "measured" / "c.seed-1.json").write_text("[]")
    index.everything()
    assert [file.parts[-3] for file in read] == ["paper3"]


def test_links_and_unreadable_folders_are_left_out(tmp_path):
    inside = group(tmp_path, "paper", "noise-0123456789", ["a.seed-0"])
    elsewhere = group(tmp_path / "elsewhere", "paper", "noise-9999999999", ["a.seed-0"])
    (inside.parent / "noise-linked").symlink_to(elsewhere)
    (tmp_path / "evidence" / "linked").symlink_to(elsewhere.parent)
    broken = group(tmp_path, "paper", "noise-broken", ["a.seed-0"])
    (broken / "settings.json").write_text("[")
    assert [one.name for one in EvidenceIndex(tmp_path).everything()] == ["noise-0123456789"]
    assert EvidenceIndex(tmp_path / "nothing").everything() == []


class Disk(RuleBasedStateMachine):
    """Files come and go; the index must always say what a fresh one would."""

    def __init__(self):
        super().__init__()
        import tempfile
        from pathlib import Path

        self.home = Path(tempfile.mkdtemp())
        self.index = EvidenceIndex(self.home)

    def teardown(self):
        shutil.rmtree(self.home)

    @rule(paper=st.sampled_from("ab"), name=st.sampled_from(["t-1", "t-2"]), job=st.integers(0, 5))
    def measure(self, paper, name, job):
        group(self.home, paper, name, [f"arm.seed-{job}"])

    @rule(paper=st.sampled_from("ab"), name=st.sampled_from(["t-1", "t-2"]))
    def remove(self, paper, name):
        shutil.rmtree(self.home / "evidence" / paper / name, ignore_errors=True)

    @rule()
    def look(self):
        self.index.everything()

    @invariant()
    def says_what_is_there(self):
        assert self.index.everything() == EvidenceIndex(self.home).everything()


TestDisk = Disk.TestCase
TestDisk.settings = settings(max_examples=20, stateful_step_count=12, deadline=None)
