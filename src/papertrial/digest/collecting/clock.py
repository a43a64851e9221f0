"""Time, in one place, so that waiting and "today" can be played in tests."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, date, datetime, timedelta

from papertrial.errors import BadInputError

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}")
_WEEK = re.compile(r"(\d{4})-W(\d{2})")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Clock:
    """The machine's clock. A day's boundaries are UTC."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Wait until `stop` is set, `seconds` at most; return whether it is set."""
        return stop.wait(seconds)

    def today(self) -> date:
        """Return the day that it is in UTC."""
        return self.now().date()


def read_date(given: date | str, clock: Clock) -> date:
    """Return the day that is meant by a date, by "2025-05-07", "today" or "yesterday".

    Raises:
        BadInputError: another form, a day that does not exist, or a day that has not begun in UTC.
    """
    day = _day(given, clock)
    if day > clock.today():
        raise BadInputError(f"{day} has not begun yet: it is {clock.now():%Y-%m-%d %H:%M} UTC")
    return day


def days_of_week(week: str) -> tuple[date, ...]:
    """Return the seven days of an ISO week such as "2025-W19", Monday first.

    Raises:
        BadInputError: another form, or a week that the year does not have.
    """
    match = _WEEK.fullmatch(week.strip())
    if match is None:
        raise BadInputError(f"a week is written YYYY-Www (2025-W19), got {week!r}")
    try:
        monday = date.fromisocalendar(int(match.group(1)), int(match.group(2)), 1)
    except ValueError as problem:
        raise BadInputError(f"there is no week {week!r}: {problem}") from problem
    return tuple(monday + timedelta(days=number) for number in range(7))


def weekday(day: date) -> str:
    """Return the English name of a day of the week."""
    return _WEEKDAYS[day.weekday()]


def start_of(day: date) -> datetime:
    """Return the moment at which a day begins in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _day(given: date | str, clock: Clock) -> date:
    if isinstance(given, datetime):
        return given.astimezone(UTC).date() if given.tzinfo else given.date()
    if isinstance(given, date):
        return given
    said = given.strip().lower()
    if said in ("today", "yesterday"):
        return clock.today() - timedelta(days=said == "yesterday")
    if not _ISO.fullmatch(said):
        raise BadInputError(f"a date is written YYYY-MM-DD, or today, or yesterday; got {given!r}")
    try:
        return date.fromisoformat(said)
    except ValueError as problem:
        raise BadInputError(f"there is no day {given!r}: {problem}") from problem
