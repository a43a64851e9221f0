"""Every page that is made from the library alone: the same for the server and for the static site."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from papertrial.site.days import Days
from papertrial.site.library import Library
from papertrial.site.list_pages import ListPages
from papertrial.site.paper_pages import PaperPages
from papertrial.site.queries import Query
from papertrial.site.rendering import Address, Renderer

HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Page:
    """One page: what it was made from, and how to make it."""

    media_type: str
    stamp: Callable[[], object]
    render: Callable[[], str | bytes]


class Pages:
    """Finds pages by their path below the language's root.

    Args:
        library: what they are made from.
        static: pages for a host without papertrial: no forms, no server's own parts.
        base: the address at which the site lies, for feeds; a name that belongs to nobody where None.
    """

    def __init__(self, library: Library, static: bool = False, base: str | None = None) -> None:
        self.library, self.static = library, static
        self.days = Days(library)
        renderer = Renderer(static)
        self.render = renderer.render
        self.lists = ListPages(library, self.days, renderer, base)
        self.papers = PaperPages(library, renderer)

    def find(self, path: str, language: str = "en", query: Mapping[str, str] | None = None) -> Page | None:
        """Return the page of a path, or None where there is none.

        Args:
            path: below the language's root, "" or ending in "/", or a file's name.
            language: of the page.
            query: what the address asks for.
        """
        asked = Query.read(query or {})
        address = Address(path, language, self.static)
        match path.split("/"):
            case [""]:
                return Page(HTML, self._lists_stamp, partial(self.lists.home, address, asked))
            case ["papers", ""]:
                return Page(HTML, self._lists_stamp, partial(self.lists.papers, address, asked))
            case ["claims", ""]:
                return Page(HTML, self._lists_stamp, partial(self.lists.claims, address, asked))
            case ["evidence", ""]:
                return Page(HTML, self.library.evidence_stamp, partial(self.lists.evidence, address))
            case ["days", day, ""]:
                return self._find_day(address, day)
            case ["feed.atom" | "feed.rss" as kind]:
                name = kind.removeprefix("feed.")
                media_type = f"application/{name}+xml; charset=utf-8"
                return Page(media_type, self._lists_stamp, partial(self.lists.feed, name, language))
            case ["papers", name, *rest] if name in self.library.rooms:
                return self._find_of_paper(address, name, rest, query or {})
        return None

    def every(self) -> Iterator[str]:
        """Yield the paths of all pages, the same in every language."""
        yield from ("", "papers/", "claims/", "evidence/", "feed.atom", "feed.rss")
        for day in self.days.look().dates:
            yield f"days/{day}/"
        for name in self.library.rooms:
            yield f"papers/{name}/"
            yield f"papers/{name}/measurements.json"
            yield f"papers/{name}/measurements.csv"
            for run in self.library.run_names(name):
                yield f"papers/{name}/runs/{run}/"
            for one, other in self.papers.pairs(name):
                yield f"papers/{name}/compare/{one}--{other}/"

    def _find_day(self, address: Address, day: str) -> Page | None:
        try:
            when = date.fromisoformat(day)
        except ValueError:
            return None
        if self.days.look().day(when) is None:
            return None
        return Page(HTML, self._lists_stamp, partial(self.lists.day, address, when))

    def _find_of_paper(
        self, address: Address, name: str, rest: Sequence[str], query: Mapping[str, str]
    ) -> Page | None:
        stamp = partial(self.library.paper_stamp, name)
        match rest:
            case [""]:
                return Page(HTML, stamp, partial(self.papers.paper, address, name))
            case ["measurements.csv"]:
                return Page("text/csv; charset=utf-8", stamp, partial(self.papers.measurements_csv, name))
            case ["measurements.json"]:
                return Page("application/json", stamp, partial(self.papers.measurements_json, name))
            case ["runs", run, ""] if run in self.library.run_names(name):
                return Page(HTML, stamp, partial(self.papers.run, address, name, run))
            case ["compare", ""]:
                runs = [query.get("a", ""), query.get("b", "")]
                return Page(HTML, stamp, partial(self.papers.compare, address, name, runs))
            case ["compare", pair, ""]:
                runs = pair.split("--")
                if len(runs) == 2 and set(runs) <= set(self.library.run_names(name)):
                    return Page(HTML, stamp, partial(self.papers.compare, address, name, runs))
        return None

    def _lists_stamp(self) -> object:
        return self.library.stamp(), self.days.stamp()
