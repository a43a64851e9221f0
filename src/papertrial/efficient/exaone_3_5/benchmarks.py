"""Reading the test items of benchmarks: MMLU's CSV files, JSON lines, parquet, plain text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from papertrial.data.files import json_rows
from papertrial.efficient.exaone_3_5.pool import TestItem
from papertrial.errors import BadInputError

SUFFIXES = (".csv", ".jsonl", ".parquet", ".txt")
"""The files that are read, by suffix."""

_TEXT_FIELDS = ("question", "text", "prompt", "problem", "instruction")
_CHOICE_FIELDS = ("choices", "options")
_ANSWER_LETTERS = set("ABCDEFGHIJ")


def load_items(paths: Iterable[str | Path]) -> list[TestItem]:
    """Return the test items of files and folders, named by file and number.

    An item's text is its question with its choices. The gold answer is left out: a letter tells nothing.

    Args:
        paths: .csv (MMLU: question, choices, answer letter, no header), .jsonl or .parquet (`question`,
            `text`, `prompt`, `problem` or `instruction`, and `choices` or `options` if there are), .txt (one
            item a line), or folders of them.

    Raises:
        BadInputError: nothing there, another kind of file, not readable, or a row without a text.
    """
    items = [item for path in paths for file in _files(Path(path).expanduser()) for item in _read(file)]
    if not items:
        raise BadInputError("the tests hold no item")
    return items


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadInputError(f"there is no file or folder {str(path)!r} to read test items from")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise BadInputError(f"the folder {path} has no {', '.join(SUFFIXES)} file")
    return files


def _read(path: Path) -> Iterator[TestItem]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _from_rows(path, _parquet_rows(path))
        return
    if suffix not in SUFFIXES:
        raise BadInputError(
            f"{path} is a {suffix or 'nameless'} file; items are read from {', '.join(SUFFIXES)}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise BadInputError(f"{path} is not UTF-8 (byte {problem.start})") from problem
    if suffix == ".jsonl":
        yield from _from_rows(path, json_rows(text, path))
    elif suffix == ".csv":
        yield from _from_csv(path, text)
    else:
        lines = enumerate(text.split("\n"), start=1)
        yield from (TestItem(_name(path, number), line) for number, line in lines if line.strip())


def _from_csv(path: Path, text: str) -> Iterator[TestItem]:
    for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > 1 and row[-1].strip() in _ANSWER_LETTERS:
            row = row[:-1]
        yield TestItem(_name(path, number), "\n".join(row))


def _from_rows(path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[TestItem]:
    for number, row in rows:
        field = next((field for field in _TEXT_FIELDS if isinstance(row.get(field), str)), None)
        if field is None:
            raise BadInputError(
                f"{path}:{number} has no text under {', '.join(_TEXT_FIELDS)}; it has: {', '.join(sorted(row))}"
            )
        choices = next((row[field] for field in _CHOICE_FIELDS if row.get(field) is not None), ())
        yield TestItem(_name(path, number), "\n".join([row[field], *_choice_texts(path, number, choices)]))


def _choice_texts(path: Path, number: int, choices: object) -> Sequence[str]:
    if isinstance(choices, Mapping):  # ARC's form: {"text": [...], "label": [...]}
        choices = choices.get("text", list(choices.values()))
    if isinstance(choices, str) or not isinstance(choices, Iterable):
        raise BadInputError(f"{path}:{number}: the choices are {type(choices).__name__}, not a list of texts")
    return [str(choice) for choice in choices]


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except (pyarrow.ArrowException, OSError) as problem:
        raise BadInputError(f"{path} cannot be read as parquet: {problem}") from problem


def _name(path: Path, number: int) -> str:
    return f"{path.name}:{number}"
