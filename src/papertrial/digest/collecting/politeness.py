"""How often a host is asked: a token bucket each, waiting when it says so, and giving up in time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from filelock import FileLock, Timeout

from papertrial.digest.collecting.clock import Clock
from papertrial.errors import PapertrialError
from papertrial.home import ensure_writable

_LOCK_SECONDS = 300.0


class RemoteError(PapertrialError):
    """A remote source gave nothing that can be used, in spite of all patience."""


class ThrottledError(RemoteError):
    """A host said "too many requests" so often in a row that asking on would be rude."""


class BrokenConnectionError(RemoteError):
    """A host could not be reached, or the connection broke in the middle."""


@dataclass(frozen=True)
class Answer:
    """What a host answered.

    Attributes:
        status: the HTTP status.
        headers: by lower-case name.
        body: decompressed.
        url: the address that answered, after redirects.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def kind(self) -> str:
        """The media type without parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def text(self) -> str:
        """Return the body as text: by the stated charset, else UTF-8; what cannot be decoded becomes �."""
        _, _, stated = self.headers.get("content-type", "").lower().partition("charset=")
        charset = stated.partition(";")[0].strip(" \"'")
        for name in ("utf-8-sig", charset):  # a wrong charset is common, and false UTF-8 is rare
            try:
                return self.body.decode(name)
            except (UnicodeDecodeError, LookupError, ValueError):
                continue
        return self.body.decode("utf-8", errors="replace")


@dataclass(frozen=True)
class Manners:
    """How a host wants to be asked.

    Attributes:
        interval: seconds after which one more request may be made.
        burst: requests that may be made at once after a rest.
        one_at_a_time: whether no second request may be under way, from this machine.
        attempts: how often one request is made before giving up.
        patience: after how many "too many requests" in a row, over all requests, asking ends.
        longest_wait: a host that wants to be left alone for longer than these seconds is.
    """

    interval: float
    burst: int = 1
    one_at_a_time: bool = False
    attempts: int = 5
    patience: int = 4
    longest_wait: float = 120.0


# arXiv's terms for its API: no more than one request every three seconds, on one connection.
ARXIV_MANNERS = Manners(interval=3.0, one_at_a_time=True)
# The Hub's free limit is 500 API requests, and 100 pages, in five minutes.
HUB_API_MANNERS = Manners(interval=0.6, burst=10)
HUB_PAGE_MANNERS = Manners(interval=3.0, burst=10)


class Host:
    """One host, asked with manners.

    Args:
        name: the host's name, as it is said and as its state is named.
        manners: how it wants to be asked.
        clock: tells the time and waits.
        folder: where the state lies that all processes of this machine share; None: this process only.
        chance: draws the jitter; between 0 and 1.
    """

    def __init__(
        self,
        name: str,
        manners: Manners,
        clock: Clock,
        folder: Path | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.manners = manners
        self._clock = clock
        self._folder = folder
        self._chance = chance
        self._tokens = float(manners.burst)
        self._seen: datetime | None = None
        self._refusals = 0
        self.requests = 0

    def ask(
        self, send: Callable[[], Answer], throttled: Callable[[Answer], bool] = lambda answer: False
    ) -> Answer:
        """Return the answer of one request, made as often and as slowly as it takes.

        Made again after a wait: 429 and what `throttled` takes for one, 5xx, and broken connections. The
        wait is what the host asks for (`Retry-After` in seconds or as a date, or its rate limit's reset),
        else it doubles, with jitter. Any other answer is returned, whatever its status.

        Raises:
            ThrottledError: "too many requests" as often in a row as `manners.patience`, or the host asks
                for more than `manners.longest_wait` seconds.
            RemoteError: every attempt failed.
        """
        problem = ""
        for attempt in range(self.manners.attempts):
            answer = None
            try:
                with self._turn():
                    self.requests += 1
                    answer = send()
            except BrokenConnectionError as broken:
                problem = str(broken)
            if answer is not None:
                refused = answer.status == 429 or throttled(answer)
                if not refused and answer.status < 500:
                    self._refusals = 0
                    return answer
                problem = f"{self.name} answered {answer.status}"
                if refused:
                    self._refuse()
            if attempt + 1 < self.manners.attempts:
                self._clock.sleep(self._wait(answer, attempt))
        raise RemoteError(f"{problem}, {self.manners.attempts} times in a row")

    def _refuse(self) -> None:
        self._refusals += 1
        if self._refusals >= self.manners.patience:
            raise ThrottledError(
                f'{self.name} said "too many requests" {self._refusals} times in a row; try again later'
            )

    def _wait(self, answer: Answer | None, attempt: int) -> float:
        asked = None if answer is None else wait_asked_for(answer.headers, self._clock.now())
        if asked is not None:
            if asked > self.manners.longest_wait:
                raise ThrottledError(
                    f"{self.name} wants to be left alone for {asked:.0f} seconds; try again then"
                )
            return asked + self._chance()
        longest = min(max(self.manners.interval, 1.0) * 2.0 ** (attempt + 1), self.manners.longest_wait)
        return longest * (0.5 + 0.5 * self._chance())

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until a request may be made; hold the host meanwhile where it wants one at a time."""
        with self._shared_state():
            self._take()
            if self.manners.one_at_a_time:
                yield
                return
        yield

    @contextmanager
    def _shared_state(self) -> Iterator[None]:
        """Hold the bucket that all processes of this machine share."""
        if self._folder is None:
            yield
            return
        ensure_writable(self._folder)
        state = self._folder / f"{self.name}.json"
        try:
            lock = FileLock(self._folder / f"{self.name}.lock").acquire(timeout=_LOCK_SECONDS)
        except Timeout as problem:
            raise RemoteError(f"another process has been asking {self.name} for minutes") from problem
        with lock:
            self._recall(state)
            try:
                yield
            finally:
                self._remember(state)

    def _take(self) -> None:
        """Take one token from the bucket, waiting for it where there is none."""
        now = self._clock.now()
        passed = max(0.0, (now - self._seen).total_seconds()) if self._seen is not None else 0.0
        self._tokens = min(float(self.manners.burst), self._tokens + passed / self.manners.interval)
        if self._tokens < 1.0:
            self._clock.sleep((1.0 - self._tokens) * self.manners.interval)
            now, self._tokens = self._clock.now(), 1.0
        self._tokens -= 1.0
        self._seen = now

    def _recall(self, state: Path) -> None:
        """Read what processes of this machine have taken; a broken state counts as an empty bucket."""
        if not state.is_file():
            return
        try:
            kept = json.loads(state.read_bytes())
            tokens, seen = float(kept["tokens"]), datetime.fromisoformat(kept["seen"]).astimezone(UTC)
        except (OSError, ValueError, KeyError, TypeError):
            tokens, seen = 0.0, self._clock.now()
        self._tokens, self._seen = tokens, min(seen, self._clock.now())

    def _remember(self, state: Path) -> None:
        seen = self._seen or self._clock.now()
        state.write_text(json.dumps({"tokens": self._tokens, "seen": seen.isoformat()}), encoding="utf-8")


def wait_asked_for(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds for which a host wants to be left alone; None where it does not say.

    Understood: `Retry-After` in seconds or as an HTTP date, and the `RateLimit` header with nothing left.
    """
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    if said:
        try:
            when = parsedate_to_datetime(said)
        except ValueError:
            return None
        aware = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (aware - now).total_seconds())
    limit = headers.get("ratelimit", "").replace(" ", "")
    if ";r=0;" in limit:
        reset = limit.partition(";t=")[2].partition(";")[0].partition(",")[0]
        if reset.isascii() and reset.isdigit():
            return float(reset[:9])
    return None
