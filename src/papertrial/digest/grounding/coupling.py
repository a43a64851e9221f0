"""Numbers that a sentence gives to one thing and the paper's table to two."""

from __future__ import annotations

from dataclasses import replace

from papertrial.digest.grounding.context import ClaimContext
from papertrial.digest.grounding.index import PaperIndex
from papertrial.digest.grounding.matching import Match
from papertrial.digest.grounding.number import Number
from papertrial.digest.sentences import content_terms

Judged = tuple[Number, ClaimContext, Match]


def uncoupled(judged: list[Judged], index: PaperIndex) -> list[Judged]:
    """Return the verdicts with numbers that belong to another row than their sentence's first made "context differs".

    "PPTAgent scores 3.67 and succeeds in 97.8 %" joins two figures as if one system had both. Where one table
    bears both out, in rows of different systems that the sentence does not name, only the first can be right as
    told. Sentences that set things against each other, or name a row, are left alone.
    """
    checked = list(judged)
    first: dict[tuple[ClaimContext, int], frozenset[tuple[int, int]]] = {}
    for at, (number, claim, match) in enumerate(judged):
        tables = {table for table, _ in match.rows}
        if match.word not in ("exact", "rounded") or len(tables) != 1 or claim.compares:
            continue
        if any(_named(claim, table, row, index) for table, row in match.rows):
            continue
        key = (claim, tables.pop())
        common = first.setdefault(key, match.rows) & match.rows
        if common:
            first[key] = common
        else:
            checked[at] = (number, claim, replace(match, word="context differs"))
    return checked


def _named(claim: ClaimContext, table: int, row: int, index: PaperIndex) -> bool:
    """Say whether a sentence names a row, or the row has no name to be told by."""
    label = index.tables[table].rows[row].label
    words = index.tables[table].row_names[row] | content_terms(label)
    return not words or bool(words & (claim.names | claim.terms))
