"""arXiv's query interface: papers by id, by category and day, or by search, from its Atom answers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from papertrial.digest.collecting.html_text import html_as_text
from papertrial.digest.collecting.plain import arxiv_id, moment, one_line, web_address
from papertrial.digest.collecting.politeness import Answer, RemoteError
from papertrial.digest.collecting.web import Web
from papertrial.digest.records import Entry, Field, Paper
from papertrial.errors import BadInputError

BATCH = 100
"""Papers asked for at once: what arXiv's manual recommends for a list of ids."""
MOST_PAPERS = 2000
"""The most papers of one search or day: arXiv asks for larger harvests to use its bulk interfaces."""
SETTLES = timedelta(days=5)
"""How long after its start a day may still gain papers: what is submitted from Thursday evening on is announced
in the night to Monday, the fourth day; a holiday puts one more on top."""
DEFAULT_CATEGORIES = ("cs.AI", "cs.CL", "cs.CV", "cs.LG")

_ATOM = "{http://www.w3.org/2005/Atom}"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_SEARCH = "{http://a9.com/-/spec/opensearch/1.1/}"
_CATEGORY = re.compile(r"[a-z-]+(\.[A-Za-z-]{2,})?")
_ANNOUNCED = re.compile(r"^arXiv:\S+ Announce Type: \S+ Abstract: ")  # how arXiv's own feeds begin
_CONTROL_BYTES = bytes(byte for byte in range(32) if byte not in b"\t\n\r")  # XML allows no others
_THROTTLED = "rate exceeded"


@dataclass(frozen=True)
class Found:
    """What arXiv found.

    Attributes:
        entries: the papers, without summaries.
        requests: how many requests it took.
        missing: ids that were asked for and are not there.
        problem: why the list is cut short, where it is.
    """

    entries: tuple[Entry, ...]
    requests: int
    missing: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class AtomPage:
    """One Atom answer: its entries, and how many there are in all where it says so."""

    entries: tuple[Entry, ...]
    total: int | None
    skipped: tuple[str, ...] = field(default=())


def by_ids(web: Web, ids: Sequence[str]) -> Found:
    """Return the papers with these arXiv ids, in their order, a hundred at a request.

    Raises:
        BadInputError: an id that is none.
        RemoteError: arXiv gave no usable answer at all.
    """
    wrong = [one for one in ids if arxiv_id(one) is None]
    if wrong:
        raise BadInputError(f"an arXiv id is written like 2505.03335 or 2505.03335v2, got {wrong[0]!r}")
    wanted = list(dict.fromkeys(ids))
    found: dict[str, Entry] = {}
    requests, problem = 0, None
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        try:
            requests += 1
            page = _query(web, {"id_list": ",".join(batch), "max_results": len(batch)})
        except RemoteError as failed:
            if not found:
                raise
            problem = str(failed)
            break
        found |= {entry.paper.id: entry for entry in page.entries}
    bare = [one.partition("v")[0] for one in wanted]
    entries = tuple(found[one] for one in dict.fromkeys(bare) if one in found)
    return Found(entries, requests, tuple(one for one in bare if one not in found), problem)


def of_day(web: Web, day: date, categories: Sequence[str] = DEFAULT_CATEGORIES) -> Found:
    """Return the papers that were submitted on a day (UTC) in any of these categories.

    Raises:
        BadInputError: a category that is none, or none given.
        RemoteError: arXiv gave no usable answer at all.
    """
    check_categories(categories)
    within = " OR ".join(f"cat:{one}" for one in categories)
    return search(
        web,
        f"({within}) AND submittedDate:[{day:%Y%m%d}0000 TO {day:%Y%m%d}2359]",
        listed_on=day,
    )


def search(
    web: Web, query: str, *, most: int = MOST_PAPERS, listed_on: date | None = None, newest_first: bool = True
) -> Found:
    """Return the papers that fit a query in arXiv's own syntax (`all:"sparse attention" AND cat:cs.LG`).

    Raises:
        BadInputError: an empty query, one that arXiv refuses, or `most` out of range.
        RemoteError: arXiv gave no usable answer at all.
    """
    if not query.strip():
        raise BadInputError('the query is empty; give one such as all:"sparse attention"')
    if not 1 <= most <= MOST_PAPERS:
        raise BadInputError(f"most must be between 1 and {MOST_PAPERS}, got {most}")
    order = {"sortBy": "submittedDate" if newest_first else "relevance", "sortOrder": "descending"}
    found: dict[str, Entry] = {}
    requests, total = 0, most
    while requests < math.ceil(min(total, most) / BATCH):
        size = min(BATCH, most - requests * BATCH)
        asked = {"search_query": query, "start": requests * BATCH, "max_results": size, **order}
        try:
            requests += 1
            page = _query(web, asked, listed_on)
        except RemoteError as failed:
            if not found:
                raise
            return Found(tuple(found.values()), requests, problem=str(failed))
        total = page.total if page.total is not None else total
        if not page.entries and len(found) < min(total, most) and page.total != 0:
            problem = f"arXiv sent an empty page, though it counts {total} papers"
            if not found:
                raise RemoteError(problem)
            return Found(tuple(found.values()), requests, problem=problem)
        found |= {entry.paper.id: entry for entry in page.entries if entry.paper.id not in found}
    cut = f"arXiv has {total} papers for this; the first {most} were taken" if total > most else None
    return Found(tuple(found.values()), requests, problem=cut)


def parse_atom(
    content: bytes, source: str, fetched_at: datetime | None, listed_on: date | None = None
) -> AtomPage:
    """Return the papers of an Atom feed: arXiv's answer, or any feed whose entries link to arXiv.

    Text is put on one line: arXiv wraps titles and abstracts hard. An entry without an arXiv id is skipped
    and named in `skipped`. A withdrawn paper carries a note.

    Raises:
        BadInputError: arXiv refuses the query (it says so with an entry titled "Error").
        RemoteError: it is no Atom feed.
    """
    root = _root(content)
    entries, skipped = [], []
    for node in root.iter(f"{_ATOM}entry"):
        title = one_line(_text(node, f"{_ATOM}title"))
        if title == "Error" and "/api/errors" in (_text(node, f"{_ATOM}id") or ""):
            raise BadInputError(f"arXiv refuses the query: {one_line(_text(node, f'{_ATOM}summary'))}")
        entry = _entry(node, source, fetched_at, listed_on)
        if entry is None:
            skipped.append(title or "without a title")
        else:
            entries.append(entry)
    total = _text(root, f"{_SEARCH}totalResults")
    stated = int(total) if total and total.strip().isascii() and total.strip().isdigit() else None
    return AtomPage(tuple(entries), stated, tuple(skipped))


def check_categories(categories: Sequence[str]) -> None:
    """Check that these are arXiv categories.

    Raises:
        BadInputError: one that is none, or none given.
    """
    wrong = [one for one in categories if not _CATEGORY.fullmatch(one)]
    if wrong or not categories:
        raise BadInputError(f"an arXiv category is written like cs.CL, got {wrong[0] if wrong else 'none'!r}")


def _query(web: Web, asked: dict[str, Any], listed_on: date | None = None) -> AtomPage:
    answer = web.arxiv(web.remotes.arxiv_api, asked, throttled=_is_throttled)
    if answer.kind in ("text/html", "application/xhtml+xml"):
        raise RemoteError(
            f"{answer.url} answered a web page instead of a feed ({answer.status}): a captcha or a proxy"
        )
    if answer.status >= 400 and b"<feed" not in answer.body[:2000]:
        raise RemoteError(f"{answer.url} answered {answer.status}: {answer.text()[:120]!r}")
    return parse_atom(answer.body, "arxiv", web.clock.now(), listed_on)


def _is_throttled(answer: Answer) -> bool:
    """Whether arXiv refuses by its plain body "Rate exceeded.", which may come with status 200."""
    return len(answer.body) < 200 and _THROTTLED in answer.text().lower()


def _root(content: bytes) -> Any:
    import defusedxml
    from defusedxml import ElementTree

    if b"\x00" not in content[:4]:  # in UTF-16 these bytes are halves of letters
        content = content.translate(None, _CONTROL_BYTES)
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, defusedxml.DefusedXmlException, ValueError, LookupError) as problem:
        start = content[:80].decode("utf-8", errors="replace")
        raise RemoteError(f"not an Atom feed ({problem}): it begins {start!r}") from problem
    if root.tag != f"{_ATOM}feed":
        raise RemoteError(f"not an Atom feed: its root is {str(root.tag)[:60]!r}")
    return root


def _entry(node: Any, source: str, fetched_at: datetime | None, listed_on: date | None) -> Entry | None:
    found = _entry_id(node)
    title = one_line(_text(node, f"{_ATOM}title"))
    if found is None or title is None:
        return None
    names = tuple(
        name for one in node.iter(f"{_ATOM}author") if (name := one_line(_text(one, f"{_ATOM}name")))
    )
    first = node.find(f"{_ARXIV}primary_category")
    terms = [
        one.get("term") for one in ([first] if first is not None else []) + node.findall(f"{_ATOM}category")
    ]
    comment = one_line(_text(node, f"{_ARXIV}comment"))
    said = _said(node)
    is_abstract = first is not None or _ANNOUNCED.match(said or "") is not None
    paper = Paper(
        id=found[0],
        version=found[1],
        title=title,
        authors=names,
        authors_complete=bool(names),
        abstract=_ANNOUNCED.sub("", said) if said and is_abstract else None,
        published=moment(_text(node, f"{_ATOM}published")),
        listed_on=listed_on,
        github=_repository(comment),
        categories=tuple(dict.fromkeys(term for term in terms if term)),
        source=source,
        fetched_at=fetched_at,
    )
    fields = (Field(None, said),) if said and not is_abstract else ()
    return Entry(paper=paper, fields=fields, notes=_withdrawn(node, comment) if first is not None else ())


def _said(node: Any) -> str | None:
    """Return an entry's summary, or else its content, as plain text on one line."""
    for name in ("summary", "content"):
        found = node.find(f"{_ATOM}{name}")
        said = _text(node, f"{_ATOM}{name}")
        if found is not None and said:
            return one_line(html_as_text(said) if "html" in (found.get("type") or "") else said)
    return None


def _entry_id(node: Any) -> tuple[str, int | None] | None:
    """Return the arXiv id that an entry's id or one of its links holds."""
    links = [one.get("href") for one in node.findall(f"{_ATOM}link")]
    said = [_text(node, f"{_ATOM}id"), *(href for href in links if href and "arxiv.org" in href)]
    return next((found for one in said if (found := arxiv_id(one))), None)


def _withdrawn(node: Any, comment: str | None) -> tuple[str, ...]:
    """Return the note for a withdrawn paper: arXiv offers no PDF of it, or its comment says so."""
    titles = [one.get("title") for one in node.findall(f"{_ATOM}link")]
    if "pdf" in titles and "withdrawn" not in (comment or "").lower():
        return ()
    return (f"The paper was withdrawn{f': {comment}' if comment else ''}.",)


def _repository(comment: str | None) -> str | None:
    match = re.search(r"https?://github\.com/[\w.-]+/[\w.-]+", comment or "")
    return web_address(match.group(0).rstrip(".")) if match else None


def _text(node: Any, tag: str) -> str | None:
    found = node.find(tag)
    return None if found is None else "".join(found.itertext())
