"""How a summary is written: prose, or a list of numbered or lettered parts, which are told apart here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from papertrial.digest.records import ROLES

# Style, markers in order, and how many of them a list must have at least.
_LISTS = (
    ("roman", ("i", "ii", "iii", "iv", "v"), 5),
    ("letters", tuple("abcde"), 4),
    ("numbers", tuple("12345"), 5),
)
# A marker is looked for by its end, since far fewer characters can end one than begin one.
_MARKER_END = re.compile(r"[).]\**\s")
_MARKER = re.compile(r"(?:^|[\s(*])(i{1,3}|iv|v|[a-e1-5])$", re.IGNORECASE)
_BOLD_LABEL = re.compile(r"\*\*[A-Z][^*]{2,40}:?\*\*:?")
_LONGEST_LEAD_IN = 120
_LEAD_IN = re.compile(
    r"^(?:here(?:'s| is)|below is|the following is|okay|sure)[^:\n]{0,200}:\s*", re.IGNORECASE
)
_LABEL = re.compile(
    r"^\W*(?:\**\s*)(?:1-line summary|one-line summary|a one-line summary|summary|"
    r"(?:main |the main |primary )?(?:research )?(?:question|objective)(?:\s*(?:/|or|and)\s*(?:question|objective))?|"
    r"(?:key )?methodology(?: used)?|(?:key )?methods?(?: used)?|"
    r"(?:primary |key |main )?results?(?: \([^)]*\))?|"
    r"(?:principal |main |key )?implications?(?: for (?:the )?[\w\s]{0,30}?practitioners?)?)"
    r"\s*\**\s*:\s*\**\s*",
    re.IGNORECASE,
)


def read_style(summary: str) -> tuple[str, dict[str, str]]:
    """Return how a summary is written and, where it is a list, its parts by role.

    The style is "roman", "letters", "numbers", "labelled" or "prose". A roman or numbered list has all five
    roles. A lettered one begins with the objective and has four; its fifth letter, where there is one, adds
    to the last. Markers and labels are taken off; a lead-in ("Here is a concise summary …:") belongs to no
    part.
    """
    found = list(_markers(summary))
    for style, markers, fewest in _LISTS:
        parts = _parts(summary, found, markers, fewest)
        if parts is None:
            continue
        texts = [_LABEL.sub("", part, count=1).strip().strip("*").strip() for part in parts]
        if style == "letters" and len(texts) == len(ROLES):
            texts[3:] = [" ".join(texts[3:])]
        return style, dict(zip(ROLES[-len(texts) :], texts, strict=True)) if all(texts) else {}
    return ("labelled" if _BOLD_LABEL.search(summary) else "prose"), {}


def without_lead_in(summary: str) -> str:
    """Return a summary without a chat model's lead-in."""
    return _LEAD_IN.sub("", summary, count=1)


def _markers(summary: str) -> Iterator[tuple[str, int, int]]:
    """Yield what may be a list's marker, with where it begins and where its text begins."""
    for end in _MARKER_END.finditer(summary):
        if match := _MARKER.search(summary[max(0, end.start() - 4) : end.start()]):
            yield match[1].lower(), end.start() - len(match[1]), end.end()


def _parts(
    summary: str, found: Sequence[tuple[str, int, int]], markers: tuple[str, ...], fewest: int
) -> list[str] | None:
    """Split at `i) … ii) …`, each marker once and in order; None where one of the fewest is missing."""
    places: list[tuple[int, int]] = []
    for name, start, end in found:
        if len(places) < len(markers) and name == markers[len(places)]:
            places.append((start, end))
    if len(places) < fewest:
        return None
    if places[0][0] > 0 and len(without_lead_in(summary[: places[0][0]] + "x")) > _LONGEST_LEAD_IN:
        return None  # a list inside prose
    ends = [start for start, _ in places[1:]] + [len(summary)]
    return [summary[start:end].strip() for (_, start), end in zip(places, ends, strict=True)]
