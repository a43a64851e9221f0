"""Feeds and the HTML file: other people's parsers read them, hostile text stays text."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path

import feedparser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.digest.cards import card_days, day_of_cards, with_trials
from papertrial.digest.feeds import FeedMemory, atom, entry_id, rss
from papertrial.digest.html_format import render_html
from papertrial.digest.marking import marked
from papertrial.digest.records import GroundedNumber
from papertrial.trial.rooms import discover

HOSTILE = "<script>alert(1)</script> & \x00\x0b ]]> <img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    """Collects the tags, their attributes and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("write", [atom, rss])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_feed_of_hostile_text_parses_with_nothing_lost(write, nasty_days, data):
    day = data.draw(nasty_days)
    read = feedparser.parse(write([day]))
    assert not read.bozo, read.get("bozo_exception")
    assert [entry.id for entry in read.entries] == [entry_id(day, entry) for entry in day]
    for ours, theirs in zip(day, read.entries, strict=True):
        assert theirs.link == ours.paper.links["arxiv"]
        assert "<script" not in theirs.get("summary", "")


@pytest.mark.parametrize("write", [atom, rss])
def test_hostile_text_is_shown_and_never_run(write, a_day):
    entry = replace(a_day.entries[0], sections={"whats_new": HOSTILE}).with_paper(title=HOSTILE)
    text = write([replace(a_day, entries=(entry,))])
    assert not feedparser.parse(text).bozo
    assert "\x00" not in text
    content = re.search(r"&lt;p&gt;.*?&lt;/p&gt;", text, re.DOTALL)[0]
    assert "&lt;script" not in content, "escaped once it would be a script in the reader's page"
    assert "&amp;lt;script&amp;gt;" in content


def test_updated_changes_only_with_the_content(a_day, tmp_path):
    memory = FeedMemory(tmp_path / "feed.json")
    first = atom([a_day], memory=memory)
    kept = memory.file.read_bytes()
    assert atom([a_day], memory=memory) == first
    assert memory.file.read_bytes() == kept
    changed = replace(a_day, entries=(replace(a_day.entries[0], sections={"whats_new": "Other."}),))
    updated = feedparser.parse(atom([changed], memory=memory)).entries[0].updated_parsed
    before = feedparser.parse(first).entries[0].updated_parsed
    assert before[:3] == (2025, 1, 2)
    assert updated > before
    assert atom([changed], memory=memory) == atom([changed], memory=memory)


def test_dates_are_those_of_the_formats(a_day):
    made = replace(a_day.entries[0], created_at=datetime(2025, 1, 2, 7, 30, tzinfo=UTC))
    day = replace(a_day, entries=(made,))
    assert "<updated>2025-01-02T07:30:00+00:00</updated>" in atom([day])
    assert "<pubDate>Thu, 02 Jan 2025 00:00:00 +0000</pubDate>" in rss([day])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_html_file_holds_text_only(nasty_days, data):
    day = data.draw(nasty_days)
    page = Tags(render_html([day]))
    assert not {"script", "img", "iframe", "object", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [value for name, value in page.attributes if name == "href"]
    assert links == [entry.paper.links["arxiv"] for entry in day]


def test_the_html_file_needs_nothing_from_outside(a_day):
    page = render_html([a_day])
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=\"(?!https://arxiv\.org/abs/)", page)


def test_each_number_shows_where_the_paper_has_it(a_day):
    text = "It gains 12 % and 5x <b>."
    numbers = [
        GroundedNumber("12 %", "performance", 9, 13, 12.0, "%", "exact", 'Row "a": 12 %'),
        GroundedNumber("5x", "performance", 18, 20, 5.0, "x", "absent"),
        GroundedNumber("?", "performance", 10, 11, 2.0, "", "exact"),  # inside another: left unmarked
    ]
    shown = marked(text, numbers)
    assert 'class="number exact" title="in the paper: Row &#34;a&#34;: 12 %">12 %</abbr>' in shown
    assert 'class="number absent" title="the paper does not have this number">5x<sup' in shown
    assert shown.endswith("&lt;b&gt;.")
    assert shown.count("<abbr") == 2
    plain = re.sub(r"<sup.*?</sup>|<[^>]*>", "", shown)
    assert plain == "It gains 12 % and 5x &lt;b&gt;."


def test_the_days_of_the_cards_are_whole_in_both_languages():
    rooms = [room for room in discover().values() if room.card.day]
    days = card_days()
    assert date(2025, 5, 7) in days
    for lang in ("en", "ko"):
        shown = [day_of_cards(when, lang, Path("/nowhere")) for when in days]
        assert sum(len(day.entries) for day in shown) == len(rooms)
        for day in shown:
            for entry in day:
                assert all(entry.sections.values())
                assert entry.lang == lang
                assert (entry.trial.status == "docket") == (not entry.trial.verdicts)
    assert day_of_cards(date(2020, 1, 1), "en", Path("/nowhere")) is None


def test_papers_with_a_card_are_linked_to_their_trial(a_day):
    day = replace(a_day, entries=(a_day.entries[0].with_paper(id="2412.05270"), a_day.entries[0]))
    linked, other = with_trials(day, Path("/nowhere"))
    assert linked.trial.name == "apollo"
    assert linked.trial.verdicts["holds"] > 0
    assert other.trial is None
