"""What is done about numbers that a paper does not have: strict, mark or off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, get_args

from papertrial.digest.grounding.clauses import without_clauses
from papertrial.digest.grounding.grounding import ground
from papertrial.digest.grounding.index import PaperIndex
from papertrial.digest.records import Entry, Grounding
from papertrial.errors import unknown

Policy = Literal["strict", "mark", "off"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

AskAgain = Callable[[tuple[str, ...]], Mapping[str, str]]
"""Called with the absent numbers, as written; returns the sections written anew."""


def absent_numbers(grounding: Grounding) -> tuple[str, ...]:
    """Return the numbers that the paper does not have, as the summary writes them, each once."""
    return tuple(dict.fromkeys(one.text for one in grounding.numbers if one.word == "absent"))


def apply_policy(
    entry: Entry,
    index: PaperIndex,
    policy: Policy = "mark",
    *,
    text: str,
    ask_again: AskAgain | None = None,
) -> Entry:
    """Ground an entry's sections and act on what was not found.

    "mark" adds the grounding, for a renderer to mark. "strict" asks once again, where it can, with the absent
    numbers listed; a clause that still holds one is deleted, and the entry's notes say so. "off" grounds nothing.

    Args:
        entry: with sections; one without has no numbers to judge.
        index: the entry's paper.
        policy: "strict", "mark" or "off".
        text: which text of the paper the index holds; see `ground`.
        ask_again: asks the writer of the summary for new sections. What it raises passes through.

    Raises:
        BadInputError: the policy is unknown.
    """
    if policy not in POLICIES:
        raise unknown("grounding policy", policy, POLICIES)
    if policy == "off":
        return replace(entry, grounding=None)
    grounding = ground(entry.sections, index, text=text, lang=entry.lang)
    if policy == "mark" or not absent_numbers(grounding):
        return replace(entry, grounding=grounding)
    if ask_again is not None:
        asked = absent_numbers(grounding)
        again = dict(ask_again(asked))
        if any(one.strip() for one in again.values()):
            note = f"The summary was asked for again, because the paper does not have: {', '.join(asked)}."
            entry = replace(entry, sections=again, fields=(), notes=(*entry.notes, note))
            grounding = ground(again, index, text=text, lang=entry.lang)
    return _deleted(entry, grounding, index, text)


def _deleted(entry: Entry, grounding: Grounding, index: PaperIndex, text: str) -> Entry:
    """Delete the clauses that hold absent numbers, until none is left."""
    notes = list(entry.notes)
    while absent := absent_numbers(grounding):
        sections = {}
        for name, section in entry.sections.items():
            spans = [
                (one.start, one.end)
                for one in grounding.numbers
                if one.section == name and one.word == "absent"
            ]
            shorter = without_clauses(section, spans) if spans else section
            if shorter.strip():
                sections[name] = shorter
            else:
                notes.append(f"Nothing was left of the section {name!r} without them.")
        notes.insert(
            len(entry.notes),
            f"Deleted, because the paper does not have the numbers in it: {', '.join(absent)}.",
        )
        entry = replace(entry, sections=sections, fields=(), notes=tuple(notes))
        grounding = ground(sections, index, text=text, lang=entry.lang)
    return replace(entry, grounding=grounding)
