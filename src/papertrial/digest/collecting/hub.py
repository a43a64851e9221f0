"""The daily papers of the Hugging Face Hub, through the session of its own client.

The client's `HfApi.list_daily_papers` makes the same request but its `PaperInfo` loses facts: no votes (0)
become None, and what stands under `paper` (title, repository, project page, pictures) is dropped. So the
answer is read here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from papertrial.digest.collecting.plain import arxiv_id, moment, one_line, web_address
from papertrial.digest.collecting.politeness import Answer, RemoteError
from papertrial.digest.collecting.web import Web
from papertrial.digest.records import ARXIV_ID, Entry, Paper
from papertrial.errors import BadInputError

PAGE = 100
"""Papers asked for at once: the most that the Hub gives."""
_USUAL_PAGE = 50
"""What a server gives that does not heed `limit`."""
_VIDEO = (".mp4", ".webm", ".mov", ".m4v")
_MOST_PAGES = 50
_EARLY = timedelta(days=2)
"""A paper cannot be listed before it was published; two days forgive time zones."""


@dataclass(frozen=True)
class Listing:
    """What the Hub lists.

    Attributes:
        entries: the papers, without summaries, in the Hub's order.
        requests: how many requests it took.
        problem: why the list is cut short, where it is.
        refused: what was left out, and why.
    """

    entries: tuple[Entry, ...]
    requests: int
    problem: str | None = None
    refused: tuple[str, ...] = ()


def list_daily(
    web: Web,
    *,
    day: date | None = None,
    week: str | None = None,
    month: str | None = None,
    submitter: str | None = None,
    sort: Literal["publishedAt", "trending"] | None = None,
) -> Listing:
    """Return the daily papers of a day, a week ("2025-W19"), a month ("2025-05") or a submitter.

    Asked page by page until one is short or brings nothing new: at most 1 + ceil(n / 100) requests for n
    papers. What came before a failure is kept, and `problem` says what failed.

    Raises:
        RemoteError: nothing came at all.
    """
    asked = {
        "date": day and day.isoformat(),
        "week": week,
        "month": month,
        "submitter": submitter,
        "sort": sort,
    }
    query: dict[str, str | int] = {name: value for name, value in asked.items() if value}
    found: dict[str, Entry] = {}
    refused: list[str] = []
    requests, size = 0, PAGE
    for page in range(_MOST_PAGES):
        try:
            requests += 1
            items = _items(web.hub("/api/daily_papers", {**query, "limit": PAGE, "p": page}))
        except RemoteError as problem:
            if not found:
                raise
            return Listing(tuple(found.values()), requests, str(problem), tuple(refused))
        if page == 0 and len(items) == _USUAL_PAGE:
            size = _USUAL_PAGE
        before = len(found) + len(refused)
        for item in items:
            _take(item, day, web.clock.now(), found, refused)
        if len(items) < size or len(found) + len(refused) == before:
            break
    return Listing(tuple(found.values()), requests, None, tuple(refused))


def may_ask_again(listing: Listing) -> bool:
    """Return whether one more request stays within 1 + ceil(n / 100) for n papers."""
    return listing.requests < 1 + math.ceil(len(listing.entries) / PAGE)


def has_papers(web: Web, day: date) -> bool:
    """Return whether the Hub lists any paper for a day.

    Raises:
        RemoteError: it cannot be asked.
    """
    items = _items(web.hub("/api/daily_papers", {"date": day.isoformat(), "limit": 1}))
    return any(_listed_for(item, day) for item in items)


def paper_info(web: Web, arxiv: str) -> Paper:
    """Return what the Hub knows of one paper.

    Raises:
        BadInputError: no arXiv id, or the Hub does not have the paper.
        RemoteError: the Hub gave no usable answer.
    """
    if not ARXIV_ID.fullmatch(arxiv):
        raise BadInputError(f"an arXiv id is written like 2505.03335, got {arxiv!r}")
    answer = web.hub(f"/api/papers/{arxiv}")
    if answer.status == 404:
        raise BadInputError(f"the Hub has no paper {arxiv}")
    value = _json(answer)
    if not isinstance(value, Mapping):
        raise RemoteError(f"the Hub's answer for {arxiv} is no paper")
    return paper_of(value, None, web.clock.now())


def search_papers(web: Web, query: str) -> tuple[Paper, ...]:
    """Return the papers that the Hub finds for a query, best first.

    Raises:
        RemoteError: the Hub gave no usable answer.
    """
    items = _items(web.hub("/api/papers/search", {"q": query}))
    found = (item for item in items if isinstance(item, Mapping) and _id_of(item))
    return tuple(paper_of(item, None, web.clock.now()) for item in found)


def paper_of(
    item: Mapping[str, Any], listed_on: date | None, fetched_at: datetime | None, source: str = "hf"
) -> Paper:
    """Return the paper of one item of the Hub's answer; facts are looked for in both places they have had.

    Raises:
        RemoteError: the item has no arXiv id or no title.
    """
    nested = item.get("paper")
    inner: Mapping[str, Any] = nested if isinstance(nested, Mapping) else {}
    arxiv = _id_of(item)
    title = one_line(_first(inner, item, "title"))
    if arxiv is None or title is None:
        raise RemoteError(f"the Hub lists something without an arXiv id or title: {str(dict(item))[:80]}")
    names, everyone = _authors(_first(inner, item, "authors"))
    media, media_type = _media(inner, item)
    submitter = _first(inner, item, "submittedOnDailyBy") or _first(item, inner, "submittedBy")
    return Paper(
        id=arxiv,
        title=title,
        authors=names,
        authors_complete=everyone,
        abstract=one_line(_first(inner, item, "summary")),
        published=moment(_first(inner, {} if inner else item, "publishedAt")),
        listed_on=listed_on or _date_of(_first(inner, item, "submittedOnDailyAt")),
        upvotes=_count(_first(inner, item, "upvotes")),
        comments=_count(_first(item, inner, "numComments")),
        media=media,
        media_type=media_type,
        submitter=_name(submitter),
        organisation=_name(_first(inner, item, "organization")),
        github=web_address(_first(inner, item, "githubRepo")),
        project=web_address(_first(inner, item, "projectPage")),
        source=source,
        fetched_at=fetched_at,
    )


def _take(item: Any, day: date | None, now: datetime, found: dict[str, Entry], refused: list[str]) -> None:
    """Add one item to `found`, or say in `refused` why not."""
    if not isinstance(item, Mapping):
        refused.append(f"not a paper: {str(item)[:60]!r}")
        return
    try:
        paper = paper_of(item, day, now)
    except RemoteError as problem:
        refused.append(str(problem))
        return
    if not _listed_for(item, day):
        refused.append(f"{paper.id} was published after {day}: the answer is for another day")
    elif paper.id not in found:
        found[paper.id] = Entry(paper=paper)


def _listed_for(item: Any, day: date | None) -> bool:
    if day is None:
        return True
    inner = item.get("paper") if isinstance(item, Mapping) else None
    published = moment(inner.get("publishedAt")) if isinstance(inner, Mapping) else None
    return published is None or published.date() <= day + _EARLY


def _items(answer: Answer) -> list[Any]:
    value = _json(answer)
    if not isinstance(value, list):
        raise RemoteError(f"the Hub's answer is no list of papers: {str(value)[:80]!r}")
    return value


def _json(answer: Answer) -> Any:
    """Return the answer's JSON; a login or captcha page, an error and broken JSON are told apart.

    Raises:
        RemoteError: it is no JSON, or an error.
    """
    text = answer.text()
    if answer.kind in ("text/html", "application/xhtml+xml") or text.lstrip()[:1] == "<":
        raise RemoteError(
            f"{answer.url} answered a web page instead of JSON ({answer.status}): a login, a captcha or a proxy"
        )
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise RemoteError(f"{answer.url} answered broken JSON ({answer.status}): {problem}") from problem
    if answer.status >= 400:
        said = one_line(value.get("error")) if isinstance(value, dict) else None
        raise RemoteError(f"{answer.url} answered {answer.status}: {said or 'no reason given'}")
    return value


def _first(*places_and_name: Any) -> Any:
    """Return the first value that is not None under a name, in the places given before it."""
    *places, name = places_and_name
    return next((place[name] for place in places if place.get(name) is not None), None)


def _id_of(item: Mapping[str, Any]) -> str | None:
    inner = item.get("paper")
    places = (inner if isinstance(inner, Mapping) else {}, item)
    return next((found[0] for place in places if (found := arxiv_id(place.get("id")))), None)


def _authors(value: Any) -> tuple[tuple[str, ...], bool]:
    """Return the authors' names in order, and whether they are all there: hidden ones are not shown."""
    if not isinstance(value, list):
        return (), False
    given = [one if isinstance(one, Mapping) else {"name": one} for one in value]
    shown = [name for one in given if not one.get("hidden") and (name := one_line(one.get("name")))]
    return tuple(shown), bool(shown) and len(shown) == len(value)


def _media(
    inner: Mapping[str, Any], item: Mapping[str, Any]
) -> tuple[str | None, Literal["image", "video"] | None]:
    """Return the address of the picture or video: the submitter's own before the thumbnail made of the title."""
    given = _first(inner, item, "mediaUrls")
    own = next(filter(None, map(web_address, given)), None) if isinstance(given, list) else None
    address = own or web_address(_first(item, inner, "thumbnail"))
    if address is None:
        return None, None
    return address, "video" if address.partition("?")[0].lower().endswith(_VIDEO) else "image"


def _name(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return next(
            (said for key in ("fullname", "name", "user") if (said := one_line(value.get(key)))), None
        )
    return one_line(value)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _date_of(value: Any) -> date | None:
    when = moment(value)
    return when.date() if when else None
