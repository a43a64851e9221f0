"""Where each key of a TOML text stands: the line numbers that `tomllib` does not keep."""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str | int, ...]

_TABLE = re.compile(r"^\s*\[(?!\[)\s*([^\]]+?)\s*\]")
_ARRAY = re.compile(r"^\s*\[\[\s*([^\]]+?)\s*\]\]")
_KEY = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"))*)\s*=\s*(.*)$""")
_QUOTES = ('"""', "'''")


def key_lines(text: str) -> dict[Path, int]:
    """Return the 1-based line of every table header and key of a TOML text.

    Keys are paths: `("claims", 1, "relation")` is the key `relation` of the second `[[claims]]`. Keys
    inside an inline table share the line of the key that holds it.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in _logical_lines(text):
        if found := _ARRAY.match(line):
            name = _split(found[1])
            index = counts[name] = counts.get(name, -1) + 1
            table = (*name, index)
            lines[table] = number
        elif found := _TABLE.match(line):
            table = _split(found[1])
            lines[table] = number
        elif found := _KEY.match(line):
            path = (*table, *_split(found[1]))
            lines[path] = number
    return lines


def nearest_line(lines: dict[Path, int], path: Path) -> int:
    """Return the line of `path`, or of the nearest table around it, or 1."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _split(name: str) -> Path:
    return tuple(part.strip().strip("\"'") for part in name.split("."))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines that are not inside a multi-line string, with their numbers."""
    inside: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if inside is None:
            yield number, line
            rest = line
        else:
            rest = line if inside not in line else line.split(inside, 1)[1]
            if inside not in line:
                continue
            inside = None
        opened = [(rest.find(quote), quote) for quote in _QUOTES if quote in rest]
        if opened:
            _, quote = min(opened)
            if rest.count(quote) % 2:
                inside = quote
