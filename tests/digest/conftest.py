"""What the tests of the digest share."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import strategies as st

from papertrial.digest.records import THREE_PARTS, Day, Entry, Paper

# Text as the outside sends it: pipes, brackets, markup, emoji, right-to-left, control characters, line breaks.
NASTY = st.text(
    alphabet=st.sampled_from("ab Z9.,:;|[](){}<>&\"'`*_\\/$^~#!-+\n\r\té한글שלום🙂\u202e\u2028\x00\x0b"),
    max_size=40,
)


def one_line(text):
    return " ".join(text.split())


@pytest.fixture(scope="session")
def nasty_days():
    """Strategy: days made here whose titles, authors and summaries are hostile."""
    line = NASTY.map(lambda text: one_line(text) or "x")
    name = line.map(lambda text: one_line(text.replace(",", "").replace("+", "")) or "Ann")
    paper = st.builds(
        Paper,
        id=st.integers(0, 99999).map("2501.{:05}".format),
        title=line,
        authors=st.lists(name, max_size=3).map(tuple),
        authors_complete=st.just(True),
        upvotes=st.none() | st.integers(0, 999),
        listed_on=st.just(date(2025, 1, 2)),
    )
    entry = st.builds(
        Entry,
        paper=paper,
        sections=st.fixed_dictionaries(dict.fromkeys(THREE_PARTS, line)),
        lang=st.just("en"),
    )
    entries = st.lists(entry, max_size=4, unique_by=lambda entry: entry.paper.id).map(tuple)
    return st.builds(Day, date=st.just(date(2025, 1, 2)), entries=entries, source=st.just("made"))
