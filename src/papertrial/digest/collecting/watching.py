"""Collecting every day until stopped, or once from cron: missed days are caught up, unfinished ones retried."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout

from papertrial.digest.collecting.clock import Clock
from papertrial.digest.records import Day
from papertrial.errors import BadInputError
from papertrial.home import ensure_writable, home
from papertrial.trial.files import write_atomically

_REMEMBERED = 400  # days


@dataclass
class Watched:
    """What a watch did.

    Attributes:
        days: the days that were collected, each as it came last.
        failed: the days that failed last, with the reason.
        rounds: how often it looked.
        busy: whether another watch was at work, so that nothing was done in the last round.
        interrupted: whether Ctrl-C ended it.
    """

    days: dict[date, Day] = field(default_factory=dict)
    failed: dict[date, str] = field(default_factory=dict)
    rounds: int = 0
    busy: bool = False
    interrupted: bool = False


def watch(
    collect_day: Callable[[date], Day],
    *,
    name: str = "hf",
    every: float = 6 * 3600.0,
    once: bool = False,
    until: datetime | None = None,
    stop: threading.Event | None = None,
    since: date | None = None,
    back: int = 7,
    clock: Clock | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Watched:
    """Call `collect_day` for every day that is not finished, again and again, until stopped.

    A day is finished when `collect_day` has returned it complete. What is finished is remembered in a file,
    so that days missed while nothing ran are caught up, `back` days at most, and a second watch of the same
    name does nothing twice: a round holds a lock, and a day that was tried less than `every` ago waits. A day
    that fails is said and tried again in the next round. Ctrl-C ends the watch between or within days; what
    was finished stays finished.

    Args:
        collect_day: collects one day and does what is to be done with it; called twice, it must do no harm.
        name: whose days these are; watches of different names know nothing of each other.
        every: seconds between rounds.
        once: make one round and return, as from cron.
        until: the moment after which no round begins.
        stop: set it to end the watch.
        since: the first day; None: the day before the first round.
        back: how many days before today are caught up at most.
        clock: tells the time and waits.
        folder: where it is remembered; None: `<home>/digest/watch`.
        say: told in a line what happens.

    Raises:
        BadInputError: `every` or `back` make no sense, or the folder cannot be written.
    """
    if every <= 0 or back < 0:
        raise BadInputError(f"every must be above 0 seconds and back at least 0 days, got {every} and {back}")
    clock = clock or Clock()
    stop = stop or threading.Event()
    rounds = _Rounds(collect_day, name, every, since, back, clock, folder or home() / "digest" / "watch", say)
    watched = rounds.watched
    try:
        while not stop.is_set() and (until is None or clock.now() < until):
            rounds.round(stop, always=once)
            if once or clock.wait(_pause(every, until, clock), stop):
                break
    except KeyboardInterrupt:
        watched.interrupted = True
        say("stopped; what was finished stays finished")
    return watched


class _Rounds:
    def __init__(
        self,
        collect_day: Callable[[date], Day],
        name: str,
        every: float,
        since: date | None,
        back: int,
        clock: Clock,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        ensure_writable(folder)
        self._collect_day, self._every, self._since, self._back = collect_day, every, since, back
        self._clock, self._say = clock, say
        self._file = folder / f"{name}.json"
        self._lock = FileLock(folder / f"{name}.lock")
        self.watched = Watched()

    def round(self, stop: threading.Event, *, always: bool) -> None:
        """Collect every day that is due, unless another watch is at it."""
        self.watched.rounds += 1
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self.watched.busy = True
            self._say("another watch is at work; nothing to do")
            return
        try:
            self.watched.busy = False
            memory = self._recall()
            for day in self._due(memory, always):
                if stop.is_set():
                    return
                self._one(day, memory)
        finally:
            self._lock.release()

    def _one(self, day: date, memory: dict[str, dict[str, str]]) -> None:
        """Collect one day, and remember how that went."""
        try:
            collected = self._collect_day(day)
        except Exception as problem:  # a watch outlives whatever one day does
            said = " ".join(str(problem).split()) or type(problem).__name__
            self.watched.failed[day] = said
            outcome = "failed"
            self._say(f"{day} failed: {said}; it will be tried again")
        else:
            self.watched.failed.pop(day, None)
            self.watched.days[day] = collected
            outcome = "complete" if collected.complete else "incomplete"
            why = f" ({collected.reason})" if collected.reason else ""
            self._say(f"{day}: {len(collected.entries)} papers, {outcome}{why}")
        memory[day.isoformat()] = {"outcome": outcome, "tried": self._clock.now().isoformat()}
        self._remember(memory)

    def _due(self, memory: dict[str, dict[str, str]], always: bool) -> list[date]:
        """Return the days to be collected now, the earliest first."""
        today = self._clock.today()
        known = [date.fromisoformat(text) for text in memory]
        first = min([*known, *([self._since] if self._since else [])], default=today - timedelta(days=1))
        first = max(first, today - timedelta(days=self._back))
        days = [first + timedelta(days=number) for number in range((today - first).days + 1)]
        return [day for day in days if self._is_due(memory.get(day.isoformat()), always)]

    def _is_due(self, known: dict[str, str] | None, always: bool) -> bool:
        if known is None:
            return True
        if known["outcome"] == "complete":
            return False
        passed = (self._clock.now() - datetime.fromisoformat(known["tried"]).astimezone(UTC)).total_seconds()
        # A tenth is forgiven: a round takes its time, and the next one must not miss the day by a second.
        return always or not 0 <= passed < 0.9 * self._every

    def _recall(self) -> dict[str, dict[str, str]]:
        try:
            kept = json.loads(self._file.read_bytes())
            for text, known in kept.items():
                date.fromisoformat(text), datetime.fromisoformat(known["tried"]), known["outcome"]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise BadInputError(f"what the watch remembers is broken: remove {self._file}") from problem
        return dict(kept)

    def _remember(self, memory: dict[str, dict[str, str]]) -> None:
        kept = dict(sorted(memory.items())[-_REMEMBERED:])
        write_atomically(self._file, json.dumps(kept, indent=1).encode())


def _pause(every: float, until: datetime | None, clock: Clock) -> float:
    if until is None:
        return every
    return max(0.0, min(every, (until - clock.now()).total_seconds()))
