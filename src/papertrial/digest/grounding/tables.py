"""Tables in plain text: rows, their labels, column labels and captions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from papertrial.digest.sentences import content_terms


@dataclass(frozen=True)
class Row:
    """One table row: its span in the text, and the span of every cell."""

    start: int
    end: int
    label: str
    cells: tuple[tuple[int, int], ...]

    def column(self, at: int) -> int | None:
        """Return the column of the cell that holds the place `at`."""
        return next((n for n, (start, end) in enumerate(self.cells) if start <= at < end), None)


@dataclass(frozen=True)
class Table:
    """A table of the text.

    Attributes:
        start, end: its span, without the caption.
        caption: the text that introduces it, or "".
        columns: the labels of the columns, () where the text does not tell them apart.
        header: the header line as one text.
        rows: without the header.
    """

    start: int
    end: int
    caption: str
    columns: tuple[str, ...]
    header: str
    rows: tuple[Row, ...]
    row_names: tuple[frozenset[str], ...] = field(default=(), compare=False)
    column_names: tuple[frozenset[str], ...] = field(default=(), compare=False)
    caption_names: frozenset[str] = field(default=frozenset(), compare=False)


_Line = tuple[int, int, str]
_NUMERIC = re.compile(r"[-−+±~(<>$]*\d[\d.,]*(?:[%×x]|[A-Za-z]{1,2})?[)*†‡↑↓]*(?:[/±]\d[\d.,]*%?)?|[-–—−/]|±")
_RULE = re.compile(r"[\s|:+=-]+")
_CAPTION = re.compile(r"\s*(?:\*\*)?(?:Table|Tab\.|TABLE|표)\s|#{1,6} ")


def find_tables(text: str) -> list[Table]:
    """Find the tables of a text: Markdown rows, columns set with tabs or wide gaps, and lines of numbers.

    A line of numbers, as PDF readers leave tables, is a row where half of its words and at least two are numbers.
    The first row of Markdown or spaced columns is the header unless it is mostly numbers; for lines of numbers
    the line above is, where it has as many words as a row has numbers.
    """
    lines = [(found.start(), found.end(), found[0]) for found in re.finditer(r"[^\n]+", text)]
    tables, at = [], 0
    while at < len(lines):
        kind = next((kind for kind in (_is_piped, _is_spaced, _is_numeric) if kind(lines[at][2])), None)
        if kind is None:
            at += 1
            continue
        last = at
        while (
            last + 1 < len(lines)
            and kind(lines[last + 1][2])
            and _adjacent(text, lines[last], lines[last + 1])
        ):
            last += 1
        block = lines[at : last + 1]
        if len(block) > 1 or kind is _is_numeric:
            above = lines[at - 1] if at else None
            tables.append(_table(text, block, above, kind))
        at = last + 1
    return tables


def _adjacent(text: str, first: _Line, second: _Line) -> bool:
    return text[first[1] : second[0]].count("\n") == 1


def _is_piped(line: str) -> bool:
    stripped = line.strip()
    if stripped.startswith("|"):
        return stripped.count("|") >= 2
    return " | " in stripped and not stripped.endswith((".", ":")) and not stripped.startswith("#")


def _is_spaced(line: str) -> bool:
    return len(re.split(r"\t+|\s{2,}", line.strip())) >= 3 and not line.strip().endswith((".", ":"))


def _is_numeric(line: str) -> bool:
    words = line.split()
    numeric = sum(_NUMERIC.fullmatch(word) is not None for word in words)
    digits = sum(_NUMERIC.fullmatch(word) is not None and any(map(str.isdigit, word)) for word in words)
    return digits >= 2 and 2 * numeric >= len(words) and not line.rstrip().endswith((".", ",", ";", "?"))


def _table(text: str, block: list[_Line], above: _Line | None, kind: Callable[[str], bool]) -> Table:
    split = _numeric_cells if kind is _is_numeric else _piped_cells if kind is _is_piped else _spaced_cells
    body = [line for line in block if not _RULE.fullmatch(line[2])]
    cells = [split(line) for line in body]
    header, columns = "", tuple[str, ...]()
    if kind is _is_numeric:
        if (
            above is not None
            and _adjacent(text, above, block[0])
            and len(above[2].split()) <= 2 + len(cells[0])
        ):
            header = above[2].strip()
            words = header.split()
            count = len(cells[0]) - 1
            if len(words) in (count, count + 1):
                columns = ("", *words) if len(words) == count else tuple(words)
    elif body and not _mostly_numbers(text, cells[0]) and len(body) > 1:
        header = " ".join(text[start:end].strip() for start, end in cells[0])
        columns = tuple(text[start:end].strip() for start, end in cells[0])
        body, cells = body[1:], cells[1:]
    rows = tuple(
        Row(start, end, text[spans[0][0] : spans[0][1]].strip() if spans else "", tuple(spans))
        for (start, end, _), spans in zip(body, cells, strict=True)
    )
    top = text.rfind(header, 0, block[0][0]) if header and kind is _is_numeric else block[0][0]
    caption = _caption(text, top, block[-1][1])
    return Table(
        start=block[0][0],
        end=block[-1][1],
        caption=caption,
        columns=columns,
        header=header,
        rows=rows,
        row_names=tuple(proper_names(row.label) for row in rows),
        column_names=tuple(proper_names(label) | content_terms(label) for label in columns),
        caption_names=proper_names(caption),
    )


def _piped_cells(line: _Line) -> list[tuple[int, int]]:
    start, _, text = line
    edges = [found.start() for found in re.finditer(r"(?<!\\)\|", text)]
    if not text.lstrip().startswith("|"):
        edges.insert(0, -1)
    if not text.rstrip().endswith("|"):
        edges.append(len(text))
    return [(start + left + 1, start + right) for left, right in pairwise(edges)]


def _spaced_cells(line: _Line) -> list[tuple[int, int]]:
    return [(line[0] + cell.start(), line[0] + cell.end()) for cell in re.finditer(r"\S+(?: \S+)*", line[2])]


def _numeric_cells(line: _Line) -> list[tuple[int, int]]:
    """Give the leading words as one cell, and every number after them as one."""
    words = [(found.start(), found.end(), found[0]) for found in re.finditer(r"\S+", line[2])]
    first = next((n for n, word in enumerate(words) if _NUMERIC.fullmatch(word[2])), len(words))
    label = (line[0], line[0] + (words[first - 1][1] if first else 0))
    return [label, *((line[0] + start, line[0] + end) for start, end, _ in words[first:])]


def _mostly_numbers(text: str, cells: list[tuple[int, int]]) -> bool:
    filled = [text[start:end].strip() for start, end in cells if text[start:end].strip()]
    return bool(filled) and 2 * sum(_NUMERIC.fullmatch(cell) is not None for cell in filled) > len(filled)


def _caption(text: str, start: int, end: int) -> str:
    """Return the paragraph that introduces a table, or one under it that calls itself a table's."""
    above = _paragraph(text[max(0, start - 1500) : start].split("\n")[::-1])
    above.reverse()
    below = _paragraph(text[end : end + 1500].split("\n"))
    if above and any(_CAPTION.match(line) for line in above):
        first = next(n for n, line in enumerate(above) if _CAPTION.match(line))
        return " ".join(above[first:])
    if below and _CAPTION.match(below[0]) and not below[0].startswith("#"):
        return " ".join(below)
    last = above[-1] if above else ""
    return last if last.endswith(":") or len(last) <= 80 else ""


def _paragraph(lines: list[str]) -> list[str]:
    """Return the lines next to a table up to an empty one or another table; one empty line may lie between."""
    kept: list[str] = []
    for at, line in enumerate(lines):
        plain = line.strip()
        if _is_piped(line) or _is_numeric(line):
            break
        if plain:
            kept.append(plain)
        elif kept or at > 2:
            break
    return kept


_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[.+-]?[A-Za-z0-9]+)*")
_GENERIC = """
ai llm llms mllm mllms vlm vlms lm lms nlp gpu gpus cpu cpus sota rl rlhf sft api qa iii ii iv vi vii t2v i2v t2i vs
ours
"""
_NO_NAMES = frozenset(_GENERIC.split())


def proper_names(text: str) -> frozenset[str]:
    """Return the names in a text, in lower case: words with a digit or with a capital after their first letter.

    A compound also gives its parts of three letters or more, so that "Qwen2.5" meets "Qwen2.5-72B-Instruct".
    """
    names: set[str] = set()
    for token in _NAME.findall(text):
        if not (any(letter.isdigit() for letter in token) or any(letter.isupper() for letter in token[1:])):
            continue
        names.add(token.lower())
        names.update(
            part.lower() for part in re.split(r"[-+]", token) if len(part) >= 3 and not part.isdigit()
        )
    return frozenset(name for name in names if name not in _NO_NAMES and not name[0].isdigit())
