"""What people and programs are shown: terminal, HTML, JSON, the latest verdicts, the reference evidence."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from rich.console import Console

from papertrial.trial.latest import recall, remember
from papertrial.trial.reference import (
    load_reference,
    make_reference,
    reference_verdicts,
    staleness,
    write_reference,
)
from papertrial.trial.report import render_report, write_report
from papertrial.trial.summary import command_for, summarise
from papertrial.trial.terminal import Progress, print_summary


@pytest.fixture
def summary(bench, lab):
    trial = bench.module.NoiseTrial()
    timing = bench.module.TimingTrial(milliseconds=0.2)
    runs = {
        "noise": (trial, bench.run(trial=trial)),
        "timing": (timing, bench.run(trial=timing, name="timing")),
    }
    return summarise(lab.card, lab.trials(), runs)


class Reader(HTMLParser):
    """Collects tags, what they load, and their texts; complains where tags do not match."""

    VOID = frozenset({"meta", "br", "hr", "img", "rect", "line", "circle", "path", "use", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.tags, self.unlabelled = [], [], [], []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "srcset", "data", "background")]
        if tag in ("img", "svg", "video") and not (named.get("alt") or named.get("aria-label")):
            self.unlabelled.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def test_the_report_is_whole_and_loads_nothing_from_outside(summary):
    text = render_report([summary])
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.tags.count("script") == 1
    assert reader.unlabelled == []
    assert all(load.startswith("data:") for load in reader.loads)
    assert not re.search(r"url\(\s*['\"]?http|@import|@font-face", text)
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_the_report_says_everything_that_a_reader_asks(summary):
    text = render_report([summary])
    for said in (
        "A Paper: Made Up for the Tests",
        "Table 2",  # the paper's source
        "noise, no model",  # the scale
        "papertrial try lab_paper.noise",  # the command
        "needs a cluster",  # why a claim is untested
        "trial noise: two runs give the same numbers",  # a finding's check
        "없음.",
        "rate 0.1",  # the tuned point
        summary.trials["noise"].machines[0],
    ):
        assert said in text, said


def test_the_one_script_is_our_own_and_named_by_its_hash(summary):
    """Nothing else can run, whatever a card or an artifact says: the policy stands before all of it."""
    text = render_report([summary])
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    allowed = re.search(r"script-src ([^;]*);", policy)[1]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert allowed == f"'sha256-{digest}'"
    assert policy.startswith("default-src 'none'")
    assert text.index("Content-Security-Policy") < text.index("<title>")


def test_text_from_a_card_is_escaped(summary):
    text = render_report([summary])
    assert "<at>" not in text
    assert "&lt;at&gt;" in text
    assert "<b>noise</b>" not in text


def test_the_same_run_gives_the_same_path(summary, tmp_path):
    first = write_report(tmp_path, [summary])
    assert write_report(tmp_path, [summary]) == first
    assert write_report(tmp_path, [summary, summary]) != first


def test_the_json_is_strict_and_holds_claims_and_numbers(summary):
    from papertrial.trial.files import to_json

    raw = json.loads(to_json(summary.as_json()), parse_constant=lambda name: pytest.fail(name))
    lower = next(claim for claim in raw["claims"] if claim["name"] == "lower")
    assert lower["word"] == "holds"
    assert lower["relation"] == "difference < 0"
    assert lower["scale"] == "noise, no model"
    assert len(raw["trials"]["noise"]["measurements"]) == 6


def test_the_terminal_shows_the_claims_plainly(summary):
    out = Console(file=io.StringIO(), width=140)
    print_summary(out, summary)
    text = out.file.getvalue()
    assert "✔ holds" in text
    assert "– untested here: It works <at> scale (needs a cluster)" in text
    assert "0.400x" in text
    assert "\x1b" not in text


def test_progress_off_a_terminal_is_one_line_a_pair(bench):
    out = Console(file=io.StringIO(), width=120)
    trial = bench.module.NoiseTrial()
    with Progress(out, "lab_paper.noise", trial) as progress:
        bench.run(trial=trial, listener=progress, seeds=1)
    lines = out.file.getvalue().splitlines()
    assert len(lines) == 5
    assert "method tuning: rate 0.01" in lines[0]
    assert "baseline seed 0: loss" in lines[3]


def test_progress_on_a_terminal_shows_the_running_step(bench):
    out = Console(file=io.StringIO(), width=120, force_terminal=True)
    trial = bench.module.NoiseTrial(seconds=0.5)
    with Progress(out, "lab_paper.noise", trial) as progress:
        bench.run(trial=trial, listener=progress, seeds=1)
    text = out.file.getvalue()
    assert re.search(r"step \d+/20", text)
    assert "loss" in text


def test_the_latest_verdict_on_each_claim_is_kept(summary, tmp_path):
    remember(tmp_path, summary)
    kept = recall(tmp_path, "lab_paper")
    assert set(kept) == {"lower", "small", "fast"}
    assert kept["lower"].verdict == summary.verdicts["lower"]
    assert kept["fast"].scale == "two sleeps"
    assert recall(tmp_path, "no_paper") == {}


def test_reference_evidence_comes_back_and_grows_stale(summary, lab, tmp_path, monkeypatch, bench):
    from papertrial.trial.rooms import Room

    room = Room(lab.name, lab.field, tmp_path, lab.package)
    (tmp_path / "card.toml").write_text((lab.folder / "card.toml").read_text())
    assert "has no reference evidence" in staleness(room)[0]
    types = dict(lab.trials())
    defaults = {"noise": bench.module.NoiseTrial(), "timing": bench.module.TimingTrial()}
    runs = {name: (trial, bench.run(trial=trial, name=name)) for name, trial in defaults.items()}
    path = write_reference(tmp_path, make_reference(summarise(lab.card, types, runs), types))
    assert path.stat().st_size < 20_000
    assert staleness(room) == []
    assert load_reference(room)["trials"]["noise"]["points"] == {"method": {"rate": 0.1}}
    assert reference_verdicts(room)["lower"].verdict.word == "holds"

    monkeypatch.setattr(bench.module.NoiseTrial, "version", 2)
    assert "lab_paper.noise: its version or default settings have changed" in staleness(room)[0]
    monkeypatch.undo()
    text = (tmp_path / "card.toml").read_text().replace("ratio < 0.5", "ratio < 0.6")
    (tmp_path / "card.toml").write_text(text)
    changed = Room(lab.name, lab.field, tmp_path, lab.package)
    assert "a tested claim of its card has changed" in staleness(changed)[0]


def test_the_command_repeats_the_run(bench):
    trial = bench.module.NoiseTrial(gap=2.5, raising="two words")
    command = command_for("lab_paper.noise", trial, seeds=7, arms=("method",))
    assert command == "papertrial try lab_paper.noise --seeds 7 --arms method --gap 2.5 --raising 'two words'"
    assert (
        command_for("lab_paper.noise", bench.module.NoiseTrial(), seeds=3) == "papertrial try lab_paper.noise"
    )


def test_a_smoothed_curve_is_the_mean_of_its_last_points():
    import numpy as np

    from papertrial.trial.plots import _moving_mean

    rows = np.random.default_rng(0).normal(size=(2, 50))
    smooth = _moving_mean(rows, 4)
    assert smooth.shape == (2, 47)
    for at in range(47):
        np.testing.assert_allclose(smooth[:, at], rows[:, at : at + 4].mean(axis=1), atol=1e-12)
    np.testing.assert_array_equal(
        _moving_mean(rows, 1), np.diff(np.cumsum(np.pad(rows, ((0, 0), (1, 0))), axis=1))
    )


class Reading:
    """What a reader finds in a report: pictures and videos inside, links to others, and what is said of those."""

    def __init__(self, text):
        self.size = len(text.encode())
        self.inside = re.findall(r'<(?:img|video) src="data:[^"]*" [^>]*?(?:alt|aria-label)="([^"]*)"', text)
        self.links = re.findall(r'<td><a href="([^"#]*)">', text)
        self.said = re.findall(r'<p class="soft left-out">(.*?)</p>', text)


@pytest.fixture
def with_media(summary):
    """Return a function that lets every pair of the noise trial keep files of given sizes, for some seeds."""
    from dataclasses import replace

    def make(sizes, seeds=range(3), arms=("baseline", "method")):
        trial = summary.trials["noise"]
        for arm in arms:
            for seed in seeds:
                for name, size in sizes.items():
                    file = trial.folder / "artifacts" / f"{arm}@{seed}" / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(b"\x89PNG" + os.urandom(size))
        kept = sorted(file.relative_to(trial.folder) for file in (trial.folder / "artifacts").rglob("*.*"))
        changed = replace(trial, artifacts=kept)
        return replace(summary, trials={**summary.trials, "noise": changed}), changed

    return make


def test_small_media_are_all_inside(with_media, tmp_path):
    papers, _ = with_media({"view.png": 20_000, "clip.mp4": 60_000, "fast.webm": 9_000, "old.webp": 9_000})
    reading = Reading(write_report(tmp_path, [papers]).read_text())
    assert sorted(set(reading.inside)) == sorted(
        f"{name}: {arm}@{seed}"
        for name in ("view", "clip", "fast", "old")
        for arm in ("baseline", "method")
        for seed in range(3)
    )
    assert (reading.links, reading.said) == ([], [])


def test_a_report_of_hundreds_of_pictures_stays_small_and_leaves_no_arm_out(with_media, tmp_path):
    """Twenty sheets of twenty seeds and two arms are 800 files and 16 MB: a quarter fits."""
    sizes = {f"view {number}.png": 10_000 + 1_000 * number for number in range(20)}
    papers, trial = with_media(sizes, seeds=range(20))
    path = write_report(trial.folder.parents[2], [papers])
    reading = Reading(path.read_text())
    assert reading.size <= 5_000_000
    assert reading.size > 4_900_000, "nearly all of what is allowed is used"
    inside = set(reading.inside)
    for number in range(20):
        for arm in ("baseline", "method"):
            assert f"view {number}: {arm}@0" in inside, "the first seed of every sheet, with both arms"
    for says in inside:
        other = says.replace("baseline", "#").replace("method", "baseline").replace("#", "method")
        assert other in inside, "a row is inside with all its arms or not at all"
    seeds = {says: int(says.rpartition("@")[2]) for says in inside}
    most = {
        number: max(seeds[says] for says in inside if says.startswith(f"view {number}:"))
        for number in range(20)
    }
    assert most[0] >= most[19] > 0, "second seeds come before third ones, smaller pictures go further"
    spread = max(most.values()) - min(most.values())
    assert spread <= 2  # one, and a small row more that the last bytes were enough for
    assert len(inside) + len(reading.links) == 800  # of 806 files: the six notes are text, and inside
    assert reading.said == [
        f"{len(reading.links)} of 806 files are not inside this report, which would grow too large: "
        f"they lie in <code>{trial.folder / 'artifacts'}</code>"
    ]
    for link in reading.links[:50]:
        assert (path.parent / unquote(link)).is_file()


def test_a_row_that_does_not_fit_stands_back_for_smaller_ones(with_media, tmp_path):
    papers, trial = with_media({"huge.mp4": 1_900_000, "view.png": 20_000})
    reading = Reading(write_report(tmp_path, [papers]).read_text())
    assert reading.size < 5_000_000
    assert sum(says.startswith("view") for says in reading.inside) == 6
    assert not any(says.startswith("huge") for says in reading.inside), (
        "two of them alone are 5.1 MB in base 64"
    )
    assert len(reading.said) == 1
    assert reading.said[0].startswith("6 of 18 files are not inside")
    assert str(trial.folder / "artifacts") in reading.said[0]


def test_without_a_place_of_its_own_a_report_names_paths(with_media):
    papers, trial = with_media({"huge.mp4": 3_000_000}, seeds=range(1))
    text = render_report([papers])
    assert str(trial.folder / "artifacts" / "baseline@0" / "huge.mp4") in text
    assert Reading(text).links == []


def test_what_an_artifact_says_is_escaped(with_media):
    papers, trial = with_media({"view.png": 10}, seeds=range(1))
    file = trial.folder / "artifacts" / "method@0" / "note.txt"
    file.write_text("</code></pre><script>alert(1)</script>")
    table = trial.folder / "artifacts" / "method@0" / "rows.csv"
    table.write_text("a,<b>b</b>\n1,<script>alert(2)</script>\n")
    from dataclasses import replace

    seen = replace(trial, artifacts=[*trial.artifacts, table.relative_to(trial.folder)])
    text = render_report([replace(papers, trials={"noise": seen})])
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "&lt;script&gt;alert(2)" in text
    assert "<b>b</b>" not in text
