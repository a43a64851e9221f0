"""The test items as a pool that documents are searched against: tables of grams, and exact comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from papertrial.efficient.exaone_3_5.kernels import (
    hash_grams,
    mark_hashes,
    scan_blocks,
    scan_places,
    scan_windows,
)
from papertrial.efficient.exaone_3_5.normalisation import Characters, as_text, normalise
from papertrial.errors import BadInputError

WINDOW = 50
"""Characters of a substring, as published."""
_SHORT_ANCHORS = (
    1,
    2,
    4,
    8,
    16,
    32,
)  # short items are found by as many first characters as all of a group have
_BITS_A_HASH = 16  # one look in sixteen into the filter passes by chance at the most

Table = tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64], int]
"""Sorted hashes, places in the pool, owners, filter bits, characters of a gram; see `kernels`."""


@dataclass(frozen=True)
class TestItem:
    """One example of a benchmark.

    Attributes:
        name: where it is from ("mmlu/anatomy_test.csv:3").
        text: as it stands in the benchmark: question and choices.
    """

    __test__ = False  # its name is no test's

    name: str
    text: str


@dataclass(frozen=True)
class Copy:
    """Where a document and a test item are the same.

    Attributes:
        item: number of the item in the pool.
        item_start: first character in the normalised item.
        document_start: first character in the normalised document.
        length: how many normalised characters are the same.
    """

    item: int
    item_start: int
    document_start: int
    length: int


class Pool:
    """All substrings of length S of normalised test items, and the items that are shorter than S, whole.

    The substrings themselves are never stored: grams of (S + 1) // 2 characters point into the items, and
    whatever shares a gram is compared character by character. That takes some 16 bytes a test character.

    Attributes:
        items: those that were taken in, in order.
        empty: how many had no letter or digit.
        skipped: how many were left out because they were shorter than `shortest`.
        window: S, the characters of a substring.
    """

    def __init__(
        self,
        items: Sequence[TestItem],
        *,
        window: int = WINDOW,
        lower_case: bool = False,
        shortest: int = 1,
    ) -> None:
        """Take in `items`; those with fewer than `shortest` normalised characters are left out and counted.

        Raises:
            BadInputError: `window` below 2, or no item is left.
        """
        if window < 2:
            raise BadInputError(f"window must be at least 2 characters, got {window}")
        normal = [normalise(item.text, lower_case=lower_case) for item in items]
        self.window = window
        self.lower_case = lower_case
        self.empty = sum(not len(one) for one in normal)
        self.skipped = sum(0 < len(one) < shortest for one in normal)
        kept = [number for number, one in enumerate(normal) if len(one) >= max(1, shortest)]
        if not kept:
            raise BadInputError(
                f"the pool holds no test item: {len(items)} given, {self.empty} without a letter or digit, "
                f"{self.skipped} shorter than {shortest} characters"
            )
        self.items = [items[number] for number in kept]
        self.lengths = np.array([len(normal[number]) for number in kept], dtype=np.int64)
        self._characters = np.concatenate([normal[number].astype(np.uint32) for number in kept])
        self._bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths)])

    @property
    def gram(self) -> int:
        """Characters of a gram: every copy of `window` characters holds one at each `stride`-th place."""
        return (self.window + 1) // 2

    @property
    def stride(self) -> int:
        """Distance of the places that a scan looks at."""
        return self.window - self.gram + 1

    def text(self, item: int) -> str:
        """Return the normalised text of an item."""
        return as_text(self._characters[self._bounds[item] : self._bounds[item + 1]])

    def find_copy(self, document: Characters) -> Copy | None:
        """Return a copied span of at least `window` characters, or a short item's whole text, if there is one.

        Every window of the document is covered: none is missed. Long copies are looked for first.
        """
        copy = self.find_long_copy(document)
        return copy if copy is not None else self.find_short_item(document)

    def find_long_copy(self, document: Characters) -> Copy | None:
        """Return the first copied span of at least `window` characters that is met, as long as it goes."""
        if self._long is None:
            return None
        found = scan_blocks(document, self._long, self._characters, self._bounds, self.window, self.stride)
        return _copy(found)

    def find_short_item(self, document: Characters) -> Copy | None:
        """Return a test item shorter than `window` whose whole text stands in the document, if there is one."""
        for table in self._short:
            found = _copy(scan_places(document, table, self._characters, self._bounds, self.window))
            if found is not None:
                return found
        return None

    def find_window(self, document: Characters, starts: NDArray[np.int64]) -> Copy | None:
        """Return the first of the windows beginning at `starts` that is a substring of an item, if any is."""
        if self._long is None:
            return None
        found = scan_windows(document, starts, self._long, self._characters, self._bounds, self.window)
        return _copy(found)

    def find_whole(self, document: Characters) -> Copy | None:
        """Return the short item that `document` is, letter for letter, if there is one."""
        found = self.find_short_item(document)
        if found is None:
            return None
        number = self._by_text.get(as_text(document))
        return None if number is None else Copy(number, 0, 0, len(document))

    @cached_property
    def _by_text(self) -> dict[str, int]:
        return {self.text(number): number for number in np.flatnonzero(self.lengths < self.window).tolist()}

    @cached_property
    def _long(self) -> Table | None:
        """Every gram of every item that has a whole window."""
        long = np.flatnonzero(self.lengths >= self.window)
        if not len(long):
            return None
        places = [np.arange(self._bounds[n], self._bounds[n + 1] - self.gram + 1) for n in long]
        owners = np.repeat(long, [len(one) for one in places])
        return self._table(np.concatenate(places), owners, self.gram)

    @cached_property
    def _short(self) -> list[Table]:
        """The beginnings of the items that are shorter than a window, in groups of like length."""
        tables = []
        for anchor, above in zip(_SHORT_ANCHORS, (*_SHORT_ANCHORS[1:], self.window), strict=True):
            group = np.flatnonzero((self.lengths >= anchor) & (self.lengths < min(above, self.window)))
            if len(group):
                tables.append(self._table(self._bounds[group], group, int(self.lengths[group].min())))
        return tables

    def _table(self, places: NDArray[np.int64], owners: NDArray[np.int64], length: int) -> Table:
        hashes = hash_grams(self._characters, places, length)
        order = np.argsort(hashes, kind="stable")
        words = 1 << max(0, (len(hashes) * _BITS_A_HASH - 1).bit_length() - 6)
        marks = np.zeros(words, np.uint64)
        mark_hashes(hashes, marks)
        return hashes[order], places[order], owners[order].astype(np.int64), marks, length


def _copy(found: tuple[int, int, int, int]) -> Copy | None:
    item, item_start, document_start, length = (int(value) for value in found)
    return None if item < 0 else Copy(item, item_start, document_start, length)
