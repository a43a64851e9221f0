"""A corpus in pieces that can be read apart from one another: byte ranges, row groups, files, ranges of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from papertrial.data.files import cut_at_blank_lines
from papertrial.efficient.exaone_3_5.decontamination import text_of
from papertrial.errors import BadInputError

Kind = Literal["jsonl", "parquet", "txt", "hub"]

BYTES_A_SHARD = 64 * 2**20
ROWS_A_SHARD = 50_000
"""Of a hub data set whose size is known."""


@dataclass(frozen=True)
class Shard:
    """One piece of a corpus.

    Attributes:
        source: a file, or a hub data set ("org/name" or "org/name:config").
        kind: how it is read.
        number: its place among the shards of the whole corpus.
        first: first byte (jsonl), row group (parquet) or row (hub).
        end: one past the last; None: to the end.
    """

    source: str
    kind: Kind
    number: int
    first: int = 0
    end: int | None = None

    @property
    def name(self) -> str:
        """A file name for what is made of it."""
        stem = (
            Path(self.source).stem
            if self.kind != "hub"
            else self.source.replace("/", "--").replace(":", "--")
        )
        return f"{stem}-{self.number:05d}"


@dataclass(frozen=True)
class Example:
    """One training example.

    Attributes:
        place: where it stands: "file:line", "file:row", "file#piece".
        texts: what is searched.
        whole: what is written where it is kept: the line, the row, or the text.
    """

    place: str
    texts: tuple[str, ...]
    whole: Any


def plan_shards(sources: list[str], bytes_a_shard: int = BYTES_A_SHARD) -> list[Shard]:
    """Cut files, folders and hub data sets into shards, without reading them.

    Raises:
        BadInputError: nothing there, or a file of another kind.
    """
    pieces: list[tuple[str, Kind, int, int | None]] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.exists():
            for file in _files(path):
                pieces += _pieces(file, bytes_a_shard)
        elif source.count("/") == 1 and not source.startswith((".", "/", "~")):
            pieces += _hub_pieces(source)
        else:
            raise BadInputError(f"there is no {source!r}: give files, folders, or a hub data set 'org/name'")
    return [Shard(source, kind, at, first, end) for at, (source, kind, first, end) in enumerate(pieces)]


def read_shard(shard: Shard, fields: tuple[str, ...]) -> Iterator[Example]:
    """Give the examples of a shard in order, one at a time.

    Raises:
        BadInputError: a row without one of `fields`, one that is no text, or a file that cannot be read.
    """
    if shard.kind == "jsonl":
        yield from _read_lines(shard, fields)
    elif shard.kind == "txt":
        for number, text in enumerate(_read_text(Path(shard.source))):
            yield Example(f"{Path(shard.source).name}#{number}", (text,), text)
    else:
        rows = _parquet_rows(shard) if shard.kind == "parquet" else _hub_rows(shard)
        for number, row in rows:
            place = f"{Path(shard.source).name}:{number}"
            yield Example(place, tuple(text_of(row, field, place) for field in fields), row)


def _files(path: Path) -> list[Path]:
    known = {".jsonl", ".parquet", ".txt"}
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in known and file.is_file())
        if not files:
            raise BadInputError(f"the folder {path} has no {', '.join(sorted(known))} file")
        return files
    if path.suffix.lower() not in known:
        raise BadInputError(
            f"{path} is a {path.suffix or 'nameless'} file; training text is read from {', '.join(sorted(known))}"
        )
    return [path]


def _pieces(path: Path, bytes_a_shard: int) -> list[tuple[str, Kind, int, int | None]]:
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return [(str(path), "txt", 0, None)]
    if suffix == ".jsonl":
        starts = range(0, max(1, path.stat().st_size), bytes_a_shard)
        return [(str(path), "jsonl", start, start + bytes_a_shard) for start in starts]
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = file.num_row_groups
    except (pyarrow.ArrowException, OSError) as problem:
        raise BadInputError(f"{path} cannot be read as parquet: {problem}") from problem
    return [(str(path), "parquet", group, group + 1) for group in range(groups)]


def _hub_pieces(source: str) -> list[tuple[str, Kind, int, int | None]]:
    from papertrial.hub import hub_has

    identifier = source.partition(":")[0]
    if not hub_has(identifier, "dataset"):
        raise BadInputError(f"there is no file {source!r}, and the hub cannot be reached for a data set")
    info = _open_hub(source).info
    known = info.splits["train"].num_examples if info.splits and "train" in info.splits else None
    if not known:
        return [(source, "hub", 0, None)]
    return [(source, "hub", first, first + ROWS_A_SHARD) for first in range(0, known, ROWS_A_SHARD)]


def _open_hub(source: str) -> Any:
    import datasets

    from papertrial.hub import hub_errors

    identifier, _, config = source.partition(":")
    try:
        return datasets.load_dataset(identifier, config or None, split="train", streaming=True)
    except hub_errors(ValueError, RuntimeError) as problem:
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise BadInputError(f"cannot read the hub data set {source!r}: {reason}") from problem


def _hub_rows(shard: Shard) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = _open_hub(shard.source).skip(shard.first)
    if shard.end is not None:
        rows = rows.take(shard.end - shard.first)
    yield from enumerate(rows, start=shard.first)


def _read_lines(shard: Shard, fields: tuple[str, ...]) -> Iterator[Example]:
    """Give the lines that begin in the shard's bytes; the last one is read to its end."""
    name = Path(shard.source).name
    with Path(shard.source).open("rb") as file:
        if shard.first > 0:
            file.seek(shard.first - 1)
            file.readline()  # the rest of a line that began before
        while shard.end is None or file.tell() < shard.end:
            place = f"{name}@{file.tell()}"
            line = file.readline()
            if not line:
                return
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as problem:
                raise BadInputError(f"{place} is not JSON: {problem}") from problem
            if not isinstance(row, dict):
                raise BadInputError(f"{place} is not a JSON object but {type(row).__name__}")
            yield Example(place, tuple(text_of(row, field, place) for field in fields), line.rstrip(b"\r\n"))


def _read_text(path: Path) -> list[str]:
    try:
        return cut_at_blank_lines(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as problem:
        raise BadInputError(f"{path} is not UTF-8 (byte {problem.start})") from problem


def _parquet_rows(shard: Shard) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(shard.source) as file:
        number = sum(file.metadata.row_group(group).num_rows for group in range(shard.first))
        for batch in file.iter_batches(row_groups=[shard.first]):
            for row in batch.to_pylist():
                yield number, row
                number += 1
