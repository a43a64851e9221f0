"""Reading a digest from a file: both public formats and our own JSON, told apart by what is in them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

from papertrial.digest import entries_format, json_format, table_format
from papertrial.digest.records import Day
from papertrial.errors import BadInputError

_TABLE = re.compile(table_format.HEADER.pattern, re.MULTILINE)
_ENTRIES = re.compile(entries_format.HEADER.pattern, re.MULTILINE)
_DATE = re.compile(r"(?<!\d)(\d{4}-\d{2}-\d{2})(?!\d)")


def read_days(path: Path) -> list[Day]:
    """Read every day of a file: Markdown of either public format, `.json` or `.jsonl`.

    A file of the English digest may hold many days, one of the Korean digest a single one.

    Raises:
        BadInputError: the file cannot be read, is not UTF-8, is no digest, mixes the formats, or holds another
            day than its name says.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BadInputError(f"the digest {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(
            f"{path} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}); "
            "save it as UTF-8 and try again"
        ) from error
    try:
        days = parse_days(text)
    except BadInputError as error:
        raise BadInputError(f"{path}: {error}") from error
    if len(days) == 1 and (named := _DATE.search(path.stem)) and named[1] != str(days[0].date):
        raise BadInputError(
            f"{path} is named for {named[1]} and holds the day {days[0].date}; rename it, or mend its heading"
        )
    return [table_format.with_source(day, path.name) for day in days]


def read_day(path: Path, when: date | None = None) -> Day:
    """Read one day of a file; `when` chooses it where the file holds many.

    Raises:
        BadInputError: as `read_days`; also where the file does not have that day, or has many and none is named.
    """
    days = read_days(path)
    chosen = [day for day in days if when is None or day.date == when]
    if len(chosen) == 1:
        return chosen[0]
    dates = ", ".join(str(day.date) for day in days)
    if not chosen:
        raise BadInputError(f"{path} has no day {when}; it has {dates}")
    raise BadInputError(f"{path} has several days; name one of {dates}")


def parse_days(text: str) -> list[Day]:
    """Read the days of a text of any known format.

    Raises:
        BadInputError: the text is no digest, or mixes the formats.
    """
    if text.lstrip("\ufeff \r\n\t")[:1] in ("{", "["):
        return json_format.parse_json(text)
    plain = text.replace("\r\n", "\n")
    table, entries = _TABLE.search(plain), _ENTRIES.search(plain)
    if table and entries:
        lines = [plain.count("\n", 0, found.start()) + 1 for found in (table, entries)]
        raise BadInputError(
            f"two formats in one file: a table begins at line {lines[0]}, entries at line {lines[1]}; "
            "give each a file of its own"
        )
    if table:
        return table_format.parse_tables(text)
    if entries:
        return [entries_format.parse_entries(text)]
    raise BadInputError(
        "no digest: it has neither a heading '## Papers for YYYY-MM-DD' nor '## Daily Papers (YYYY-MM-DD)'"
    )


def without_warnings(day: Day) -> Day:
    """Return the day as it is compared: what it says, not how its file said it."""
    return replace(day, warnings=(), layout={})
