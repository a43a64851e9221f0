"""Finding a summary's number in the paper: exact, then rounded, then derived."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from papertrial.digest.grounding.context import ClaimContext, same_context, shared_terms
from papertrial.digest.grounding.index import Derivation, PaperIndex, Place
from papertrial.digest.grounding.number import Number
from papertrial.digest.grounding.units import COUNT_UNITS, ORDINAL, PERCENT, PLAIN, POINTS, SCORE_UNITS, TIMES
from papertrial.digest.records import GroundingWord

_EQUAL = 1e-9
"""Relative difference under which two floats are the same number: unit factors cost a few bits."""


@dataclass(frozen=True)
class Match:
    """The verdict on one number.

    Attributes:
        word: the verdict.
        source: the passage of the paper.
        operands: the numbers from which a derived one follows.
        rows: the table rows (table, row) that bear the number out, where no sentence does.
    """

    word: GroundingWord
    source: str | None = None
    operands: tuple[str, ...] = ()
    rows: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Reading:
    """One way in which a claim's number may be written in the paper.

    Attributes:
        value, precision: magnitudes, in the unit of the sources that are looked for.
        units: units that a source may have.
        cells: whether only table cells count: "any", or "ratio": only where the table speaks of ratios.
        fraction: whether the source is a fraction for a percentage, so must have decimals.
    """

    value: float
    precision: float
    units: frozenset[str]
    cells: Literal["any", "ratio"] | None = None
    fraction: bool = False


_UNIT_LOST = re.compile(
    r"\s+(?:reduction|improvement|increase|decrease|gain|drop|speed-?up|boost|decline|savings?|향상|감소|개선|증가)\b",
    re.IGNORECASE,
)
_RATIO_LABEL = re.compile(r"speed|ratio|factor|times|×|fold|accelerat|compress", re.IGNORECASE)


def match_number(number: Number, claim: ClaimContext, index: PaperIndex, after: str) -> Match:
    """Look one number of a summary up in a paper.

    A value found counts only where its context agrees (see `same_context`). Exact comes before rounded, which
    needs a source that is more precise than the claim; derived comes last, and only where the number's clause
    tells of a change and the passage shares a term with it. A value that is there in another unit or context
    is "context differs".

    Args:
        number: of the summary.
        claim: the sentence it stands in.
        index: the paper.
        after: the section's text after the number, which tells a unit that was lost ("a 2.8 reduction").
    """
    quoted = index.passage_of_sentence(claim.text)
    if quoted is not None:
        return Match("exact", quoted.shown)
    unit_lost = number.unit == PLAIN and _UNIT_LOST.match(after) is not None
    ways = list(readings(number, unit_lost=unit_lost))
    elsewhere: Place | None = None
    for word, finder in (("exact", exact_places), ("rounded", rounded_places)):
        found = list(finder(number, ways, index))
        agreeing = _agreeing(found, number, claim, index)
        if agreeing:
            source = index.passages[agreeing[0].passage].shown
            return Match("exact" if word == "exact" else "rounded", source, rows=_rows(agreeing, index))
        elsewhere = elsewhere or (found[0] if found else None)
    derived = derive(number, claim, index) if claim.changes(number.start) and not unit_lost else None
    if derived is not None:
        operands = (derived.first.number.text.strip(), derived.second.number.text.strip())
        return Match("derived", index.passages[derived.first.passage].shown, operands)
    elsewhere = elsewhere or _other_unit(number, claim, index)
    if elsewhere is not None:
        return Match("context differs", index.passages[elsewhere.passage].shown)
    return Match("absent")


def readings(number: Number, *, unit_lost: bool = False) -> Iterator[Reading]:
    """Give the ways in which the paper may write a claim's number.

    15 % may be 15 %, 15 points, a bare 15, or 0.15; 0.15 may be 15 %, or a bare 15 in a table, where signs are
    left out. A number whose unit was lost meets bare numbers and, below 1, percentages only.
    """
    value, precision = abs(number.value), claim_precision(number)
    yield Reading(value, precision, frozenset({PLAIN}) if unit_lost else meets(number))
    if number.unit in COUNT_UNITS:
        yield Reading(value, precision, frozenset({PLAIN}), cells="any")
    if number.unit == TIMES:
        yield Reading(value, precision, frozenset({PLAIN}), cells="ratio")
    if number.unit == PERCENT:
        yield Reading(value / 100, precision / 100, frozenset({PLAIN}), fraction=True)
    if number.unit == PLAIN and 0 < value < 1 and precision <= 0.01:
        yield Reading(value * 100, precision * 100, frozenset({PERCENT}))
        yield Reading(value * 100, precision * 100, frozenset({PLAIN}), cells="any")


def meets(number: Number) -> frozenset[str]:
    """Return the units of the paper that a claim's number may meet at the same value.

    A bare number with decimals may be a score that the paper writes in %; a bare whole number counts something.
    """
    unit = number.unit
    if unit == PLAIN:
        return frozenset({PLAIN} | SCORE_UNITS | ({PERCENT, POINTS} if number.precision < 1 else set()))
    if unit in (PERCENT, POINTS):
        return frozenset({PLAIN, PERCENT, POINTS})
    return frozenset({unit, PLAIN, POINTS} if unit in SCORE_UNITS else {unit})


def claim_precision(number: Number) -> float:
    """Return the precision that a claim asserts: that of "about 60,000" is 10,000, of its last digit but zeros."""
    value = abs(number.value)
    if not (number.loose or number.bound) or not value or number.precision < 1:
        return number.precision
    count = round(value / number.precision)
    zeros = len(str(count)) - len(str(count).rstrip("0"))
    return number.precision * 10.0**zeros


def exact_places(number: Number, ways: Iterable[Reading], index: PaperIndex) -> Iterator[Place]:
    """Give the places of the paper that have a claim's very value, in any spelling."""
    for way in ways:
        slack = way.value * _EQUAL
        for place in index.between(way.value - slack, way.value + slack):
            if _readable(place, way, index):
                yield place


def rounded_places(number: Number, ways: Iterable[Reading], index: PaperIndex) -> Iterator[Place]:
    """Give the places whose value rounds to a claim's at its precision, and is more precise.

    A lower bound ("61K+") takes what lies above it within its precision. A bare whole number below ten is a
    count and rounds nothing.
    """
    if number.spelled or number.unit == ORDINAL or is_count(number):
        return
    for way in ways:
        slack = max(way.precision, way.value) * _EQUAL
        if number.bound:
            low, high = way.value - slack, way.value + way.precision - slack
        else:
            low, high = way.value - way.precision / 2 - slack, way.value + way.precision / 2 + slack
        for place in index.between(max(low, 0.0), high):
            if place.number.precision < way.precision * (1 - _EQUAL) and _readable(place, way, index):
                yield place


def is_count(number: Number) -> bool:
    """Say whether a number is a bare whole number below ten."""
    return number.unit == PLAIN and not number.scaled and number.precision == 1 and abs(number.value) < 10


def _readable(place: Place, way: Reading, index: PaperIndex) -> bool:
    """Say whether a place of the paper can be what a reading looks for."""
    if place.number.unit not in way.units:
        return False
    if place.number.spelled and way.precision < 1:  # "three" is no 3.00
        return False
    if way.fraction and not (place.number.precision < 1 and abs(place.number.value) <= 2):
        return False
    if way.cells is None:
        return True
    passage = index.passages[place.passage]
    if passage.table is None:
        return False
    table = index.tables[passage.table]
    return (
        way.cells == "any"
        or _RATIO_LABEL.search(f"{table.header} {table.caption} {passage.text}") is not None
    )


def _agreeing(found: Iterable[Place], number: Number, claim: ClaimContext, index: PaperIndex) -> list[Place]:
    """Return the places whose context agrees, that which shares most with the claim first."""
    agreeing = [
        place for place in found if same_context(claim, number.start, place, index, labels=not number.scaled)
    ]
    return sorted(agreeing, key=lambda place: -(shared_terms(claim, index.passages[place.passage]) or 0))


def _rows(places: list[Place], index: PaperIndex) -> frozenset[tuple[int, int]]:
    """Return the table rows of the places; none where one of them is a sentence."""
    rows = set()
    for place in places:
        passage = index.passages[place.passage]
        if passage.table is None or passage.row is None:
            return frozenset()
        rows.add((passage.table, passage.row))
    return frozenset(rows)


def derive(number: Number, claim: ClaimContext, index: PaperIndex) -> Derivation | None:
    """Return two numbers of one passage whose difference, ratio or relative change is the claim's number.

    Of those in whose passage a term of the claim stands, the one that shares most with it.
    """
    if number.spelled or number.unit == ORDINAL or is_count(number):
        return None
    value, half = abs(number.value), claim_precision(number) / 2
    slack = max(value, half) * _EQUAL
    best, most = None, 0
    for kind, allowed in _kinds(number.unit):
        for one in index.derived(kind, value - half - slack, value + half + slack):
            if allowed is not None and one.unit not in allowed:
                continue
            shared = len(claim.terms & index.passages[one.first.passage].own_terms)
            if shared > most:
                best, most = one, shared
    return best


def _kinds(unit: str) -> list[tuple[str, frozenset[str] | None]]:
    """Return by which arithmetic a claim of a unit may follow, and the units its operands may have."""
    if unit == TIMES:
        return [("ratio", None)]
    if unit == PERCENT:
        return [("change", None), ("difference", frozenset({PERCENT, PLAIN}))]
    if unit == POINTS:
        return [("difference", frozenset({PERCENT, POINTS, PLAIN}))]
    if unit == PLAIN:
        return [("difference", frozenset({PLAIN}))]
    return [("difference", frozenset({unit, PLAIN} if unit in SCORE_UNITS else {unit}))]


def _other_unit(number: Number, claim: ClaimContext, index: PaperIndex) -> Place | None:
    """Return a place that has the value in a unit that the claim's cannot meet, in a passage of its words."""
    value = abs(number.value)
    if not math.isfinite(value) or is_count(number) or number.spelled:
        return None
    for place in index.between(value * (1 - _EQUAL), value * (1 + _EQUAL)):
        if shared_terms(claim, index.passages[place.passage]):
            return place
    return None
