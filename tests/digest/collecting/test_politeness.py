"""Manners towards hosts: buckets, waiting, giving up. No test takes time: the clock is played."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.digest.collecting.politeness import (
    Answer,
    BrokenConnectionError,
    Host,
    Manners,
    RemoteError,
    ThrottledError,
    wait_asked_for,
)

NOW = datetime(2025, 5, 7, 12, 0, tzinfo=UTC)


def answer(status=200, **headers):
    return Answer(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, b"", "http://x/"
    )


def sender(*outcomes):
    left = iter(outcomes)

    def send():
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return send


@given(
    interval=st.floats(0.1, 10),
    burst=st.integers(1, 5),
    pauses=st.lists(st.floats(0, 20), min_size=1, max_size=30),
)
def test_no_window_holds_more_requests_than_the_bucket_allows(interval, burst, pauses):
    clock = _clock()
    host = Host("h", Manners(interval=interval, burst=burst), clock)
    times = []
    for pause in pauses:
        clock.time += timedelta(seconds=pause)
        host.ask(lambda: times.append(clock.time) or answer())
    for i, first in enumerate(times):
        for j in range(i, len(times)):
            span = (times[j] - first).total_seconds()
            # the definition of a token bucket; a microsecond is the clock's own grain, once for each request
            assert j - i + 1 <= burst + span / interval + 1e-6 * len(times) / interval + 1e-9


def test_arxiv_is_asked_every_three_seconds_by_all_processes_together(tmp_path, clock):
    manners = Manners(interval=3.0, one_at_a_time=True)
    first, second = (Host("arxiv", manners, clock, tmp_path) for _ in range(2))
    times = []
    for host in (first, second, first, second):
        host.ask(lambda: times.append(clock.time) or answer())
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    assert gaps == [3.0, 3.0, 3.0]


def test_a_broken_state_file_counts_as_an_empty_bucket(tmp_path, clock):
    (tmp_path / "h.json").write_text("{broken")
    Host("h", Manners(interval=3.0), clock, tmp_path).ask(lambda: answer())
    assert clock.slept == [3.0]


def test_a_clock_set_back_does_not_stop_the_asking(tmp_path, clock):
    Host("h", Manners(interval=3.0), clock, tmp_path).ask(lambda: answer())
    clock.time -= timedelta(days=2)
    Host("h", Manners(interval=3.0), clock, tmp_path).ask(lambda: answer())
    assert sum(clock.slept) <= 3.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17.0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=40), usegmt=True)}, 40.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=40), usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 55.0),
        ({"ratelimit": '"api";r=12;t=55'}, None),
        ({}, None),
    ],
)
def test_what_a_host_asks_for_is_understood(headers, seconds):
    assert wait_asked_for(headers, NOW) == seconds


def test_retry_after_is_waited_for_before_the_next_try(clock):
    host = Host("h", Manners(interval=0.001), clock, chance=lambda: 0.5)
    assert host.ask(sender(answer(429, retry_after="17"), answer())).status == 200
    assert clock.slept == [17.5]  # what was asked for, and the jitter on top


def test_waits_double_with_jitter_where_the_host_says_nothing(clock):
    host = Host("h", Manners(interval=0.001, attempts=4), clock, chance=lambda: 1.0)
    host.ask(sender(answer(503), answer(500), BrokenConnectionError("cut"), answer()))
    assert clock.slept == [2.0, 4.0, 8.0]


def test_jitter_only_shortens_and_by_half_at_most(clock):
    host = Host("h", Manners(interval=0.001, attempts=2), clock, chance=lambda: 0.0)
    host.ask(sender(answer(503), answer()))
    assert clock.slept == [1.0]


def test_a_host_that_keeps_refusing_is_left_alone(clock):
    host = Host("h", Manners(interval=0.001, patience=3, attempts=9), clock)
    with pytest.raises(ThrottledError, match="3 times in a row"):
        host.ask(lambda: answer(429))
    assert host.requests == 3


def test_refusals_count_over_requests_and_an_answer_resets_them(clock):
    host = Host("h", Manners(interval=0.001, patience=3, attempts=2), clock)
    for _ in range(4):
        assert host.ask(sender(answer(429), answer())).status == 200
    with pytest.raises(RemoteError):
        host.ask(lambda: answer(429))
    with pytest.raises(ThrottledError):
        host.ask(lambda: answer(429))


def test_a_host_that_wants_an_hour_gets_it_without_waiting(clock):
    with pytest.raises(ThrottledError, match="3600 seconds"):
        Host("h", Manners(interval=0.001), clock).ask(lambda: answer(429, retry_after="3600"))
    assert clock.slept == []


def test_other_refusals_are_answers_and_not_retried(clock):
    host = Host("h", Manners(interval=0.001), clock)
    assert host.ask(lambda: answer(404)).status == 404
    assert host.requests == 1


def test_giving_up_says_what_happened(clock):
    host = Host("h", Manners(interval=0.001, attempts=2), clock)
    with pytest.raises(RemoteError, match="h answered 502, 2 times in a row"):
        host.ask(lambda: answer(502))


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("é 한".encode(), "application/json", "é 한"),
        ("é 한".encode(), "text/html; charset=iso-8859-1", "é 한"),  # a wrong charset: the bytes are UTF-8
        ("é".encode("latin-1"), "text/html; charset=ISO-8859-1", "é"),
        ("é".encode("latin-1"), "text/html; charset=nonsense", "\ufffd"),
        (b"\xef\xbb\xbf[]", "application/json", "[]"),
    ],
)
def test_bodies_are_decoded_whatever_the_charset_says(body, kind, text):
    assert Answer(200, {"content-type": kind}, body, "http://x/").text() == text


def _clock():
    class Played:
        time = NOW

        def now(self):
            return self.time

        def sleep(self, seconds):
            self.time += timedelta(seconds=seconds)

    return Played()
