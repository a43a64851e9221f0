"""Which papers a reader wants: by keywords, and by votes, before any full text is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from papertrial.digest.records import Day, Entry, Paper
from papertrial.errors import BadInputError

_SPACES = re.compile(r"\s+")


def matches_keywords(paper: Paper, keywords: Sequence[str]) -> bool:
    """Return whether a reader wants a paper: it has one of the wanted keywords, and no unwanted one.

    A keyword is looked for in title, abstract, categories and authors, as a whole word without regard to
    case. "sparse attention" is a phrase, "quanti*" the beginning of a word, "-survey" an unwanted one. Korean
    words are found inside others, since particles are written onto them. Without a wanted keyword every paper
    is wanted.

    Raises:
        BadInputError: a keyword without a letter or digit.
    """
    text = _searched(paper)
    wanted = [word for word in keywords if not word.strip().startswith("-")]
    unwanted = [word.strip().removeprefix("-") for word in keywords if word.strip().startswith("-")]
    if any(_pattern(word).search(text) for word in unwanted):
        return False
    return not wanted or any(_pattern(word).search(text) for word in wanted)


def found_keywords(paper: Paper, keywords: Sequence[str]) -> tuple[str, ...]:
    """Return the wanted keywords that a paper has.

    Raises:
        BadInputError: a keyword without a letter or digit.
    """
    text = _searched(paper)
    return tuple(
        word for word in keywords if not word.strip().startswith("-") and _pattern(word).search(text)
    )


def by_votes(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries, the most votes first; unknown votes last, equal ones as they were listed."""
    return sorted(entries, key=lambda entry: (entry.paper.upvotes is None, -(entry.paper.upvotes or 0)))


def choose(day: Day, keywords: Sequence[str] = (), most: int | None = None) -> list[Entry]:
    """Return the entries of a day that fit the keywords; of more than `most`, those with the most votes.

    In the day's order. Nothing is fetched for this: it goes by what the listing says.

    Raises:
        BadInputError: `most` below 1, or a keyword without a letter or digit.
    """
    if most is not None and most < 1:
        raise BadInputError(f"most must be at least 1 paper, got {most}")
    kept = [entry for entry in day if matches_keywords(entry.paper, keywords)]
    if most is None or len(kept) <= most:
        return kept
    first = {entry.paper.id for entry in by_votes(kept)[:most]}
    return [entry for entry in kept if entry.paper.id in first]


def _searched(paper: Paper) -> str:
    parts = (paper.title, paper.abstract or "", " ".join(paper.categories), " ".join(paper.authors))
    return _SPACES.sub(" ", "\n".join(parts))


@lru_cache(maxsize=256)
def _pattern(keyword: str) -> re.Pattern[str]:
    said = _SPACES.sub(" ", keyword).strip()
    if not any(one.isalnum() for one in said):
        raise BadInputError(f"a keyword needs a letter or digit, got {keyword!r}")
    core = re.escape(said.removesuffix("*"))
    if re.search("[가-힣]", said):
        return re.compile(core, re.IGNORECASE)
    return re.compile(rf"(?<!\w){core}" + ("" if said.endswith("*") else r"(?!\w)"), re.IGNORECASE)
