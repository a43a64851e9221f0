"""Where the sources are, and how dates are written."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from importlib.metadata import version

import pytest

from papertrial.digest.collecting import Remotes, days_of_week, read_date
from papertrial.digest.collecting.web import user_agent
from papertrial.errors import BadInputError


def test_the_environment_says_where_the_sources_are(monkeypatch):
    for name in ("HF_ENDPOINT", "PAPERTRIAL_ARXIV", "PAPERTRIAL_ARXIV_API"):
        monkeypatch.delenv(name, raising=False)
    assert Remotes.from_environment() == Remotes()
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hub/")
    assert Remotes.from_environment().hub == "https://mirror.example/hub"
    monkeypatch.setenv("PAPERTRIAL_ARXIV_API", "ftp://x")
    with pytest.raises(BadInputError, match="PAPERTRIAL_ARXIV_API must be an address"):
        Remotes.from_environment()


def test_hosts_are_told_who_asks(web, remote, reply):
    remote.on("/html/2505.00001", reply("x", kind="text/html"))
    web.arxiv(f"{remote.url}/html/2505.00001")
    assert remote.asked[0][2]["user-agent"] == user_agent() == f"papertrial/{version('papertrial')}"


def test_a_day_is_the_one_in_utc(clock):
    clock.time = datetime(2025, 5, 7, 23, 30, tzinfo=UTC)
    seoul = timezone(timedelta(hours=9))
    assert read_date(datetime(2025, 5, 7, 8, 0, tzinfo=seoul), clock) == date(2025, 5, 6)
    with pytest.raises(BadInputError, match="has not begun yet"):
        read_date(date(2025, 5, 8), clock)  # it has in Seoul


def test_weeks_begin_on_monday_and_know_their_year():
    assert days_of_week("2025-W19")[0] == date(2025, 5, 5)
    assert days_of_week("2026-W01")[0] == date(2025, 12, 29)
    assert len(days_of_week("2025-W19")) == 7
