"""Whether a summary is of its paper: the title's distinctive words in the summary, weighed over the day."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from papertrial.digest.records import Day, Entry
from papertrial.digest.sentences import stem

_TOKEN = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")


def tokens(text: str) -> frozenset[str]:
    """Return a text's tokens without their endings: lower-case runs of letters and digits with inner "." and "-".

    A compound also gives its parts of three letters or more ("open-source", "source"). Of Korean text the tokens
    are the English terms that stand in brackets behind the Korean ones.
    """
    found: set[str] = set()
    for token in _TOKEN.findall(text.lower()):
        found.add(stem(token))
        found.update(stem(part) for part in re.split(r"[.-]", token) if len(part) > 2)
    return frozenset(found)


@dataclass(frozen=True)
class TopicWeights:
    """How distinctive every token of a day is: `log((1 + texts) / texts with it)` over titles and summaries."""

    texts: int
    seen: Mapping[str, int]

    @classmethod
    def of(cls, titles: Iterable[str], summaries: Iterable[str]) -> TopicWeights:
        """Count the tokens of a day's titles and summaries, each one text."""
        counted: Counter[str] = Counter()
        texts = 0
        for text in (*titles, *summaries):
            counted.update(tokens(text))
            texts += 1
        return cls(texts, counted)

    def weight(self, token: str) -> float:
        """Return a token's weight; a token that is nowhere weighs as one seen once."""
        return math.log((1 + self.texts) / max(1, self.seen.get(token, 0)))

    def share(self, wanted: frozenset[str], had: frozenset[str]) -> float | None:
        """Return which share of the wanted tokens' weight is had; None where they weigh nothing."""
        total = sum(map(self.weight, wanted))
        return sum(map(self.weight, wanted & had)) / total if total else None


def topic_overlap(title: str, summary: str, weights: TopicWeights | None = None) -> float | None:
    """Return the share of the title's tokens that the summary has, weighed; None for a title without any.

    Without weights of a day every token of four characters or more counts alike, and shorter ones not: those are
    articles and prepositions mostly.
    """
    wanted, had = tokens(title), tokens(summary)
    if weights is not None:
        return weights.share(wanted, had)
    wanted = frozenset(token for token in wanted if len(token) > 3) or wanted
    return len(wanted & had) / len(wanted) if wanted else None


@dataclass(frozen=True)
class TopicRank:
    """One entry's place within its day.

    Attributes:
        entry: the entry.
        overlap: the weighed share of the title's tokens in its summary.
        best_other: the largest overlap of its title with any other entry's summary.
        suspect: why the summary may be of another paper, or None.
    """

    entry: Entry
    overlap: float
    best_other: float
    suspect: str | None


def rank_within_day(entries: Sequence[Entry]) -> list[TopicRank]:
    """Rank a day's entries by how well their summaries fit their titles, best first.

    There is no threshold: in Korean summaries only the English terms in brackets can match, so that right entries
    go down to an overlap of about .13. An entry is suspect where its summary has no token of its title, or
    where another entry's summary clearly fits the title better than its own.
    """
    weights = TopicWeights.of((entry.paper.title for entry in entries), (entry.summary for entry in entries))
    titles = [tokens(entry.paper.title) for entry in entries]
    summaries = [tokens(entry.summary) for entry in entries]
    ranked = []
    for at, entry in enumerate(entries):
        overlap = weights.share(titles[at], summaries[at]) or 0.0
        others = (
            weights.share(titles[at], summary) or 0.0
            for other, summary in zip(entries, summaries, strict=True)
            if other.paper.id != entry.paper.id
        )
        best_other = max(others, default=0.0)
        ranked.append(TopicRank(entry, overlap, best_other, _suspicion(entry, overlap, best_other)))
    return sorted(ranked, key=lambda one: -one.overlap)


_CLEARLY = 0.05  # two summaries of one day may share a common word more or less


def _suspicion(entry: Entry, overlap: float, best_other: float) -> str | None:
    if not entry.summary:
        return "it has no summary"
    if not tokens(entry.paper.title):
        return None
    distinctive = _distinctive(entry.paper.title) & tokens(entry.summary)
    if not distinctive:
        return "its summary has no distinctive word of its title"
    if best_other > overlap + _CLEARLY:
        return "another entry's summary fits its title better"
    return None


_COMMON = tokens(
    "a ai an and are as at based by can for from generative how in into is it its language large learning llm "
    "model multimodal multi-modal neural nlp of on or over reasoning the to towards training understanding using "
    "via video vision visual what with data deep efficient generation image text"
)


def _distinctive(title: str) -> frozenset[str]:
    """Return the title's tokens that are more than the field's common words; all where none is."""
    return tokens(title) - _COMMON or tokens(title)


def wrong_papers(day: Day | Sequence[Entry]) -> tuple[TopicRank, ...]:
    """Return the entries of a day whose summaries seem to be of other papers, the least fitting first."""
    entries = day.entries if isinstance(day, Day) else day
    return tuple(one for one in reversed(rank_within_day(entries)) if one.suspect is not None)
