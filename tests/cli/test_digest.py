"""`papertrial digest`: a day in every form, files, and what is said to bad input."""

from __future__ import annotations

import json
import subprocess
import sys

import feedparser
import pytest

from papertrial.cli import main
from papertrial.digest.entries_format import parse_entries
from papertrial.digest.reading import read_days
from papertrial.digest.table_format import parse_table, render_table

DAY = "2025-05-07"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path / "home"))


def call(capsys, *words):
    code = main(["digest", *words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_the_days_are_listed(capsys):
    code, out, _ = call(capsys)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:5]] == [
        DAY,
        "2025-04-28",
        "2025-01-08",
        "2024-12-09",
    ]


@pytest.mark.parametrize(("lang", "word"), [("en", "✔ 8 holds"), ("ko", "✔ 8 성립")])
def test_a_day_is_shown_with_its_verdicts(capsys, lang, word):
    code, out, _ = call(capsys, DAY, "--lang", lang)
    assert code == 0
    assert "RetroInfer" in out
    assert word in out
    assert all(line == line.rstrip() for line in out.splitlines())


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_every_format_holds_the_same_papers(capsys, lang):
    shown = {}
    for name in ("table", "entries", "html", "json", "jsonl", "rss", "atom"):
        code, shown[name], err = call(capsys, DAY, "--format", name, "--lang", lang)
        assert (code, err) == (0, "")
    ids = [entry["paper"]["id"] for entry in json.loads(shown["json"])["days"][0]["entries"]]
    assert len(ids) == len(set(ids)) == 14
    assert [entry.paper.id for entry in parse_table(shown["table"])] == ids
    assert [entry.paper.id for entry in parse_entries(shown["entries"])] == ids
    assert [json.loads(line)["entry"]["paper"]["id"] for line in shown["jsonl"].splitlines()] == ids
    for feed in ("rss", "atom"):
        read = feedparser.parse(shown[feed])
        assert not read.bozo
        assert [entry.id.rpartition(":")[2] for entry in read.entries] == ids
    assert all(f"https://arxiv.org/abs/{one}" in shown["html"] for one in ids)


def test_files_are_written_into_a_folder(capsys, tmp_path):
    out = tmp_path / "out"
    code, shown, _ = call(capsys, DAY, "--format", "json,html,atom", "--out", str(out))
    assert code == 0
    files = sorted(file.name for file in out.iterdir())
    assert files == [f"{DAY}.atom.xml", f"{DAY}.html", f"{DAY}.json"]
    assert shown.split() == [str(out / f"{DAY}.json"), str(out / f"{DAY}.html"), str(out / f"{DAY}.atom.xml")]
    before = {file: file.read_bytes() for file in out.iterdir()}
    call(capsys, DAY, "--format", "json,html,atom", "--out", str(out))
    assert {file: file.read_bytes() for file in out.iterdir()} == before


def test_a_file_says_its_format_by_its_name(capsys, tmp_path):
    code, _, _ = call(capsys, DAY, "--out", str(tmp_path / "day.json"))
    assert code == 0
    assert str(read_days(tmp_path / "day.json")[0].date) == DAY


def test_a_digest_file_is_read_and_its_irregular_places_are_said(capsys, a_table):
    code, out, err = call(capsys, str(a_table))
    assert code == 0
    assert "APOLLO on one line" in out
    assert "✔ 9 holds" in out, "a paper that has a card shows its verdicts"
    assert "line 7: broken title; joined to one line" in err


def test_a_table_is_written_as_it_was(capsys, a_table):
    code, out, _ = call(capsys, str(a_table), "--format", "table", "--legacy")
    assert (code, out) == (0, a_table.read_text())


@pytest.fixture
def a_table(tmp_path, a_day):
    entry = a_day.entries[0].with_paper(
        id="2412.05270", title="APOLLO on one line", raw_title="APOLLO on\n  one line"
    )
    file = tmp_path / "2025-01-02.md"
    file.write_text(render_table(type(a_day)(a_day.date, (entry,), "made"), legacy=True))
    return file


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tomorrow"], "'tomorrow' is no day; write it as 2025-05-07"),
        (["2025-13-01"], "'2025-13-01' is no day"),
        (["2125-01-01"], "2125-01-01 has not come yet"),
        (["2125-W01"], "the week 2125-W01 has not begun yet"),
        (["2025-W60"], "2025-W60"),
        ([DAY, "--format", "pdf"], "unknown format 'pdf'"),
        ([DAY, "--format", "json,html"], "need a folder: add --out FOLDER"),
        ([DAY, "--out", "x"], "say how to write x: add --format"),
        ([DAY, "--lang", "fr"], "the cards are written in en, ko; for 'fr' name a model"),
        (["2020-01-01", "--source", "cards"], "no card is of 2020-01-01; the days with cards are 2024-12-09"),
        ([DAY, "--source", "twitter"], "unknown source 'twitter'"),
        (["gone.md"], "gone.md cannot be read: No such file"),
        ([DAY, DAY], "name one day or one file"),
        ([DAY, "--watch"], "--watch collects every day"),
        (["--watch", "--source", "cards"], "--watch collects from hf or arxiv"),
        ([DAY, "--fromat", "json"], "did you mean --format"),
    ],
)
def test_bad_input_gets_one_line(capsys, words, message):
    code, _, err = call(capsys, *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_terminal_is_not_steered_by_a_title(capsys, tmp_path, a_day):
    entry = a_day.entries[0].with_paper(title="Clear \x1b[2J [red]this[/red]")
    file = tmp_path / "2025-01-02.md"
    file.write_text(render_table(type(a_day)(a_day.date, (entry,), "made")))
    _, out, _ = call(capsys, str(file))
    assert "\x1b" not in out
    assert "[red]this[/red]" in out


def test_reading_a_day_imports_no_torch():
    code = (
        "import sys; from papertrial.cli import main; main(['digest', '2025-05-07']); "
        "assert not {'torch', 'transformers', 'openai'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
