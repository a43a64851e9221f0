"""How a summary is written: prose, or a list of numbered or lettered parts, which are told apart here."""

from __future__ import annotations

import re

from papertrial.digest.records import ROLES

_ROMAN = ("i", "ii", "iii", "iv", "v")
_LETTERS = tuple("abcde")
_NUMBERS = tuple("12345")
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


def style_of(summary: str) -> str:
    """Name how a summary is written: "roman", "letters", "numbers", "labelled" or "prose"."""
    if _parts(summary, _ROMAN) is not None:
        return "roman"
    if _parts(summary, _LETTERS[:4]) is not None:
        return "letters"
    if _parts(summary, _NUMBERS) is not None:
        return "numbers"
    return "labelled" if re.search(r"\*\*[A-Z][^*]{2,40}:?\*\*:?", summary) else "prose"


def table_sections(summary: str) -> dict[str, str]:
    """Return a listed summary by role, its markers and labels taken off; empty where it is prose.

    A roman or numbered list has all five roles. A lettered one begins with the objective and has four; its
    fifth letter, where there is one, adds to the last. A lead-in ("Here is a concise summary …:") belongs to
    no section.
    """
    for markers in (_ROMAN, _LETTERS, _LETTERS[:4], _NUMBERS):
        parts = _parts(summary, markers)
        if parts is None:
            continue
        texts = [_LABEL.sub("", part, count=1).strip().strip("*").strip() for part in parts]
        if markers == _LETTERS:
            texts[3:] = [" ".join(texts[3:])]
        return dict(zip(ROLES[-len(texts) :], texts, strict=True)) if all(texts) else {}
    return {}


def without_lead_in(summary: str) -> str:
    """Return a summary without a chat model's lead-in."""
    return _LEAD_IN.sub("", summary, count=1)


def _parts(summary: str, markers: tuple[str, ...]) -> list[str] | None:
    """Split at `i) … ii) …`, each marker once and in order; None where one is missing."""
    positions = []
    at = 0
    for marker in markers:
        found = re.compile(rf"(?:^|(?<=[\s(*])){re.escape(marker)}[).]\**\s", re.IGNORECASE).search(
            summary, at
        )
        if found is None:
            return None
        positions.append((found.start(), found.end()))
        at = found.end()
    if positions[0][0] > 0 and len(without_lead_in(summary[: positions[0][0]] + "x")) > 120:
        return None  # a list inside prose
    ends = [start for start, _ in positions[1:]] + [len(summary)]
    return [summary[start:end].strip() for (_, start), end in zip(positions, ends, strict=True)]
