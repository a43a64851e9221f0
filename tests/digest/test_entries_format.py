"""The Korean entries: clean days come back byte for byte, irregular ones are read and warned of."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from papertrial.digest.entries_format import ESCAPED, parse_entries, render_entries
from papertrial.digest.records import OnTrial, Votes
from papertrial.errors import BadInputError

HEAD = "## Daily Papers (2025-01-02)\n\n"
FIELDS = (
    "- ***What's New***: 새로운 방법(Method)입니다.\n"
    "- ***Technical Details***: 층은 4개입니다.\n"
    "- ***Performance Highlights***: 정확도가 2.5%p 올랐습니다."
)


def entry(number, title="A title", votes="Vote: 3\n\n", authors="Ann Ado, Bo Bu", fields=FIELDS, media=None):
    arxiv = f"2501.{number:05}"
    picture = f"![](https://cdn-thumbnails.huggingface.co/social-thumbnails/papers/{arxiv}.png)"
    return (
        f"### [{title}](https://arxiv.org/abs/{arxiv})\n\n{media or picture}\n\n{votes}"
        f"Authors: {authors}\n\n{fields}\n\n"
    )


def kinds(day):
    return Counter(warning.kind for warning in day.warnings)


CLEAN = {
    "two entries": HEAD + entry(1) + entry(2, votes="Vote: 0\n\n"),
    "a video": HEAD
    + entry(
        1,
        media="[Watch Video](https://x.co/a.mp4)\n"
        '<div><video controls src="https://x.co/a.mp4" muted="false"></video></div>',
    ),
    "no authors": HEAD + entry(1, authors=""),
    "brackets in the title": HEAD + entry(1, title="[IDK] Token and GPT-[n]"),
    "two stars": HEAD + entry(1, fields=FIELDS.replace("***", "**")),
    "a field missing": HEAD + entry(1, fields=FIELDS.split("\n")[0]),
    "votes unknown": HEAD + entry(1, votes="Vote: -\n\n"),
    "no vote line": HEAD + entry(1, votes=""),
    "an empty day": HEAD,
}


@pytest.mark.parametrize("text", CLEAN.values(), ids=CLEAN)
def test_clean_days_come_back_byte_for_byte(text):
    assert render_entries(parse_entries(text)) == text


def test_a_clean_entry_is_read_whole():
    day = parse_entries(HEAD + entry(1))
    assert not day.warnings
    found = day.entries[0]
    assert (found.paper.id, found.paper.title, found.paper.upvotes) == ("2501.00001", "A title", 3)
    assert found.paper.authors == ("Ann Ado", "Bo Bu")
    assert found.paper.authors_complete
    assert (found.lang, found.paper.media_type) == ("ko", "image")
    assert found.sections["performance"] == "정확도가 2.5%p 올랐습니다."


def test_the_composed_file_is_read_with_every_irregularity_named(shared_data):
    text = (shared_data("digest") / "ko_composed.md").read_text()
    day = parse_entries(text)
    assert [one.paper.id for one in day] == [f"2503.0000{number}" for number in (1, 2, 3, 4, 5)]
    assert set(kinds(day)) == {
        "truncated authors",
        "label style",
        "missing blank line",
        "missing field",
        "unreadable votes",
        "no authors",
        "unlabelled field",
        "extra field",
        "media",
        "second header",
        "repeated entry",
        "trailer",
    }
    first, second, third, fourth, _ = day
    assert (first.paper.upvotes, first.paper.vote_history) == (15, (Votes(12),))
    assert second.paper.title == "I Cannot Say: Handling an [UNK] Token and GPT-[n] Names"
    assert (second.paper.upvotes, second.paper.authors_complete, second.paper.media_type) == (
        0,
        False,
        "video",
    )
    assert (third.paper.upvotes, third.style) == (None, "bullets")
    assert third.fields[1].text.endswith("\n    - 세부: 중첩된 글머리표입니다.")
    assert [one.stars for one in fourth.fields] == [3, 2, 3, 3]


def test_the_composed_file_says_the_same_when_written_and_read_again(shared_data):
    day = parse_entries((shared_data("digest") / "ko_composed.md").read_text())
    for legacy in (None, False):
        again = parse_entries(render_entries(day, legacy=legacy))
        assert (again.date, again.entries) == (day.date, day.entries)
        assert len(again.warnings) < len(day.warnings)


@pytest.mark.parametrize(
    ("text", "kind", "check"),
    [
        (entry(1, authors="['A B', \"C D'E\"]"), "author list in brackets", ("A B", "C D'E")),
        (entry(1, authors="[__import__('os'), 'x']"), "none", ("[__import__('os')", "'x']")),
        (entry(1, authors="Ann, +, Bo"), "truncated authors", ("Ann", "Bo")),
    ],
)
def test_author_lines(text, kind, check):
    day = parse_entries(HEAD + text)
    assert day.entries[0].paper.authors == check
    assert kind in {*kinds(day), "none"}
    assert parse_entries(render_entries(day)).entries == day.entries


def test_a_video_without_brackets_is_read():
    day = parse_entries(HEAD + entry(1, media="[Watch Video]https://x.co/a.mp4"))
    assert (day.entries[0].paper.media, day.entries[0].paper.media_type) == ("https://x.co/a.mp4", "video")


def test_entries_without_blank_lines_are_read():
    text = (HEAD + entry(1) + entry(2)).replace("\n\n", "\n")
    day = parse_entries(text)
    assert len(day.entries) == 2
    assert kinds(day)["missing blank line"] == 2
    assert day.entries == parse_entries(HEAD + entry(1) + entry(2)).entries


def test_a_rerun_takes_the_place_of_the_first_and_keeps_its_votes():
    text = HEAD + entry(1) + entry(2) + HEAD + entry(1, votes="Vote: 9\n\n", title="A newer title")
    day = parse_entries(text)
    assert [(one.paper.id, one.paper.upvotes) for one in day] == [("2501.00001", 9), ("2501.00002", 3)]
    assert day.entries[0].paper.vote_history == (Votes(3),)
    assert parse_entries(render_entries(day)).entries == day.entries


def test_two_dates_in_one_file_are_refused():
    with pytest.raises(
        BadInputError, match="line 15: a second day 2025-01-03 begins in a file of 2025-01-02"
    ):
        parse_entries(HEAD + entry(1) + HEAD.replace("02)", "03)") + entry(2))


def test_a_readme_is_read_up_to_its_trailer():
    text = f"# A project\n\nIt lists papers.\n\n{HEAD}{entry(1)}## License\n\n### [Not](https://arxiv.org/abs/2501.00009)\n"
    day = parse_entries(text)
    assert [one.paper.id for one in day] == ["2501.00001"]
    assert kinds(day) == {"text outside an entry": 1, "trailer": 1}


def test_no_day_at_all_is_refused():
    with pytest.raises(BadInputError, match="no day '## Daily Papers"):
        parse_entries("# Something else\n")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_back(nasty_days, data):
    day = data.draw(nasty_days)
    text = render_entries(day)
    assert text.startswith(ESCAPED)
    back = parse_entries(text)
    assert len(back.entries) == len(day.entries)
    for ours, read in zip(day, back, strict=True):
        assert (read.paper.id, read.paper.title, read.paper.upvotes) == (
            ours.paper.id,
            ours.paper.title,
            ours.paper.upvotes,
        )
        assert read.paper.authors == ours.paper.authors
        assert read.sections == ours.sections
    assert render_entries(back) == text


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_text_becomes_markup(nasty_days, data):
    """Whatever the text: one heading and one link an entry, three bullets, no HTML but our own comment."""
    day = data.draw(nasty_days)
    tokens = MarkdownIt("commonmark").parse(render_entries(day))
    inline = Counter(child.type for token in tokens for child in token.children or ())
    blocks = Counter(token.type for token in tokens)
    assert inline["link_open"] == len(day.entries)
    assert blocks["list_item_open"] == 3 * len(day.entries)
    assert not inline["html_inline"] + inline["image"] + inline["code_inline"]
    assert [token.content.strip() for token in tokens if token.type == "html_block"] == [ESCAPED]


def test_verdicts_are_a_field_of_their_own_that_is_no_part_of_the_entry(a_day):
    tried = replace(
        a_day.entries[0], trial=OnTrial("apollo", "efficient", "built", {"holds": 9, "undecided": 4})
    )
    text = render_entries(replace(a_day, entries=(tried,)))
    assert "- ***On Trial***: ✔ 9 holds · ? 4 undecided (papertrial try apollo)." in text
    assert parse_entries(text).entries[0].sections == a_day.entries[0].sections
    korean = replace(tried, lang="ko")
    assert "✔ 9 성립 · ? 4 미정" in render_entries(replace(a_day, entries=(korean,)))
