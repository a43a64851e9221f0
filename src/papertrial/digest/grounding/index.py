"""A paper's text, indexed once: every number sorted by value, every passage with its words."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from papertrial.digest.grounding import units
from papertrial.digest.grounding.masks import names_of
from papertrial.digest.grounding.number import Number
from papertrial.digest.grounding.numbers import extract_numbers
from papertrial.digest.grounding.tables import Table, find_tables
from papertrial.digest.sentences import content_terms, split_sentences
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class Passage:
    """A sentence or a table row of the paper.

    Attributes:
        text: as it stands in the paper.
        terms: the content terms of the sentence with its two neighbours, or of the row, its header and caption.
        own_terms: those of the sentence alone; of a row the same as `terms`.
        table, row: which table and which of its rows; None for a sentence.
        shown: what a reader sees as the source: a row with its header.
    """

    text: str
    start: int
    terms: frozenset[str]
    own_terms: frozenset[str]
    shown: str
    table: int | None = None
    row: int | None = None


@dataclass(frozen=True)
class Place:
    """One number of the paper, where it stands, and its column where it stands in a table."""

    number: Number
    passage: int
    column: int | None = None


@dataclass(frozen=True)
class Derivation:
    """Two numbers of one passage, and what follows from them."""

    value: float
    unit: str
    first: Place
    second: Place


_PAIRS_APART = 48
"""How many numbers apart two operands may stand in one passage: a flattened table is one long passage."""


class PaperIndex:
    """A paper's numbers, sorted by magnitude, and its passages. Made once by `of`, then asked many times.

    Attributes:
        title: the paper's title.
        names: names with digits, which are no measurements.
        passages: sentences and table rows, in order.
        tables: the tables found in the text.
    """

    def __init__(
        self,
        title: str,
        names: tuple[str, ...],
        passages: list[Passage],
        tables: list[Table],
        places: list[Place],
    ) -> None:
        self.title = title
        self.names = names
        self.passages = passages
        self.tables = tables
        self._places = sorted(places, key=lambda place: abs(place.number.value))
        self._values = [abs(place.number.value) for place in self._places]
        self._sentences = {_plain(passage.text): n for n, passage in reversed(list(enumerate(passages)))}
        self.caption_names = frozenset[str]().union(*(table.caption_names for table in tables))
        self._derived = {
            kind: sorted(made, key=lambda one: one.value) for kind, made in _derivations(places).items()
        }
        self._derived_values = {kind: [one.value for one in made] for kind, made in self._derived.items()}

    @classmethod
    def of(cls, text: str, *, title: str = "", abstract: str = "") -> PaperIndex:
        """Index a paper's text: O(n log n) in its numbers.

        Args:
            text: the paper, tables included (see `find_tables` for the forms that are understood).
            title: names with digits are taken from it.
            abstract: and from this.

        Raises:
            BadInputError: the text is empty.
        """
        if not text.strip():
            raise BadInputError("there is no text to look numbers up in: the paper's text is empty")
        names = names_of(title, abstract)
        tables = find_tables(text)
        passages, spans = _passages(text, tables)
        places = []
        numbers = extract_numbers(text, names=names)
        starts = [start for start, _ in spans]
        for number in numbers:
            at = bisect_right(starts, number.start) - 1
            if at < 0 or number.start >= spans[at][1]:
                continue
            places.append(_place(number, at, passages[at], tables))
        return cls(title, names, passages, tables, places)

    def __len__(self) -> int:
        return len(self._places)

    def between(self, low: float, high: float) -> Iterator[Place]:
        """Give the numbers whose magnitude lies between `low` and `high`, both included."""
        first, last = bisect_left(self._values, low), bisect_right(self._values, high)
        return (self._places[n] for n in range(first, last))

    def derived(self, kind: str, low: float, high: float) -> Iterator[Derivation]:
        """Give what follows from two numbers of one passage: kind "difference", "ratio" or "change" (in %)."""
        values = self._derived_values.get(kind, [])
        first, last = bisect_left(values, low), bisect_right(values, high)
        return (self._derived[kind][n] for n in range(first, last))

    def passage_of_sentence(self, sentence: str) -> Passage | None:
        """Return the passage that says exactly this, white space aside."""
        at = self._sentences.get(_plain(sentence))
        return None if at is None else self.passages[at]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _passages(text: str, tables: list[Table]) -> tuple[list[Passage], list[tuple[int, int]]]:
    """Cut the text into sentences and rows, in order, with their spans."""
    pieces: list[tuple[int, int, int | None, int | None]] = []
    edge = 0
    for at, table in enumerate([*tables, None]):
        stop = table.start if table else len(text)
        pieces.extend(
            (edge + one.start, edge + one.end, None, None) for one in split_sentences(text[edge:stop])
        )
        if table is not None:
            pieces.extend((row.start, row.end, at, n) for n, row in enumerate(table.rows))
            edge = table.end
    own = [content_terms(text[start:end]) for start, end, _, _ in pieces]
    passages = []
    for at, (start, end, table_at, row) in enumerate(pieces):
        if table_at is None:
            terms = frozenset[str]().union(*own[max(0, at - 1) : at + 2])
            shown = text[start:end]
        else:
            table = tables[table_at]
            terms = own[at] | content_terms(f"{table.header} {table.caption}")
            shown = "\n".join(part for part in (table.header, text[start:end].strip()) if part)
        own_terms = own[at] if table_at is None else terms
        passages.append(Passage(text[start:end].strip(), start, terms, own_terms, shown, table_at, row))
    return passages, [(start, end) for start, end, _, _ in pieces]


_LABEL_UNIT = re.compile(r"[(\[]\s*([^()\[\]\s]{1,8})\s*[)\]]|(?<=\s)(%)(?=\s|$)")


def _place(number: Number, at: int, passage: Passage, tables: list[Table]) -> Place:
    """Place a number; a bare one in a table takes the unit of its column's or row's label."""
    if passage.table is None or passage.row is None:
        return Place(number, at)
    table = tables[passage.table]
    row = table.rows[passage.row]
    column = row.column(number.start)
    label = table.columns[column] if column is not None and column < len(table.columns) else ""
    if number.unit == units.PLAIN and not number.scaled and column != 0:
        number = _with_label_unit(number, label) or _with_label_unit(number, row.label) or number
    return Place(number, at, column)


def _with_label_unit(number: Number, label: str) -> Number | None:
    for found in _LABEL_UNIT.finditer(label):
        written = found[1] or found[2]
        unit = units.unit_after(written, 0)
        if unit is not None and unit.end == len(written):
            return replace(
                number,
                value=number.value * unit.factor,
                precision=number.precision * unit.factor,
                unit=unit.name,
            )
        factor, end = units.scale_after(written, 0)
        if end == len(written):
            return replace(
                number, value=number.value * factor, precision=number.precision * factor, scaled=True
            )
    return None


def _derivations(places: list[Place]) -> dict[str, list[Derivation]]:
    """Pair the numbers of one unit within each passage."""
    made: dict[str, list[Derivation]] = {"difference": [], "ratio": [], "change": []}
    groups: dict[tuple[int, str], dict[float, Place]] = {}
    for place in places:
        number = place.number
        if number.value and not number.spelled and number.unit != units.ORDINAL:
            groups.setdefault((place.passage, number.unit), {}).setdefault(abs(number.value), place)
    for (_, unit), group in groups.items():
        numbers = list(group.items())
        for n, (first, place) in enumerate(numbers):
            for second, other in numbers[n + 1 : n + 1 + _PAIRS_APART]:
                large, small = max(first, second), min(first, second)
                gap = large - small
                made["difference"].append(Derivation(gap, unit, place, other))
                made["ratio"].append(Derivation(large / small, unit, place, other))
                made["ratio"].append(Derivation(small / large, unit, place, other))
                made["change"].append(Derivation(100 * gap / large, unit, place, other))
                made["change"].append(Derivation(100 * gap / small, unit, place, other))
    return made
