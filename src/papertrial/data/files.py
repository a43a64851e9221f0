"""Reading the user's own text: .txt, .jsonl and .parquet files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papertrial.errors import BadInputError

SUFFIXES = (".txt", ".jsonl", ".parquet")
"""The files that are read, by suffix."""

_PIECE = 2000  # characters: a page, so that a book can be split and a short note stays whole


def read_file(path: Path, field: str = "text", *, whole: bool = False) -> list[str]:
    """Return the documents in one file.

    A .jsonl or .parquet file has one document a row, in `field`. A .txt file is cut at blank lines into
    pieces of about a page, or is one document if `whole`.

    Raises:
        BadInputError: another kind of file, not UTF-8, not JSON, not parquet, or a row without the field.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, field)
    if suffix not in SUFFIXES:
        raise BadInputError(
            f"{path} is a {suffix or 'nameless'} file; text is read from {', '.join(SUFFIXES)}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise BadInputError(
            f"{path} is not UTF-8 (byte {problem.start}); convert it, for instance with iconv -t utf-8"
        ) from problem
    except OSError as problem:
        raise BadInputError(f"cannot read {path}: {problem.strerror}") from problem
    if suffix == ".jsonl":
        return _read_jsonl(text, path, field)
    return [text] if whole else cut_at_blank_lines(text)


def cut_at_blank_lines(text: str) -> list[str]:
    """Cut a long text at blank lines into pieces of about a page, losing nothing but white space."""
    pieces: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if not paragraph.strip():
            continue
        if pieces and len(pieces[-1]) < _PIECE:
            pieces[-1] += "\n\n" + paragraph
        else:
            pieces.append(paragraph)
    return pieces


def json_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON objects of a text, one a line, each with its line number; blank lines are passed over.

    Raises:
        BadInputError: a line that is no JSON object, named with `path` and its number.
    """
    # Only "\n" ends a line: str.splitlines would also cut at characters that occur inside texts.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as problem:
            raise BadInputError(f"{path}:{number} is not JSON: {problem.msg}") from problem
        if not isinstance(row, dict):
            raise BadInputError(f"{path}:{number} is not a JSON object but {type(row).__name__}")
        yield number, row


def _read_jsonl(text: str, path: Path, field: str) -> list[str]:
    documents = []
    for number, row in json_rows(text, path):
        if field not in row:
            raise BadInputError(f"{path}:{number} has no field {field!r}; it has: {', '.join(sorted(row))}")
        if not isinstance(row[field], str):
            raise BadInputError(f"{path}:{number}: {field!r} is {type(row[field]).__name__}, not text")
        documents.append(row[field])
    return documents


def _read_parquet(path: Path, field: str) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            if field not in schema.names:
                raise BadInputError(f"{path} has no column {field!r}; it has: {', '.join(schema.names)}")
            kind = schema.field(field).type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise BadInputError(f"{path}: the column {field!r} holds {kind}, not text")
            column = file.read(columns=[field]).column(field).to_pylist()
    except (pyarrow.ArrowException, OSError) as problem:
        raise BadInputError(f"{path} cannot be read as parquet: {problem}") from problem
    missing = [number for number, value in enumerate(column) if value is None]
    if missing:
        raise BadInputError(f"{path}: {len(missing)} rows have no {field!r}, the first is row {missing[0]}")
    return [str(value) for value in column]
