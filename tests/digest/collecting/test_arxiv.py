"""arXiv's Atom answers: what is read from them, and what is made of the traps."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime

import feedparser
import pytest

from papertrial.digest.collecting import arxiv
from papertrial.digest.collecting.politeness import RemoteError, ThrottledError
from papertrial.errors import BadInputError

XML = "application/atom+xml"


def test_an_entry_is_read_whole_and_unwrapped(atom, atom_entry):
    page = arxiv.parse_atom(atom(atom_entry(version=3)).encode(), "arxiv", None)
    paper = page.entries[0].paper
    assert (paper.id, paper.version) == ("2505.00001", 3)
    assert paper.title == "A title over two lines"
    assert paper.abstract == "We present a method <b> that wraps."
    assert paper.authors == ("Ada A.", "Bob B.")
    assert paper.authors_complete
    assert paper.published == datetime(2025, 5, 6, 17, 59, 59, tzinfo=UTC)
    assert paper.categories == ("cs.CL", "cs.LG")  # the primary one first
    assert page.entries[0].notes == ()


def test_it_agrees_with_feedparser(atom, atom_entry):
    text = atom(*(atom_entry(f"2505.{number:05d}") for number in range(1, 6)))
    theirs = feedparser.parse(text)
    ours = arxiv.parse_atom(text.encode(), "arxiv", None).entries
    assert not theirs.bozo
    for one, other in zip(ours, theirs.entries, strict=True):
        assert other.id.endswith(f"{one.paper.id}v{one.paper.version}")
        assert one.paper.title == " ".join(other.title.split())
        assert list(one.paper.authors) == [author.name for author in other.authors]
        assert set(one.paper.categories) == {tag.term for tag in other.tags}


def test_an_error_entry_is_the_users_to_mend(atom):
    error = (
        "<entry><id>http://arxiv.org/api/errors#incorrect_id_format</id><title>Error</title>"
        "<summary>incorrect id format for 1</summary></entry>"
    )
    with pytest.raises(BadInputError, match="incorrect id format for 1"):
        arxiv.parse_atom(atom(error).encode(), "arxiv", None)


def test_control_characters_in_a_feed_are_dropped(atom, atom_entry):
    page = arxiv.parse_atom(atom(atom_entry(title="A\x01 B\x0b")).encode(), "arxiv", None)
    assert page.entries[0].paper.title == "A B"


def test_a_paper_called_error_is_a_paper(atom, atom_entry):
    page = arxiv.parse_atom(atom(atom_entry(title="Error")).encode(), "arxiv", None)
    assert page.entries[0].paper.title == "Error"


@pytest.mark.parametrize("pdf", [True, False])
def test_a_withdrawn_paper_says_so(atom, atom_entry, pdf):
    entry = atom_entry(pdf=pdf, comment="This paper has been withdrawn by the author")
    assert "withdrawn" in arxiv.parse_atom(atom(entry).encode(), "arxiv", None).entries[0].notes[0]


def test_a_repository_in_the_comment_is_kept(atom, atom_entry):
    entry = atom_entry(comment="Code: https://github.com/lab/code-it.")
    assert arxiv.parse_atom(atom(entry).encode(), "arxiv", None).entries[0].paper.github == (
        "https://github.com/lab/code-it"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"Rate exceeded.",
        b"<html><body>captcha</body></html>",
        b"<feed>",
        b"",
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><feed>&a;</feed>',
        b'<?xml version="1.0" encoding="no-such"?><feed/>',
    ],
)
def test_anything_but_a_feed_is_refused(content):
    with pytest.raises(RemoteError, match="not an Atom feed"):
        arxiv.parse_atom(content, "arxiv", None)


def test_ids_are_asked_for_a_hundred_at_a_time(web, remote, reply, atom, atom_entry):
    def answer(query):
        return reply(atom(*(atom_entry(one) for one in query["id_list"].split(","))), kind=XML)

    remote.on("/api/query", answer)
    ids = [f"2505.{number:05d}" for number in range(1, 251)]
    found = arxiv.by_ids(web, [*ids, ids[0]])
    assert [entry.paper.id for entry in found.entries] == ids
    assert found.requests == remote.count("/api/query") == 3
    assert found.missing == ()


def test_ids_that_are_not_there_are_named(web, remote, reply, atom, atom_entry):
    remote.on("/api/query", reply(atom(atom_entry("2505.00002")), kind=XML))
    found = arxiv.by_ids(web, ["2505.00001v2", "2505.00002"])
    assert [entry.paper.id for entry in found.entries] == ["2505.00002"]
    assert found.missing == ("2505.00001",)


def test_an_id_that_is_none_is_refused_before_asking(web, remote):
    with pytest.raises(BadInputError, match="got 'cs/0501001x'"):
        arxiv.by_ids(web, ["2505.00001", "cs/0501001x"])
    assert remote.asked == []


def test_a_day_is_asked_for_by_submission_and_paged(web, remote, reply, atom, atom_entry):
    entries = [atom_entry(f"2505.{number:05d}") for number in range(1, 151)]

    def answer(query):
        start, size = int(query["start"]), int(query["max_results"])
        return reply(atom(*entries[start : start + size], total=150), kind=XML)

    remote.on("/api/query", answer)
    found = arxiv.of_day(web, date(2025, 5, 6), ("cs.CL", "cs.LG"))
    assert len(found.entries) == 150
    assert found.requests == 2
    query = remote.asked[0][1]
    assert (
        query["search_query"] == "(cat:cs.CL OR cat:cs.LG) AND submittedDate:[202505060000 TO 202505062359]"
    )
    assert found.entries[0].paper.listed_on == date(2025, 5, 6)


def test_requests_keep_three_seconds_apart(web, remote, clock, reply, atom, atom_entry):
    entries = [atom_entry(f"2505.{number:05d}") for number in range(1, 301)]
    times = []

    def answer(query):
        times.append(clock.now())
        start = int(query["start"])
        return reply(atom(*entries[start : start + 100], total=300), kind=XML)

    remote.on("/api/query", answer)
    arxiv.of_day(web, date(2025, 5, 6))
    assert [(b - a).total_seconds() for a, b in itertools.pairwise(times)] == [3.0, 3.0]


def test_the_plain_body_rate_exceeded_counts_as_too_many_requests(web, remote, reply, atom, atom_entry):
    limited = reply("Rate exceeded.", kind="text/plain")
    remote.on("/api/query", [limited, limited, reply(atom(atom_entry()), kind=XML)])
    assert len(arxiv.search(web, "all:x", most=1).entries) == 1
    remote.on("/api/query", limited)
    with pytest.raises(ThrottledError, match="too many requests"):
        arxiv.search(web, "all:x", most=1)


def test_what_came_before_a_failure_is_kept(web, remote, reply, atom, atom_entry):
    first = reply(atom(*(atom_entry(f"2505.{n:05d}") for n in range(1, 101)), total=200), kind=XML)
    remote.on("/api/query", [first, *[reply(status=503)] * 9])
    found = arxiv.search(web, "all:x")
    assert len(found.entries) == 100
    assert "503" in found.problem


def test_an_empty_page_in_the_middle_is_a_failure_and_not_the_end(web, remote, reply, atom, atom_entry):
    first = reply(atom(*(atom_entry(f"2505.{n:05d}") for n in range(1, 101)), total=200), kind=XML)
    remote.on("/api/query", [first, reply(atom(total=200), kind=XML)])
    found = arxiv.search(web, "all:x")
    assert len(found.entries) == 100
    assert "empty page" in found.problem


def test_nothing_found_is_a_result(web, remote, reply, atom):
    remote.on("/api/query", reply(atom(), kind=XML))
    found = arxiv.search(web, "all:x")
    assert (found.entries, found.problem, found.requests) == ((), None, 1)


def test_a_larger_search_says_that_it_was_cut(web, remote, reply, atom, atom_entry):
    remote.on("/api/query", reply(atom(atom_entry(), total=9), kind=XML))
    assert "arXiv has 9 papers" in arxiv.search(web, "all:x", most=1).problem


def test_a_captcha_page_is_named(web, remote, reply):
    remote.on("/api/query", reply("<html>are you human?</html>", kind="text/html"))
    with pytest.raises(RemoteError, match="captcha"):
        arxiv.search(web, "all:x")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda web: arxiv.search(web, "  "), "query is empty"),
        (lambda web: arxiv.search(web, "x", most=0), "between 1 and 2000"),
        (lambda web: arxiv.of_day(web, date(2025, 5, 6), ()), "cs.CL"),
        (lambda web: arxiv.of_day(web, date(2025, 5, 6), ("cs.CL OR cat:math",)), "cs.CL"),
    ],
)
def test_bad_input_is_refused_before_asking(web, remote, call, said):
    with pytest.raises(BadInputError, match=said):
        call(web)
    assert remote.asked == []


def test_arxivs_own_listing_feed_is_read():
    feed = """<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>oai:arXiv.org:2505.03335v1</id><title>T</title>
    <summary>arXiv:2505.03335v1 Announce Type: new Abstract: We show it.</summary></entry></feed>"""
    paper = arxiv.parse_atom(feed.encode(), "feed.xml", None).entries[0].paper
    assert (paper.id, paper.version, paper.abstract) == ("2505.03335", 1, "We show it.")


def test_a_strangers_feed_gives_text_that_is_no_abstract():
    feed = """<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>tag:x,2025:2505.03335</id><title>T</title>
    <content type="html">&lt;p&gt;A &lt;b&gt;summary&lt;/b&gt;.&lt;/p&gt;&lt;script&gt;x()&lt;/script&gt;</content>
    </entry><entry><id>tag:x,2025:other</id><title>No paper</title></entry></feed>"""
    page = arxiv.parse_atom(feed.encode(), "feed.xml", None)
    assert page.entries[0].paper.abstract is None
    assert page.entries[0].fields[0].text == "A summary."
    assert page.skipped == ("No paper",)
