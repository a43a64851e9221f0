"""Digest files of every format, and those that are none."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.digest.entries_format import render_entries
from papertrial.digest.json_format import parse_json, render_json, render_jsonl
from papertrial.digest.reading import read_day, read_days
from papertrial.digest.records import GroundedNumber, Grounding, OnTrial
from papertrial.digest.table_format import parse_table, render_table
from papertrial.errors import BadInputError

WRITERS = {
    ".md": lambda day: render_table(day),
    ".entries.md": lambda day: render_entries(day),
    ".json": lambda day: render_json([day]),
    ".jsonl": lambda day: render_jsonl([day]),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_is_told_apart_by_what_is_in_it(a_day, tmp_path, suffix):
    file = tmp_path / f"2025-01-02{suffix}"
    file.write_text(WRITERS[suffix](a_day))
    day = read_day(file)
    assert (day.date, day.source) == (a_day.date, file.name)
    assert [entry.paper.id for entry in day] == ["2501.00001"]
    assert day.entries[0].summary == a_day.entries[0].summary


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (
            b"## Papers for 2025-01-03\n",
            "2025-01-02.md",
            "is named for 2025-01-02 and holds the day 2025-01-03",
        ),
        (b"# Notes\n", "notes.md", "neither a heading '## Papers for"),
        (b"caf\xe9", "latin.md", "is not UTF-8 (byte 3 is 0xe9)"),
        (b'{"days": ', "x.json", "is no JSON"),
        (b'{"days": []}', "x.json", "must be of schema 'papertrial.digest/1', got None"),
        (
            b"## Papers for 2025-01-02\n\n## Daily Papers (2025-01-02)\n",
            "both.md",
            "two formats in one file: a table begins at line 1, entries at line 3",
        ),
    ],
)
def test_a_file_that_is_no_digest_gets_one_line(tmp_path, content, name, message):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(BadInputError) as caught:
        read_days(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"gone\.md cannot be read: No such file"):
        read_days(tmp_path / "gone.md")


def test_a_day_is_chosen_from_many(a_day, tmp_path):
    file = tmp_path / "all.md"
    file.write_text(render_table(a_day) + render_table(replace(a_day, date=date(2025, 1, 3))))
    assert read_day(file, date(2025, 1, 3)).date == date(2025, 1, 3)
    with pytest.raises(BadInputError, match="several days; name one of 2025-01-02, 2025-01-03"):
        read_day(file)
    with pytest.raises(BadInputError, match="has no day 2025-01-09"):
        read_day(file, date(2025, 1, 9))


def test_json_gives_every_record_back(a_day):
    number = GroundedNumber("12 %", "performance", 9, 13, 12.0, "%", "derived", "a row", ("85", "97"))
    entry = replace(
        a_day.entries[0],
        grounding=Grounding((number,), "full text", 0.5),
        trial=OnTrial("apollo", "efficient", "built", {"holds": 2}),
        evidence={"performance": ("It gains 12 %.",)},
        notes=("a note",),
    )
    day = replace(a_day, entries=(entry,), complete=False, reason="early")
    assert parse_json(render_json([day])) == [day]
    assert parse_json(render_jsonl([day, replace(day, date=date(2025, 1, 3), entries=())])) == [
        day,
        replace(day, date=date(2025, 1, 3), entries=()),
    ]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_json_gives_hostile_text_back(nasty_days, data):
    day = data.draw(nasty_days)
    assert parse_json(render_json([day])) == [day]
    assert parse_json(render_jsonl([day])) == [day]


def test_real_days_survive_json(shared_data):
    for file in sorted((shared_data("digest") / "en").glob("*.md"))[::5]:
        day = parse_table(file.read_text())
        assert parse_json(render_json([day])) == [day]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"date": "2025-01-02"', '"date": "today"', "days.date must be a date, got 'today'"),
        ('"title": "A title"', '"title": 3', r"days.entries[0].paper.title must be a text, got '3'"),
        ('"upvotes": 3', '"upvotes": true', r"paper.upvotes must be a whole number, got 'True'"),
        ('"title": "A title",', "", "days.entries[0].paper lacks 'title'"),
        ('"upvotes": 3', '"upvotes": 3, "media_type": "song"', "must be one of image, video, got 'song'"),
    ],
)
def test_json_that_is_no_digest_says_where(a_day, old, new, message):
    text = render_json([a_day])
    assert old in text
    with pytest.raises(BadInputError) as caught:
        parse_json(text.replace(old, new))
    assert message in str(caught.value)
