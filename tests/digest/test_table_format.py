"""The English table: real days come back byte for byte, and what we write survives other people's renderers."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from papertrial.digest.records import Entry, OnTrial, Paper
from papertrial.digest.table_format import parse_table, parse_tables, render_table
from papertrial.errors import BadInputError

HEAD = "\n\n## Papers for 2025-01-02\n\n| Title | Authors | Summary |\n|-------|---------|---------|\n"


def row(number, title="A title", authors="B, A", summary="Text.  "):
    arxiv = f"2501.{number:05}"
    links = f"[arXiv](https://arxiv.org/abs/{arxiv}) or [HuggingFace](https://huggingface.co/papers/{arxiv})"
    return f"| {title} (Read more on {links})| {authors} | {summary} |\n"


@pytest.fixture
def real_days(shared_data):
    folder = shared_data("digest")
    expected = json.loads((folder / "expected_en.json").read_text())
    return {name: ((folder / "en" / f"{name}.md").read_text(), about) for name, about in expected.items()}


def test_the_real_days_say_what_was_counted_in_them(real_days):
    for name, (text, about) in real_days.items():
        day = parse_table(text)
        assert str(day.date) == about["date"] == name
        assert [entry.paper.id for entry in day] == about["ids"], name
        assert [len(entry.paper.authors) for entry in day] == about["n_authors"], name
        assert sum("\n" in (entry.paper.raw_title or "") for entry in day) == about["multiline_titles"], name
        assert (day.layout["generation"] == "four") == (about["columns"] == 4)


def test_the_real_days_come_back_byte_for_byte(real_days):
    for name, (text, _) in real_days.items():
        assert render_table(parse_table(text), legacy=True) == text, name


def test_every_real_row_is_an_entry_or_a_warning(real_days):
    """An independent count: a row has one link to arXiv's abstract page."""
    for name, (text, _) in real_days.items():
        day = parse_table(text)
        lost = sum(warning.kind == "unreadable entry" for warning in day.warnings)
        assert text.count("](https://arxiv.org/abs/") == len(day.entries) + lost, name
        assert lost == 0, name


def test_the_clean_flavour_of_real_days_says_the_same_and_renders_with_three_cells(real_days):
    markdown = MarkdownIt("commonmark").enable("table")
    for name, (text, _) in real_days.items():
        day = parse_table(text)
        clean = render_table(day)
        assert parse_table(clean).entries == day.entries, name
        cells = [token.type for token in markdown.parse(clean)].count("td_open")
        assert cells == 3 * len(day.entries), name


def test_a_line_based_split_loses_the_rows_that_this_reader_keeps(real_days):
    """The peer that everybody writes: lines that begin with a pipe, split at pipes."""
    text, about = real_days["2025-03-11"]
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    naive = [line for line in lines if len(line.split("|")) == 5]
    assert len(naive) < about["n_rows"] == len(parse_table(text).entries)


def test_pipes_in_a_summary_belong_to_it():
    summary = "It maximises I(Output; Past | Input) and p(y | x)."
    day = parse_table(HEAD + row(1, summary=summary))
    assert day.entries[0].fields[0].text == summary
    assert [warning.kind for warning in day.warnings] == ["pipe in a cell"]


def test_broken_titles_are_joined_and_kept_as_they_were():
    text = HEAD + row(1, title="A long title\n  on three\n  lines") + row(2)
    day = parse_table(text)
    assert day.entries[0].paper.title == "A long title on three lines"
    assert [(warning.line, warning.kind) for warning in day.warnings] == [(7, "broken title")]
    assert render_table(day, legacy=True) == text


def test_empty_authors_are_unknown():
    text = HEAD + row(1, authors="")
    day = parse_table(text)
    assert day.entries[0].paper.authors == ()
    assert not day.entries[0].paper.authors_complete
    assert render_table(day, legacy=True) == text


def test_nothing_is_dropped_in_silence():
    text = HEAD + row(1) + "| a row without links | x | y |\n" + row(2).replace("2501.", "hep-th/") + row(3)
    day = parse_table(text)
    assert [entry.paper.id for entry in day] == ["2501.00001", "2501.00003"]
    assert [(warning.line, warning.kind) for warning in day.warnings] == [
        (8, "unreadable entry"),
        (9, "unreadable entry"),
    ]


def test_a_pipe_at_the_end_of_a_broken_line_does_not_end_the_row():
    text = HEAD + row(1, title="Splitting at |\n  every pipe", summary="It maximises p(y |\n  x).") + row(2)
    day = parse_table(text)
    assert [entry.paper.id for entry in day] == ["2501.00001", "2501.00002"]
    assert day.entries[0].fields[0].text == "It maximises p(y |\n  x)."
    assert render_table(day, legacy=True) == text


def test_a_row_cut_short_is_named():
    day = parse_table(HEAD + row(1) + row(2)[:-20])
    assert len(day.entries) == 1
    assert day.warnings[-1].kind == "unreadable entry"


def test_a_paper_listed_twice_is_kept_and_named():
    day = parse_table(HEAD + row(1) + row(1, summary="Again."))
    assert len(day.entries) == 2
    assert [warning.kind for warning in day.warnings] == ["repeated entry"]


def test_an_empty_day_is_a_day():
    day = parse_table(HEAD)
    assert (day.entries, day.reason) == ((), "the file lists no papers for this day")
    assert render_table(day, legacy=True) == HEAD


def test_a_readme_of_many_days_is_read_whole():
    other = HEAD.replace("01-02", "01-03")
    days = parse_tables(HEAD + row(1) + other + row(2) + row(3))
    assert [(str(day.date), len(day.entries)) for day in days] == [("2025-01-02", 1), ("2025-01-03", 2)]
    with pytest.raises(BadInputError, match="2025-01-02, 2025-01-03"):
        parse_table(HEAD + other)


def test_a_date_that_is_none_is_refused():
    with pytest.raises(BadInputError, match="'2025-13-02', which is no date"):
        parse_table(HEAD.replace("01-02", "13-02"))


@pytest.mark.parametrize(
    ("summary", "style", "sections"),
    [
        ("Plain prose. It has 4 layers.", "prose", {}),
        (
            "i) One line.  ii) **Main research question or objective:** Why?  iii) **Key methodology:** So. "
            "iv) **Primary results:** 87.5%.  v) **Principal implication for AI practitioners:** Use it.",
            "roman",
            {
                "headline": "One line.",
                "objective": "Why?",
                "method": "So.",
                "results": "87.5%.",
                "implication": "Use it.",
            },
        ),
        (
            "Here is a concise summary following your guidelines: a) The question. b) The method. c) 5%. d) Use it.",
            "letters",
            {
                "objective": "The question.",
                "method": "The method.",
                "results": "5%.",
                "implication": "Use it.",
            },
        ),
    ],
)
def test_styles_are_told_apart(summary, style, sections):
    entry = parse_table(HEAD + row(1, summary=summary)).entries[0]
    assert (entry.style, entry.sections) == (style, sections)


def test_the_real_days_hold_every_style(real_days):
    styles = Counter(entry.style for text, _ in real_days.values() for entry in parse_table(text))
    assert styles["prose"] > styles["letters"] > 0
    assert styles["roman"] > 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_back(nasty_days, data):
    day = data.draw(nasty_days)
    back = parse_table(render_table(day))
    assert back.warnings == () or {one.kind for one in back.warnings} <= {"no authors", "empty day"}
    for ours, read in zip(day, back, strict=True):
        assert (read.paper.id, read.paper.title, read.paper.authors) == (
            ours.paper.id,
            ours.paper.title,
            tuple(name for name in ", ".join(ours.paper.authors).split(", ") if name),
        )
        assert read.fields[0].text == ours.summary


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_title_becomes_markup(nasty_days, data):
    """Whatever the text: three cells a row, no link but the two of the row, no HTML, no emphasis."""
    day = data.draw(nasty_days)
    tokens = MarkdownIt("commonmark").enable("table").parse(render_table(day))
    inline = [child for token in tokens for child in token.children or ()]
    kinds = Counter(child.type for child in inline)
    assert [token.type for token in tokens].count("td_open") == 3 * len(day.entries)
    assert kinds["link_open"] == 2 * len(day.entries)
    assert (
        not kinds["html_inline"]
        + kinds["em_open"]
        + kinds["strong_open"]
        + kinds["code_inline"]
        + kinds["image"]
    )
    assert not [token for token in tokens if token.type == "html_block"]


def test_verdicts_stand_in_the_summary(a_day):
    tried = OnTrial("apollo", "efficient", "built", {"holds": 9, "fails": 3})
    text = render_table(replace(a_day, entries=(replace(a_day.entries[0], trial=tried),)))
    assert "On trial: ✔ 9 holds · ✘ 3 fails (papertrial try apollo)." in text


def test_a_version_of_a_paper_is_kept():
    text = HEAD + row(1).replace("abs/2501.00001", "abs/2501.00001v2")
    day = parse_table(text)
    assert (day.entries[0].paper.id, day.entries[0].paper.version) == ("2501.00001", 2)
    assert render_table(day, legacy=True) == text
    assert Entry(Paper("2501.00001", "x")).summary == ""
