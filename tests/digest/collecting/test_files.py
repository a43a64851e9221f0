"""Days out of files: the real public days, the Hub's answers as saved, feeds; and what is wrong with them."""

from __future__ import annotations

import json
from datetime import date

import pytest

from papertrial.digest.collecting import choose, collect, found_keywords, matches_keywords
from papertrial.digest.collecting.files import read_file
from papertrial.digest.json_format import render_json, render_jsonl
from papertrial.digest.records import Day, Entry, Paper
from papertrial.errors import BadInputError


def test_real_days_are_collected_from_their_files(shared_data, clock):
    folder = shared_data("digest")
    expected = json.loads((folder / "expected_en.json").read_text())
    for file in sorted((folder / "en").glob("2025-0[45]-*.md")):
        day = collect(None, str(file), clock=clock)
        assert [entry.paper.id for entry in day] == expected[file.stem]["ids"]


def test_our_own_json_comes_back(tmp_path):
    day = Day(date(2025, 5, 7), (Entry(Paper(id="2505.00001", title="T")),), "day.json")
    (tmp_path / "day.json").write_text(render_json([day]))
    (tmp_path / "day.jsonl").write_text(render_jsonl([day]))
    for name in ("day.json", "day.jsonl"):
        back = read_file(tmp_path / name, date(2025, 5, 7))
        assert [(one.paper.id, one.paper.title) for one in back] == [("2505.00001", "T")]


@pytest.mark.parametrize("lines", [False, True])
def test_a_saved_answer_of_the_hub_is_a_day(tmp_path, hub_item, lines):
    items = [hub_item(1), hub_item(2), hub_item(1)]
    file = tmp_path / ("hub-2025-05-07.jsonl" if lines else "hub-2025-05-07.json")
    file.write_text("\n".join(map(json.dumps, items)) if lines else json.dumps(items))
    day = read_file(file)
    assert (day.date, [entry.paper.id for entry in day]) == (date(2025, 5, 7), ["2505.00001", "2505.00002"])
    assert day.entries[0].paper.listed_on == date(2025, 5, 7)
    assert day.source == file.name


def test_a_feed_is_a_day(tmp_path, atom, atom_entry):
    (tmp_path / "papers.xml").write_text(atom(atom_entry(), "<entry><id>x</id><title>Other</title></entry>"))
    day = read_file(tmp_path / "papers.xml", date(2025, 5, 7))
    assert [entry.paper.id for entry in day] == ["2505.00001"]
    assert "1 entries without an arXiv id were skipped (Other)" in day.reason


def test_our_own_feed_comes_back(tmp_path):
    from papertrial.digest.feeds import atom as write_feed

    entry = Entry(Paper(id="2505.00001", title="T & <b>"), sections={"headline": "It works."})
    day = Day(date(2025, 5, 7), (entry,), "hf")
    (tmp_path / "2025-05-07.atom").write_text(write_feed([day]))
    back = read_file(tmp_path / "2025-05-07.atom")
    assert [(one.paper.id, one.paper.title) for one in back] == [("2505.00001", "T & <b>")]
    assert "It works." in back.entries[0].summary


@pytest.mark.parametrize(
    ("name", "content", "when", "said"),
    [
        ("day.txt", "x", None, "none of the kinds"),
        ("day.json", "{broken", None, "no JSON"),
        ("day.json", "[1, 2]", None, "no JSON|schema"),
        ("day.json", '[{"paper": {"id": "x", "title": "T"}}]', None, "item 1: .*without an arXiv id"),
        ("day.json", '[{"paper": {"id": "2505.00001", "title": "T"}}]', None, "does not say its day"),
        (
            "2025-05-07.json",
            '[{"paper": {"id": "2505.00001", "title": "T"}}]',
            date(2025, 5, 8),
            "named for 2025-05-07",
        ),
        ("2025-05-07.xml", "Rate exceeded.", None, "not an Atom feed"),
        ("2025-05-07.md", "# no digest", None, "no digest"),
    ],
)
def test_files_that_hold_no_day_are_said(tmp_path, name, content, when, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInputError, match=said):
        read_file(tmp_path / name, when)


def test_files_in_another_encoding_are_said(tmp_path):
    (tmp_path / "2025-05-07.md").write_bytes("## Papers for 2025-05-07 é".encode("latin-1"))
    with pytest.raises(BadInputError, match="not UTF-8"):
        read_file(tmp_path / "2025-05-07.md")
    with pytest.raises(BadInputError, match="cannot be read"):
        read_file(tmp_path / "none.json")


PAPER = Paper(
    id="2505.00001",
    title="Sparse  Attention for Quantised Models",
    abstract="한국어 모델의 양자화를 다룬다.",
    categories=("cs.CL",),
    authors=("Ada Lovelace",),
)


@pytest.mark.parametrize(
    ("keywords", "kept"),
    [
        ((), True),
        (("attention",), True),
        (("sparse attention",), True),
        (("atten",), False),
        (("atten*",), True),
        (("양자화",), True),
        (("cs.CL",), True),
        (("csxCL",), False),
        (("lovelace",), True),
        (("robot", "attention"), True),
        (("robot",), False),
        (("attention", "-quanti*"), False),
        (("-survey",), True),
        (("c++",), False),
    ],
)
def test_keywords_choose_papers(keywords, kept):
    assert matches_keywords(PAPER, keywords) is kept


def test_found_keywords_are_named():
    assert found_keywords(PAPER, ("robot", "attention", "-survey", "quanti*")) == ("attention", "quanti*")
    with pytest.raises(BadInputError, match="needs a letter or digit"):
        matches_keywords(PAPER, ("-",))


def test_the_most_voted_are_chosen_in_the_days_order():
    votes = [3, None, 9, 0, 9]
    entries = tuple(
        Entry(Paper(id=f"2505.0000{n}", title=f"T {n}", upvotes=count)) for n, count in enumerate(votes)
    )
    day = Day(date(2025, 5, 7), entries, "hf")
    chosen = [[int(one.paper.id[-1]) for one in choose(day, most=most)] for most in (1, 2, 3, 4, 9)]
    assert chosen == [[2], [2, 4], [0, 2, 4], [0, 2, 3, 4], [0, 1, 2, 3, 4]]
    assert choose(day, ("nothing",)) == []
    with pytest.raises(BadInputError, match="most must be at least 1"):
        choose(day, most=0)
