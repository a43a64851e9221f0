"""Lists: the days, all papers, all claims, all evidence, and the feeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

from papertrial.digest.cards import day_of_cards, with_trials
from papertrial.digest.feeds import FeedMemory, atom, rss
from papertrial.digest.marking import section_html
from papertrial.digest.records import Day
from papertrial.errors import BadInputError, unknown
from papertrial.home import ensure_writable
from papertrial.site.days import Calendar, Days, ShownDay, ShownEntry
from papertrial.site.evidence_index import Group
from papertrial.site.library import Library, Listed
from papertrial.site.queries import Query, search_text, verdict_words
from papertrial.site.rendering import Address, Renderer, totals_text
from papertrial.trial.card import FIELDS, Claim
from papertrial.trial.report import quantity_text
from papertrial.trial.settings import settings_of
from papertrial.trial.verdict import SIGNS

_ON_HOME = 60  # entries on the first page, and days in a feed; older days have pages of their own
_MOST_FOUND = 200
_MOST_RUNS = 400  # rows of the evidence page; older runs are on their papers' pages


class ListPages:
    """Makes them.

    Args:
        library: the papers.
        days: the days.
        renderer: fills in the templates.
        base: the address at which the site lies, for feeds.
    """

    def __init__(self, library: Library, days: Days, renderer: Renderer, base: str | None) -> None:
        self.library, self.days, self.base = library, days, base
        self.render = renderer.render

    def home(self, address: Address, query: Query) -> str:
        """Return the first page: the newest days, and where the older ones are."""
        shown: list[tuple[ShownDay, list[ShownEntry]]] = []
        older: list[tuple[date, int]] = []
        count, most = 0, _MOST_FOUND if query.filters else _ON_HOME
        calendar = self.days.look()
        for when in calendar.dates:
            day = calendar.day(when)
            if day is None:
                continue
            entries = [entry for entry in day.entries if query.takes(entry)]
            if count < most and (entries or not query.filters):
                shown.append((day, entries[: most - count] if query.filters else entries))
                count += len(entries)
            elif entries:
                older.append((when, len(entries)))
        loose = [entry for entry in calendar.without_day if query.takes(entry)]
        return self.render(
            "home.html.jinja",
            address,
            query=query,
            totals=self._totals(address.language),
            days=shown,
            loose=loose,
            older=older,
            found=count + len(loose),
            problems=self.library.problems,
            lead=partial(_lead, address.language),
            words=verdict_words,
            search=search_text,
        )

    def papers(self, address: Address, query: Query) -> str:
        """Return the table of all papers."""
        keys: dict[str, Callable[[Listed], Any]] = {
            "paper": lambda one: one.card.title.casefold(),
            "field": lambda one: (FIELDS.index(one.card.field), one.card.title.casefold()),
            "day": lambda one: (one.card.day or date.min, one.card.title.casefold()),
        }
        papers = sorted(self.library.papers(), key=keys.get(query.sort, keys["paper"]))
        papers = [one for one in papers if query.takes(ShownEntry(one))]
        return self.render(
            "papers.html.jinja",
            address,
            query=query,
            papers=papers,
            totals=self._totals(address.language),
            words=verdict_words,
        )

    def claims(self, address: Address, query: Query) -> str:
        """Return the table of all claims."""
        rows = [(listed, claim) for listed in self.library.papers() for claim in listed.card.claims]
        rows = [
            (listed, claim)
            for listed, claim in rows
            if (not query.field or listed.card.field == query.field)
            and (not query.verdict or listed.verdicts[claim.name].word == query.verdict)
            and query.matches(f"{listed.card.title} {listed.card.name} {claim.says} {claim.metric}")
        ]
        order = list(SIGNS)
        keys: dict[str, Callable[[tuple[Listed, Claim]], Any]] = {
            "paper": lambda row: row[0].card.name,
            "claim": lambda row: row[1].says.casefold(),
            "field": lambda row: FIELDS.index(row[0].card.field),
            "verdict": lambda row: order.index(row[0].verdicts[row[1].name].word),
            "day": lambda row: row[0].card.day or date.min,
        }
        rows.sort(key=keys.get(query.sort, keys["verdict"]))
        return self.render(
            "claims.html.jinja",
            address,
            query=query,
            rows=rows,
            totals=self._totals(address.language),
            found_here=self._found,
        )

    def day(self, address: Address, when: date) -> str:
        """Return one day with its summaries."""
        calendar = self.days.look()
        day, dates = calendar.day(when), calendar.dates
        if day is None:
            raise unknown("day", str(when), map(str, dates))
        at = dates.index(when)
        return self.render(
            "day.html.jinja",
            address,
            day=day,
            newer=dates[at - 1] if at else None,
            earlier=dates[at + 1] if at + 1 < len(dates) else None,
            lead=partial(_lead, address.language),
            words=verdict_words,
            section=section_html,
        )

    def evidence(self, address: Address) -> str:
        """Return the table of all that was measured on this machine, newest first."""
        known = [group for group in self.library.index.everything() if group.paper in self.library.rooms]
        return self.render(
            "evidence.html.jinja",
            address,
            groups=known[:_MOST_RUNS],
            more=max(0, len(known) - _MOST_RUNS),
            changed=self._changed,
        )

    def feed(self, kind: str, language: str) -> str:
        """Return the days as a feed, "atom" or "rss"."""
        write = {"atom": atom, "rss": rss}[kind]
        shown = self.days.look()
        days = [day for when in shown.dates[:_ON_HOME] if (day := self._digest_day(shown, when, language))]
        file = self.library.home / "digest" / f"site-feed-{language}.json"
        try:
            ensure_writable(file.parent)
        except BadInputError:
            memory = None  # a home that can only be read: entries keep the time of their day
        else:
            memory = FeedMemory(file)
        return write(days, memory=memory) if self.base is None else write(days, self.base, memory)

    def _totals(self, language: str) -> str:
        papers = self.library.papers()
        words = Counter(verdict.word for listed in papers for verdict in listed.verdicts.values())
        counts: dict[str, int] = {word: words[word] for word in SIGNS if words[word]}
        return totals_text(len(papers), words.total(), counts, language)

    def _found(self, listed: Listed, claim: Claim) -> str:
        verdict = listed.verdicts[claim.name]
        unit = self.library.unit(listed.card.name, claim) if verdict.estimate is not None else ""
        return quantity_text(claim, verdict, unit)

    def _changed(self, group: Group) -> dict[str, Any]:
        """Return the settings of a group that are not the trial's defaults; all of them where it is gone."""
        kind = self.library.kinds(group.paper).get(group.trial)
        if kind is None:
            return dict(group.settings)
        default = settings_of(kind())
        return {key: value for key, value in group.settings.items() if default.get(key) != value}

    def _digest_day(self, calendar: Calendar, when: date, language: str) -> Day | None:
        """Return a day as the digest has it: collected, or made from the cards."""
        shown = calendar.day(when)
        if shown is not None and shown.collected is not None:
            return with_trials(shown.collected, self.library.home)
        return day_of_cards(when, language, self.library.home)


def _lead(language: str, entry: ShownEntry) -> str:
    """Return the lines that say what a paper is about."""
    if entry.listed is not None:
        card = entry.listed.card
        if language != "en" and language in card.summary:
            return card.summary[language].whats_new
        return card.purpose
    assert entry.entry is not None
    sections = entry.entry.sections
    return sections.get("headline") or sections.get("whats_new") or entry.entry.summary
