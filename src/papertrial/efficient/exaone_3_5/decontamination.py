"""Dropping training examples that hold benchmark test items, by four rules, each with its known miss rate.

Source: arXiv 2412.04862, figure 4 and appendix C; the GPT-4 rule: arXiv 2303.08774, appendix C.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from papertrial.efficient.exaone_3_5.kernels import draw_starts
from papertrial.efficient.exaone_3_5.normalisation import Characters, as_text, normalise
from papertrial.efficient.exaone_3_5.pool import WINDOW, Copy, Pool, TestItem
from papertrial.errors import BadInputError, unknown

Mode = Literal["sampled", "chunked", "exhaustive", "gpt4"]
"""The rules.

`sampled`: N random substrings of the training example, looked up in the pool (EXAONE 3.5).
`chunked`: N of every `chunk` characters of it.
`exhaustive`: every substring of it.
`gpt4`: N random substrings of each test item, searched in the training example (GPT-4).
"""
ShortItems = Literal["contained", "published"]
"""What becomes of test items shorter than a window; see `Rule`."""

SAMPLES = {"sampled": 10, "chunked": 10, "exhaustive": 0, "gpt4": 3}
"""N as published; 10 for `chunked`, which is not."""
TELLING = 20
"""Test items with fewer letters and digits also stand in texts that copied nothing."""


@dataclass(frozen=True)
class Rule:
    """How a training example is searched.

    Attributes:
        mode: see `Mode`.
        samples: N; as published where None.
        window: S, the characters of a substring.
        chunk: characters that `chunked` draws N substrings from.
        lower_case: compare without letter case.
        short_items: items shorter than a window. `contained` finds one anywhere in what is looked at.
            `published` follows the rule by its letter: the item is one more member of the pool of substrings,
            so it equals no window, and only a document that is the item is dropped.
        shortest: test items with fewer letters and digits are left out.
        seed: draws the substrings.
    """

    mode: str = "sampled"
    samples: int | None = None
    window: int = WINDOW
    chunk: int = 2000
    lower_case: bool = False
    short_items: str = "contained"
    shortest: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be searched by."""
        if self.mode not in get_args(Mode):
            raise unknown("mode", self.mode, get_args(Mode))
        if self.short_items not in get_args(ShortItems):
            raise unknown("treatment of short items", self.short_items, get_args(ShortItems))
        if self.samples is not None and (self.samples < 1 or self.mode == "exhaustive"):
            given = "exhaustive looks at all" if self.mode == "exhaustive" else f"got {self.samples}"
            raise BadInputError(f"samples must be at least 1, and None in exhaustive mode; {given}")
        for name, smallest in (("window", 2), ("chunk", 2), ("shortest", 1)):
            if getattr(self, name) < smallest:
                raise BadInputError(f"{name} must be at least {smallest}, got {getattr(self, name)}")
        if self.chunk < self.window:
            raise BadInputError(f"a chunk of {self.chunk} characters holds no window of {self.window}")

    @property
    def drawn(self) -> int:
        """N, as given or as published."""
        return SAMPLES[self.mode] if self.samples is None else self.samples


@dataclass(frozen=True)
class Leak:
    """Why a training example is dropped.

    Attributes:
        item: the test item found in it.
        start: first copied character of the normalised training example.
        length: copied characters: the whole span where the rule follows it, else the window that was found.
        text: the copied characters.
    """

    item: TestItem
    start: int
    length: int
    text: str


class Decontaminator:
    """Says of training examples whether they hold a test item.

    What is drawn hangs on the example's own characters and the seed, not on its place in the corpus: any
    order, any split over processes and any resumed run drops the same examples. Two equal examples share
    their luck. Instances can be pickled and sent to other processes.

    Attributes:
        rule: how is searched.
        pool: what is searched for. For `gpt4` that is the drawn substrings.
        lengths: normalised characters of each test item that was taken in.
        empty: test items without a letter or digit, left out.
        skipped: test items shorter than `rule.shortest`, left out.
    """

    def __init__(self, items: Sequence[TestItem], rule: Rule | None = None) -> None:
        """Take in the test items.

        Raises:
            BadInputError: no item has a letter or digit, or none is long enough.
        """
        self.rule = rule or Rule()
        self.pool = Pool(
            items, window=self.rule.window, lower_case=self.rule.lower_case, shortest=self.rule.shortest
        )
        self.empty, self.skipped = self.pool.empty, self.pool.skipped
        self.lengths = self.pool.lengths
        if self.rule.mode == "gpt4":
            self.pool = Pool(self._drawn_from_items(), window=self.rule.window)

        short = int((self.lengths < min(TELLING, self.rule.window)).sum())
        if short:
            warnings.warn(
                f"{short} of {len(self.lengths)} test items have fewer than {TELLING} letters and digits and may be "
                f"found in texts that copied nothing; shortest={TELLING} leaves them out",
                stacklevel=2,
            )

    def find(self, text: object) -> Leak | None:
        """Return what makes `text` a leak, or None for a clean one.

        Raises:
            BadInputError: `text` is not a `str`.
        """
        return self.find_leak(normalise(text, lower_case=self.rule.lower_case))

    def find_leak(self, document: Characters) -> Leak | None:
        """Return what makes normalised characters a leak, or None."""
        copy = self.find_copy(document)
        if copy is None:
            return None
        copied = as_text(document[copy.document_start : copy.document_start + copy.length])
        return Leak(self.pool.items[copy.item], copy.document_start, copy.length, copied)

    def find_copy(self, document: Characters) -> Copy | None:
        """Return the copy found in normalised characters, or None."""
        if len(document) < self.rule.window and self.rule.mode in ("sampled", "chunked"):
            # there is no window: the whole text is compared, and published rule and containment differ again
            return self._find_in_short(document)
        if self.rule.mode in ("exhaustive", "gpt4"):
            if self.rule.short_items == "published" and self.rule.mode == "exhaustive":
                return self.pool.find_long_copy(document) or self.pool.find_whole(document)
            return self.pool.find_copy(document)
        starts = self.starts(document)
        copy = self.pool.find_window(document, starts)
        if copy is not None or self.rule.short_items == "published":
            return copy
        return self._find_short_in_windows(document, starts)

    def starts(self, document: Characters) -> NDArray[np.int64]:
        """Return where the substrings begin that are looked at: sorted, with repetitions as drawn.

        All windows, where there are no more than are to be drawn.
        """
        windows = len(document) - self.rule.window + 1
        chunks = -(-len(document) // self.rule.chunk) if self.rule.mode == "chunked" else 1
        return draw_starts(np.uint64(self._seed(document)), windows, self.rule.drawn, min(chunks, windows))

    def keeps(self, *texts: str) -> bool:
        """Return True if none of the texts of one example holds a test item."""
        return all(self.find(text) is None for text in texts)

    def filter(self, text_fields: Sequence[str] = ("text",)) -> Callable[[Mapping[str, Any]], bool]:
        """Return a function for `datasets.Dataset.filter`: True for examples to keep.

        Raises:
            BadInputError: no field is named; when called, a field is missing or holds no text.
        """
        if isinstance(text_fields, str) or not text_fields:
            raise BadInputError(f"text_fields must be a list of names, got {text_fields!r}")
        return _RowFilter(self, tuple(text_fields))

    def _find_in_short(self, document: Characters) -> Copy | None:
        if self.rule.short_items == "published":
            return self.pool.find_whole(document)
        return self.pool.find_short_item(document)

    def _find_short_in_windows(self, document: Characters, starts: NDArray[np.int64]) -> Copy | None:
        for start in starts.tolist():
            copy = self.pool.find_short_item(document[start : start + self.rule.window])
            if copy is not None:
                return Copy(copy.item, copy.item_start, start + copy.document_start, copy.length)
        return None

    def _seed(self, document: Characters) -> int:
        content = zlib.crc32(np.ascontiguousarray(document).data, len(document) & 0xFFFFFFFF)
        return (self.rule.seed * 0x9E3779B97F4A7C15 + (len(document) << 32) + content) & 0xFFFFFFFFFFFFFFFF

    def _drawn_from_items(self) -> list[TestItem]:
        """Return N random substrings of each item; an item no longer than a window as it is."""
        drawn = []
        for number, item in enumerate(self.pool.items):
            text = self.pool.text(number)
            windows = max(1, len(text) - self.rule.window + 1)
            seed = (self.rule.seed * 1_000_003 + number) & 0xFFFFFFFFFFFFFFFF
            for start in np.unique(draw_starts(np.uint64(seed), windows, self.rule.drawn, 1)).tolist():
                drawn.append(TestItem(item.name, text[start : start + self.rule.window]))
        return drawn


@dataclass(frozen=True)
class _RowFilter:
    """Whether a row is kept; a class, so that it can be pickled and hashed by what it holds."""

    decontaminator: Decontaminator
    text_fields: tuple[str, ...]

    def __call__(self, row: Mapping[str, Any]) -> bool:
        """Return True if no field of the row holds a test item."""
        return self.decontaminator.keeps(*(text_of(row, field) for field in self.text_fields))


def text_of(row: Mapping[str, Any], field: str, where: str = "the example") -> str:
    """Return the text in `field` of a row.

    Raises:
        BadInputError: the field is missing or holds no `str`.
    """
    if field not in row:
        raise BadInputError(f"{where} has no field {field!r}; it has: {', '.join(sorted(row)) or 'none'}")
    text = row[field]
    if not isinstance(text, str):
        raise BadInputError(f"{where}: {field!r} is {type(text).__name__}, not text")
    return text
