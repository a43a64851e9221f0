"""What a reader asks a list for: words, a field, a verdict, an order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from papertrial.site.days import ShownEntry
from papertrial.site.library import Listed
from papertrial.trial.card import FIELDS
from papertrial.trial.verdict import SIGNS

MOST_WORDS = 200
ORDERS = ("paper", "claim", "field", "verdict", "day")


@dataclass(frozen=True)
class Query:
    """A reader's wishes; what is not known is not a wish."""

    text: str = ""
    field: str = ""
    verdict: str = ""
    sort: str = ""

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Query:
        """Read the part of an address after the question mark."""
        return cls(
            text=given.get("q", "").strip()[:MOST_WORDS],
            field=given.get("field", "") if given.get("field") in FIELDS else "",
            verdict=given.get("verdict", "") if given.get("verdict") in SIGNS else "",
            sort=given.get("sort", "") if given.get("sort") in ORDERS else "",
        )

    @property
    def filters(self) -> bool:
        """Whether anything is left out."""
        return bool(self.text or self.field or self.verdict)

    def takes(self, entry: ShownEntry) -> bool:
        """Say whether an entry is among those asked for."""
        listed = entry.listed
        if self.field and (listed is None or listed.card.field != self.field):
            return False
        if self.verdict and (listed is None or self.verdict not in verdict_words(listed)):
            return False
        return self.matches(search_text(entry))

    def matches(self, text: str) -> bool:
        """Say whether a text has every word."""
        text = text.casefold()
        return all(word in text for word in self.text.casefold().split())


def verdict_words(listed: Listed) -> list[str]:
    """Return the verdicts that a paper's claims have, each once."""
    words = {verdict.word for verdict in listed.verdicts.values()}
    return [word for word in SIGNS if word in words]


def search_text(entry: ShownEntry) -> str:
    """Return everything of an entry in which words are looked for."""
    parts = [entry.title, entry.arxiv or ""]
    if entry.listed is not None:
        card = entry.listed.card
        parts += [card.name, card.field, card.purpose, *(one.whats_new for one in card.summary.values())]
    if entry.entry is not None:
        parts += [entry.entry.summary, *entry.entry.paper.authors]
    return " ".join(parts)
