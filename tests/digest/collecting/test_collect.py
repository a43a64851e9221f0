"""Collecting a day: once, again, in parts, late, empty, in the middle of failures."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.digest.collecting import DayStore, RemoteError, collect, collect_ids, collect_week
from papertrial.digest.collecting.days import folder_of
from papertrial.digest.collecting.store import merged, merged_paper
from papertrial.digest.records import Day, Entry, Paper, Votes
from papertrial.errors import BadInputError

DAY = date(2025, 5, 7)


def at(day, hour):
    return datetime(2025, 5, day, hour, tzinfo=UTC)


def ids(day):
    return [entry.paper.id for entry in day]


def test_a_second_collect_changes_no_byte_and_asks_nothing(web, remote, daily, hub_item, own_home):
    daily({"2025-05-07": [hub_item(1), hub_item(2)]})
    first = collect("2025-05-07", web=web)
    file = own_home / "digest" / "hf" / "2025-05-07.json"
    before, asked = file.read_bytes(), len(remote.asked)
    assert collect(DAY, web=web) == first
    assert file.read_bytes() == before
    assert len(remote.asked) == asked
    assert first.complete
    assert first.reason is None


def test_an_unfinished_day_asked_again_without_news_changes_no_byte(web, daily, hub_item, clock, own_home):
    clock.time = at(7, 9)
    daily({"2025-05-07": [hub_item(1)]})
    collect(DAY, web=web)
    file = own_home / "digest" / "hf" / "2025-05-07.json"
    before = file.read_bytes()
    clock.time = at(7, 10)
    collect(DAY, web=web)
    collect(DAY, web=web, refresh=True)
    assert file.read_bytes() == before


def test_a_day_that_grows_is_only_added_to(web, daily, hub_item, clock):
    clock.time = at(7, 9)
    daily({"2025-05-07": [hub_item(1, votes=1), hub_item(2)]})
    morning = collect(DAY, web=web)
    assert not morning.complete
    assert "may still grow until 2025-05-08 12:00 UTC" in morning.reason
    clock.time = at(7, 20)
    daily({"2025-05-07": [hub_item(3), hub_item(1, votes=9)]})  # one is new, one no longer listed
    evening = collect(DAY, web=web)
    assert ids(evening) == ["2505.00001", "2505.00002", "2505.00003"]
    paper = evening.entries[0].paper
    assert paper.upvotes == 9
    assert paper.vote_history == (Votes(1, at(7, 9)),)


def test_refresh_keeps_the_old_votes_of_a_complete_day(web, daily, hub_item, clock):
    history = []
    for number, votes in enumerate((0, 4, 4, 7)):
        daily({"2025-05-07": [hub_item(1, votes=votes)]})
        clock.time = at(20 + number, 0)
        day = collect(DAY, web=web, refresh=True)
        assert day.complete
        history.append([one.count for one in day.entries[0].paper.vote_history])
    assert history == [[], [0], [0], [0, 4]]


@pytest.mark.parametrize(
    ("hours", "next_day", "complete"),
    [(20, [], False), (20, [9], False), (30, [], False), (30, [9], True), (36, [], True), (35.99, [], False)],
)
def test_a_day_is_complete_once_the_next_exists_or_after_36_hours(
    web, daily, hub_item, clock, hours, next_day, complete
):
    clock.time = at(7, 0) + timedelta(hours=hours)
    daily({"2025-05-07": [hub_item(1)], "2025-05-08": [hub_item(number) for number in next_day]})
    assert collect(DAY, web=web).complete is complete


@pytest.mark.parametrize("count", [0, 1, 49, 50, 99, 100, 101, 150, 200])
def test_collecting_takes_no_more_requests_than_promised(web, remote, daily, hub_item, clock, count):
    clock.time = at(8, 6)  # when the next day is asked about
    daily({"2025-05-07": [hub_item(number) for number in range(1, count + 1)], "2025-05-08": [hub_item(999)]})
    assert len(collect(DAY, web=web).entries) == count
    assert remote.count("/api/daily_papers") <= 1 + math.ceil(count / 100)


def test_a_collected_next_day_finishes_the_one_before_without_asking(web, remote, daily, hub_item, clock):
    clock.time = at(8, 6)
    daily({"2025-05-07": [hub_item(1)], "2025-05-08": [hub_item(2)]})
    collect(date(2025, 5, 8), web=web)
    asked = len(remote.asked)
    assert collect(DAY, web=web).complete
    assert len(remote.asked) == asked + 1


def test_an_empty_day_is_a_result_with_a_reason(web, daily, own_home):
    daily({})
    day = collect("2025-05-10", web=web)
    assert (day.entries, day.complete) == ((), True)
    assert day.reason == "the Hub lists no papers for 2025-05-10, a Saturday"
    assert json.loads((own_home / "digest/hf/2025-05-10.json").read_text())["days"][0]["reason"] == day.reason


def test_an_empty_day_that_has_just_begun_is_asked_for_again(web, daily, hub_item, clock):
    clock.time = at(7, 1)
    daily({})
    assert not collect(DAY, web=web).complete
    daily({"2025-05-07": [hub_item(1)]})
    assert ids(collect(DAY, web=web)) == ["2505.00001"]


def test_yesterdays_papers_are_never_taken_for_todays(web, remote, reply, hub_item, clock):
    clock.time = at(8, 3)
    remote.on("/api/daily_papers", reply.json([hub_item(1), hub_item(2)]))  # heeds no date
    collect(DAY, web=web)
    today = collect(date(2025, 5, 8), web=web)
    assert today.entries == ()
    assert not today.complete
    assert "papers of 2025-05-07" in today.reason


def test_a_server_that_gives_the_latest_papers_for_an_old_day_is_seen_through(web, remote, reply, hub_item):
    latest = [hub_item(number, published="2025-05-20T00:00:00Z") for number in (1, 2)]
    remote.on("/api/daily_papers", reply.json(latest))
    day = collect("2025-05-01", web=web)
    assert day.entries == ()
    assert "2 not taken" in day.reason


def test_a_hard_stop_saves_what_came_and_the_next_collect_completes_it(web, remote, reply, daily, hub_item):
    page = [hub_item(number) for number in range(1, 101)]
    remote.on("/api/daily_papers", [reply.json(page), *[reply(status=429)] * 9])
    stopped = collect(DAY, web=web)
    assert len(stopped.entries) == 100
    assert not stopped.complete
    assert "cut short" in stopped.reason
    daily({"2025-05-07": [*page, hub_item(101)]})
    whole = collect(DAY, web=web)
    assert len(whole.entries) == 101
    assert whole.complete
    assert whole.reason is None


def test_a_source_that_gives_nothing_raises_and_writes_nothing(web, remote, reply, own_home):
    remote.on("/api/daily_papers", reply("<html>log in</html>", kind="text/html"))
    with pytest.raises(RemoteError, match="web page"):
        collect(DAY, web=web)
    assert not (own_home / "digest/hf/2025-05-07.json").exists()


def test_a_failing_source_leaves_what_was_collected_and_says_so(
    web, remote, reply, daily, hub_item, clock, own_home
):
    clock.time = at(7, 9)
    daily({"2025-05-07": [hub_item(1)]})
    collect(DAY, web=web)
    file = own_home / "digest/hf/2025-05-07.json"
    before = file.read_bytes()
    remote.on("/api/daily_papers", reply(status=500))
    day = collect(DAY, web=web)
    assert ids(day) == ["2505.00001"]
    assert day.reason.startswith("not asked for anew: ")
    assert file.read_bytes() == before


def test_offline_takes_only_what_is_there(web, remote, daily, hub_item, clock):
    clock.time = at(7, 9)
    daily({"2025-05-07": [hub_item(1)]})
    collect(DAY, web=web)
    asked = len(remote.asked)
    assert ids(collect(DAY, web=web, offline=True)) == ["2505.00001"]
    with pytest.raises(BadInputError, match="not collected from hf before"):
        collect("2025-05-06", web=web, offline=True)
    assert len(remote.asked) == asked


def test_two_at_once_collect_one_after_the_other(make_web, remote, daily, hub_item):
    daily({"2025-05-07": [hub_item(1)]})
    days = []

    def run():
        with make_web() as web:
            days.append(collect(DAY, web=web))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ids(day) for day in days] == [["2505.00001"]] * 4
    assert remote.count("/api/daily_papers") == 1  # the others found the day complete


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("2025-05-23", "has not begun yet: it is 2025-05-22 12:00 UTC"),
        ("07.05.2025", "YYYY-MM-DD"),
        ("20250507", "YYYY-MM-DD"),
        ("2025-02-30", "there is no day"),
        (None, "name the day"),
    ],
)
def test_days_that_cannot_be_are_refused(web, remote, when, said):
    with pytest.raises(BadInputError, match=said):
        collect(when, web=web)
    assert remote.asked == []


def test_today_and_yesterday_are_utc(web, daily, clock):
    daily({})
    clock.time = datetime(2025, 5, 8, 8, 30, tzinfo=UTC)
    assert collect("today", web=web).date == date(2025, 5, 8)
    assert collect("yesterday", web=web).date == DAY


def test_a_damaged_file_is_named(web, own_home):
    file = own_home / "digest/hf/2025-05-07.json"
    file.parent.mkdir(parents=True)
    for content in (
        "{",
        '{"schema": "other/9", "days": []}',
        '{"schema": "papertrial.digest/1", "days": []}',
    ):
        file.write_text(content)
        with pytest.raises(BadInputError, match=r"2025-05-07\.json.*remove it"):
            collect(DAY, web=web)


def test_an_unknown_source_names_the_known(web):
    with pytest.raises(BadInputError, match="did you mean arxiv"):
        collect(DAY, "arxivs", web=web)
    with pytest.raises(BadInputError, match=r"there is no file 'none\.md'"):
        collect(DAY, "none.md", web=web)


def test_arxiv_days_lie_by_category_and_settle_late(web, remote, reply, atom, atom_entry, clock, own_home):
    remote.on("/api/query", reply(atom(atom_entry()), kind="application/atom+xml"))
    clock.time = at(10, 0)
    day = collect(date(2025, 5, 6), "arxiv", categories=("cs.CL",), web=web)
    assert not day.complete  # what is submitted on a weekend's eve is announced days later
    clock.time = at(11, 0)
    assert collect(date(2025, 5, 6), "arxiv", categories=("cs.CL",), web=web).complete
    assert (own_home / "digest" / "arxiv-cs.CL" / "2025-05-06.json").is_file()
    assert folder_of("arxiv", ("cs.LG", "cs.CL", "cs.CV", "cs.AI")) == "arxiv"
    with pytest.raises(BadInputError, match=r"cs\.CL"):
        folder_of("arxiv", ("../../etc",))


def test_a_week_is_its_days_as_far_as_they_have_begun(web, daily, hub_item, clock):
    daily({"2025-05-07": [hub_item(1)], "2025-05-08": [hub_item(2)]})
    clock.time = at(8, 20)
    days = collect_week("2025-W19", web=web, clock=clock)
    assert [day.date.day for day in days] == [5, 6, 7, 8]
    assert [len(day.entries) for day in days] == [0, 0, 1, 1]
    for week, said in (("2025-W54", "no week"), ("W19", "YYYY-Www"), ("2025-W30", "not begun")):
        with pytest.raises(BadInputError, match=said):
            collect_week(week, web=web, clock=clock)


def test_papers_by_id(web, remote, reply, atom, atom_entry):
    remote.on("/api/query", reply(atom(atom_entry("2505.03335")), kind="application/atom+xml"))
    assert [entry.paper.id for entry in collect_ids(["2505.03335"], web=web).entries] == ["2505.03335"]


papers = st.builds(
    Paper,
    id=st.sampled_from(["2505.00001", "2505.00002", "2505.00003"]),
    title=st.sampled_from(["A", "B"]),
    upvotes=st.none() | st.integers(0, 5),
    abstract=st.none() | st.sampled_from(["x", "y"]),
    authors=st.sampled_from([(), ("Ada",)]),
    fetched_at=st.sampled_from([at(7, 1), at(7, 2)]),
)
days = st.builds(
    lambda listed, complete: Day(
        DAY, tuple(Entry(one) for one in {p.id: p for p in listed}.values()), "hf", complete=complete
    ),
    st.lists(papers, max_size=3),
    st.booleans(),
)


@given(old=days, new=days)
def test_merging_takes_nothing_away_and_repeating_it_changes_nothing(old, new):
    result = merged(old, new)
    assert ids(result)[: len(old.entries)] == ids(old)
    assert set(ids(result)) == set(ids(old)) | set(ids(new))
    assert result.complete == (old.complete or new.complete)
    for entry in old:
        now = result.entry(entry.paper.id).paper
        assert now.abstract is not None or entry.paper.abstract is None
        assert now.authors or not entry.paper.authors
        assert now.upvotes is not None or entry.paper.upvotes is None
        assert now.vote_history[: len(entry.paper.vote_history)] == entry.paper.vote_history
    assert merged(result, new).entries == result.entries


@given(old=papers, new=papers)
def test_every_vote_that_was_seen_is_kept_once(old, new):
    new = replace(new, id=old.id)
    result = merged_paper(old, new)
    seen = [one.count for one in result.vote_history] + [result.upvotes]
    expected = [old.upvotes] if old.upvotes is not None else []
    if new.upvotes is not None and new.upvotes != old.upvotes:
        expected.append(new.upvotes)
    assert [count for count in seen if count is not None] == expected


@settings(max_examples=30)
@given(day=days)
def test_the_store_gives_back_what_it_was_given(day, tmp_path_factory):
    store = DayStore("hf", tmp_path_factory.mktemp("store"))
    assert store.load(DAY) is None
    assert store.save(day)
    assert not store.save(day)
    assert store.load(DAY) == day
    assert store.dates() == [DAY]


def test_an_unwritable_home_is_said(web, daily, hub_item, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path / "file"))
    daily({"2025-05-07": [hub_item(1)]})
    with pytest.raises(BadInputError, match="cannot write"):
        collect(DAY, web=web)
