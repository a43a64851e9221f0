"""Collecting a day's papers: from the Hub, from arXiv or from a file; the same call twice changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

from papertrial.digest.collecting import arxiv, hub
from papertrial.digest.collecting.clock import Clock, days_of_week, read_date, start_of, weekday
from papertrial.digest.collecting.files import read_file
from papertrial.digest.collecting.politeness import RemoteError
from papertrial.digest.collecting.store import DayStore, merged
from papertrial.digest.collecting.web import Web
from papertrial.digest.records import Day, Entry
from papertrial.errors import BadInputError, unknown

SOURCES = ("hf", "arxiv")
HUB_SETTLES = timedelta(hours=36)
"""How long after its start a day on the Hub may still gain papers, unless the next day has some already."""
_NEIGHBOURS = 3


def collect(
    when: date | str | None,
    source: str = "hf",
    *,
    refresh: bool = False,
    offline: bool = False,
    categories: Sequence[str] = arxiv.DEFAULT_CATEGORIES,
    web: Web | None = None,
    clock: Clock | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Day:
    """Return a day's papers, without summaries.

    A complete day is collected once and then read from `<home>/digest/<source>/<date>.json`; an incomplete
    one is asked for again and only added to. A day without papers is an empty day with its reason. Where the
    source fails in the middle, what came is kept as an incomplete day; where it gives nothing, the day as it
    was collected before is returned with the failure in its reason, and the file is left alone.

    Args:
        when: the day of the listing in UTC: a date, "2025-05-07", "today" or "yesterday".
            None, for a file: the day that it holds.
        source: "hf" (the Hub's daily papers), "arxiv" (submitted that day), or a file's path.
        refresh: asks the source again for a complete day; changed votes go to each paper's history.
        offline: takes only what was collected before.
        categories: which of arXiv's categories.
        web: the remote sources; None: the public ones, or those that the environment names.
        clock: tells the time; None: the machine's, or that of `web`.
        say: told in a line what is being asked.

    Raises:
        BadInputError: a day that has not begun, an unknown source, a file that cannot be read, or nothing
            collected while `offline`.
        RemoteError: the source gave nothing usable, and nothing was collected before.
    """
    clock = clock or (web.clock if web is not None else Clock())
    if source not in SOURCES:
        return _of_file(when, source, clock)
    if when is None:
        raise BadInputError("name the day to be collected: YYYY-MM-DD, today or yesterday")
    day = read_date(when, clock)
    store = DayStore(folder_of(source, categories))
    known = store.load(day)
    if known is not None and (offline or (known.complete and not refresh)):
        return known
    if offline:
        raise BadInputError(f"{day} was not collected from {source} before, and offline allows nothing else")
    with store.held(day):
        known = store.load(day)  # another process may have collected it meanwhile
        if known is not None and known.complete and not refresh:
            return known
        say(f"asking {'the Hub' if source == 'hf' else 'arXiv'} for the papers of {day}")
        with _opened(web, clock) as remote:
            try:
                new = (
                    _from_hub(remote, day, store) if source == "hf" else _from_arxiv(remote, day, categories)
                )
            except RemoteError as problem:
                if known is None:
                    raise
                return replace(known, reason=f"not asked for anew: {problem}; this is what came before")
        result = merged(known, new)
        store.save(result)
        return result


def collect_week(
    week: str, source: str = "hf", *, clock: Clock | None = None, **options: object
) -> list[Day]:
    """Return the days of an ISO week ("2025-W19") that have begun, each as `collect` does.

    Raises:
        BadInputError: no such week, or one that has not begun; otherwise as `collect`.
    """
    clock = clock or Clock()
    days = [day for day in days_of_week(week) if day <= clock.today()]
    if not days:
        raise BadInputError(f"the week {week} has not begun yet")
    return [collect(day, source, clock=clock, **options) for day in days]  # type: ignore[arg-type]


def collect_ids(ids: Sequence[str], *, web: Web | None = None, clock: Clock | None = None) -> arxiv.Found:
    """Return the papers with these arXiv ids, from arXiv, a hundred at a request; nothing is kept.

    Raises:
        BadInputError: an id that is none.
        RemoteError: arXiv gave no usable answer at all.
    """
    with _opened(web, clock or (web.clock if web is not None else Clock())) as remote:
        return arxiv.by_ids(remote, ids)


def folder_of(source: str, categories: Sequence[str] = arxiv.DEFAULT_CATEGORIES) -> str:
    """Return the name of the folder in which a source's days lie.

    Raises:
        BadInputError: the source has no days, or a category is none.
    """
    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    if source == "hf" or sorted(set(categories)) == sorted(arxiv.DEFAULT_CATEGORIES):
        return source
    arxiv.check_categories(categories)
    return f"arxiv-{'+'.join(sorted(set(categories)))}"


def _of_file(when: date | str | None, source: str, clock: Clock) -> Day:
    path = Path(source).expanduser()
    if not path.is_file():
        if "/" in source or path.suffix:
            raise BadInputError(f"there is no file {source!r}")
        raise unknown("source", source, (*SOURCES, "a file's path"))
    return read_file(path, None if when is None else read_date(when, clock))


def _opened(web: Web | None, clock: Clock) -> AbstractContextManager[Web]:
    """Return the given sources, which stay open for their owner, or new ones that are closed after use."""
    return nullcontext(web) if web is not None else Web(clock=clock)


def _from_hub(web: Web, day: date, store: DayStore) -> Day:
    until = start_of(day) + HUB_SETTLES
    listing = hub.list_daily(web, day=day)
    entries, again = listing.entries, _repeated(listing.entries, day, store)
    if again is not None:
        why = f"the Hub answered with the papers of {again}, which are not taken for those of {day}"
        return Day(day, (), "hf", complete=web.clock.now() >= until, reason=why)
    complete = listing.problem is None and (
        web.clock.now() >= until or _next_day_exists(web, listing, day, store)
    )
    return Day(
        day, entries, "hf", complete=complete, reason=_reason("the Hub", day, listing, complete, until)
    )


def _reason(who: str, day: date, listing: hub.Listing, complete: bool, until: datetime) -> str | None:
    """Return what a reader must know of why a day is empty, cut short or unfinished."""
    reasons = []
    if listing.problem is not None:
        reasons.append(f"cut short: {listing.problem}")
    if listing.refused:
        reasons.append(f"{len(listing.refused)} not taken ({listing.refused[0]})")
    if not listing.entries and listing.problem is None:
        reasons.append(f"{who} lists no papers for {day}, a {weekday(day)}")
    if not complete and listing.problem is None:
        reasons.append(f"the list may still grow until {until:%Y-%m-%d %H:%M} UTC")
    return "; ".join(reasons) or None


def _next_day_exists(web: Web, listing: hub.Listing, day: date, store: DayStore) -> bool:
    """Whether the Hub has begun the next day, so that this one is over.

    The Hub is asked only once that day has begun, and only where that stays within the requests allowed.
    """
    following = day + timedelta(days=1)
    if web.clock.today() < following or not listing.entries:
        return False
    known = store.load(following)
    if known is not None and known.entries:
        return True
    if not hub.may_ask_again(listing):
        return False
    try:
        return hub.has_papers(web, following)
    except RemoteError:
        return False  # not known to exist: the day stays unfinished and is asked for again


def _repeated(entries: Sequence[Entry], day: date, store: DayStore) -> date | None:
    """Return the earlier day whose papers these are, all of them: a server that does not heed the date."""
    ids = {entry.paper.id for entry in entries}
    for back in range(1, _NEIGHBOURS + 1):
        earlier = store.load(day - timedelta(days=back))
        if ids and earlier is not None and ids == {entry.paper.id for entry in earlier}:
            return earlier.date
    return None


def _from_arxiv(web: Web, day: date, categories: Sequence[str]) -> Day:
    found = arxiv.of_day(web, day, categories)
    until = start_of(day) + arxiv.SETTLES
    complete = found.problem is None and web.clock.now() >= until
    listing = hub.Listing(found.entries, found.requests, found.problem)
    return Day(
        day, found.entries, "arxiv", complete=complete, reason=_reason("arXiv", day, listing, complete, until)
    )
