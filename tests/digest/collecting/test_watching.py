"""Watching: every day once, missed days, failing days, two at once, Ctrl-C."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from papertrial.digest.collecting import watch
from papertrial.digest.records import Day
from papertrial.errors import BadInputError


@pytest.fixture
def days(clock):
    """A collector that notes its calls; a day is complete once 36 hours have passed."""

    class Collector:
        def __init__(self):
            self.calls = []
            self.failing = {}

        def __call__(self, day):
            self.calls.append(day.day)
            if day.day in self.failing:
                raise self.failing[day.day]
            begun = datetime(day.year, day.month, day.day, tzinfo=UTC)
            return Day(day, (), "hf", complete=clock.now() >= begun + timedelta(hours=36))

    return Collector()


def test_one_round_from_cron_collects_yesterday_and_today(days, clock):
    watched = watch(days, once=True, clock=clock)
    assert days.calls == [21, 22]
    assert watched.rounds == 1
    assert [day.complete for day in watched.days.values()] == [True, False]


def test_a_finished_day_is_not_collected_again_and_an_unfinished_one_is(days, clock):
    watch(days, once=True, clock=clock)
    watch(days, once=True, clock=clock)
    assert days.calls == [21, 22, 22]


def test_missed_days_are_caught_up_as_far_back_as_allowed(days, clock):
    watch(days, once=True, clock=clock)
    clock.time += timedelta(days=4)
    watch(days, once=True, clock=clock)
    assert days.calls[2:] == [22, 23, 24, 25, 26]
    days.calls.clear()
    clock.time = datetime(2025, 5, 31, 12, tzinfo=UTC)
    watch(days, once=True, back=2, clock=clock)
    assert days.calls == [29, 30, 31]


def test_a_first_day_may_be_named(days, clock):
    watch(days, once=True, since=date(2025, 5, 19), clock=clock)
    assert days.calls == [19, 20, 21, 22]


def test_it_goes_on_until_stopped_and_follows_the_calendar(days, clock):
    until = clock.time + timedelta(days=3)
    watched = watch(days, every=12 * 3600, until=until, clock=clock)
    assert clock.time == until
    assert watched.rounds == 6
    assert set(days.calls) == {21, 22, 23, 24, 25}
    assert days.calls.count(21) == 1
    assert days.calls.count(22) == 3  # at noon, at midnight, and at noon when its 36 hours are over


def test_a_failing_day_is_said_and_tried_again_and_stops_nothing(days, clock):
    said = []
    days.failing = {21: ValueError("the\ndisk is full")}
    watched = watch(days, once=True, clock=clock, say=said.append)
    assert days.calls == [21, 22]
    assert watched.failed == {date(2025, 5, 21): "the disk is full"}
    assert any("2025-05-21 failed: the disk is full" in line for line in said)
    days.failing = {}
    watch(days, once=True, clock=clock)
    assert days.calls == [21, 22, 21, 22]


def test_ctrl_c_ends_it_cleanly_and_loses_nothing(days, clock):
    days.failing = {22: KeyboardInterrupt()}
    watched = watch(days, every=3600, clock=clock)
    assert watched.interrupted
    assert list(watched.days) == [date(2025, 5, 21)]
    days.failing = {}
    watch(days, once=True, clock=clock)
    assert days.calls == [21, 22, 22]  # the finished day stays finished


def test_a_stop_ends_it_between_two_days(days, clock):
    stop = threading.Event()

    def collect(day):
        stop.set()
        return days(day)

    watched = watch(collect, stop=stop, clock=clock)
    assert days.calls == [21]
    assert not watched.interrupted


def test_two_at_once_do_not_collect_twice(days, clock):
    inner = []

    def collect(day):
        if not inner:
            inner.append(watch(days, once=True, clock=clock))
        return days(day)

    watch(collect, once=True, clock=clock)
    assert inner[0].busy
    assert days.calls == [21, 22]


def test_two_watches_of_one_name_share_the_work(days, clock):
    def both():
        for _ in range(2):
            yield watch(days, every=6 * 3600, until=clock.time + timedelta(seconds=1), clock=clock)

    list(both())
    assert days.calls == [21, 22]  # the second finds that the first has just tried today


def test_watches_of_different_names_know_nothing_of_each_other(days, clock):
    watch(days, once=True, clock=clock)
    watch(days, name="arxiv", once=True, clock=clock)
    assert days.calls == [21, 22, 21, 22]


def test_a_real_collector_is_watched(web, daily, hub_item, clock):
    from papertrial.digest.collecting import collect

    daily({"2025-05-21": [hub_item(1)], "2025-05-22": [hub_item(2)]})
    watched = watch(lambda day: collect(day, web=web), once=True, clock=clock)
    assert {day.day: len(one.entries) for day, one in watched.days.items()} == {21: 1, 22: 1}


def test_bad_input_is_refused(days, clock, tmp_path):
    with pytest.raises(BadInputError, match="every must be above 0"):
        watch(days, every=0, clock=clock)
    (tmp_path / "hf.json").write_text("{")
    with pytest.raises(BadInputError, match="remove"):
        watch(days, once=True, clock=clock, folder=tmp_path)
