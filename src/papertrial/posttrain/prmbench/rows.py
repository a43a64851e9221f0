"""The benchmark's files: rows of JSON lines, read and written, every irregular one named."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from papertrial.data.files import json_rows
from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.classes import CONTROL, class_named
from papertrial.posttrain.steps import Solution

_TEXTS = ("idx", "classification", "original_question", "modified_question")
_STEPS = ("original_process", "modified_process")


@dataclass(frozen=True, slots=True)
class Item:
    """One solution to be judged.

    Attributes:
        id: `{classification}_{idx}`, or `correct_{idx}` for a control.
        idx: names the problem; equal for all its variants.
        classification: as the files spell it, or `correct`.
        question: what the steps answer.
        steps: the steps.
        errors: 1-based places of the wrong steps, ascending, all within the solution.
        first_listed: the smallest listed place even where it lies beyond the solution; 0 where none is
            listed. An item whose first listed error lies outside has no first-error accuracy.
        problem: the original question, by which items of one problem are kept together.
    """

    id: str
    idx: str
    classification: str
    question: str
    steps: tuple[str, ...]
    errors: tuple[int, ...]
    first_listed: int
    problem: str

    def solution(self) -> Solution:
        """Return what a step scorer is given."""
        return Solution(self.question, self.steps, self.id)


@dataclass
class Oddities:
    """What is irregular in the rows that were read. None of them is dropped because of it.

    Attributes:
        duplicate_ids: ids that came again; the first of them counts, as in the released code.
        out_of_range: id → listed error steps beyond the solution; no step is marked by them.
        not_integers: id → listed error steps that are no whole numbers; ignored.
        blank_steps: id → 1-based places of steps without text; they count as steps.
        rows: how many rows were read.
        steps: how many steps their modified solutions have, duplicates included.
    """

    duplicate_ids: list[str] = field(default_factory=list)
    out_of_range: dict[str, list[int]] = field(default_factory=dict)
    not_integers: dict[str, list[Any]] = field(default_factory=dict)
    blank_steps: dict[str, list[int]] = field(default_factory=dict)
    rows: int = 0
    steps: int = 0

    def as_table(self) -> list[dict[str, str]]:
        """Return one line for each irregular row: what is odd, its id, and the places."""
        lines = [{"oddity": "duplicate id", "id": one, "places": ""} for one in self.duplicate_ids]
        for oddity, found in (
            ("error step beyond the solution", self.out_of_range),
            ("error step that is no whole number", self.not_integers),
            ("blank step", self.blank_steps),
        ):
            lines += [
                {"oddity": oddity, "id": one, "places": " ".join(map(str, places))}
                for one, places in found.items()
            ]
        return lines


def read_rows(source: str | Path) -> list[dict[str, Any]]:
    """Read a `.jsonl` file, or every such file in a folder in the order of their names.

    Raises:
        BadInputError: no such file or folder, a folder without `.jsonl` files, or a line that is no JSON
            object (named by file and line).
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.jsonl"))
        if not files:
            raise BadInputError(f"{path} has no .jsonl files; give the folder of the benchmark's data")
    elif path.is_file():
        files = [path]
    else:
        raise BadInputError(f"there is no file or folder {str(path)!r}")
    return [row for file in files for _, row in numbered_lines(file)]


def write_rows(rows: Iterable[Mapping[str, Any]], file: Path) -> None:
    """Write rows as JSON lines, one a line, in UTF-8."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def items_of(rows: Sequence[Mapping[str, Any]], *, strict: bool = False) -> tuple[list[Item], Oddities]:
    """Return the items to be judged, and what is irregular in the rows.

    Each row makes one item; each `redundency` row also a control, its original solution without errors.

    Args:
        rows: as the files have them.
        strict: raise at an error step that lies beyond the solution or is no whole number, and at a
            duplicate id, where otherwise they are ignored as in the released code, and counted.

    Raises:
        BadInputError: a row that lacks a field or has one of another type, or an unknown class; with
            `strict`, any irregular row.

    Source: arXiv 2501.03124; ssmisya/PRMBench `mr_eval/tasks/prmtest_classified/task.py`.
    """
    oddities = Oddities(rows=len(rows))
    items: dict[str, Item] = {}
    for number, row in enumerate(rows, start=1):
        _check_row(row, number)
        made = [_edited_item(row, oddities)]
        if made[0].classification == "redundency":
            made.insert(0, _control_item(row))
        oddities.steps += len(row["modified_process"])
        for item in made:
            if item.id not in items:
                items[item.id] = item
            elif item.classification != CONTROL:
                oddities.duplicate_ids.append(item.id)
    if strict and (odd := [line for line in oddities.as_table() if line["oddity"] != "blank step"]):
        first = odd[0]
        raise BadInputError(
            f"{len(odd)} irregular rows; the first: {first['oddity']} in {first['id']} ({first['places']})"
        )
    return list(items.values()), oddities


def _edited_item(row: Mapping[str, Any], oddities: Oddities) -> Item:
    classification = class_named(row["classification"]).file_name
    name = f"{classification}_{row['idx']}"
    steps = tuple(row["modified_process"])
    listed = row["error_steps"]
    whole = [place for place in listed if type(place) is int]
    inside = {place for place in whole if 1 <= place <= len(steps)}
    if len(whole) < len(listed):
        oddities.not_integers.setdefault(name, [place for place in listed if type(place) is not int])
    if outside := [place for place in whole if place not in inside]:
        oddities.out_of_range.setdefault(name, outside)
    if blank := [place for place, step in enumerate(steps, start=1) if not step.strip()]:
        oddities.blank_steps.setdefault(name, blank)
    return Item(
        id=name,
        idx=row["idx"],
        classification=classification,
        question=row["modified_question"],
        steps=steps,
        errors=tuple(sorted(inside)),
        first_listed=min(whole, default=0),
        problem=row["original_question"],
    )


def _control_item(row: Mapping[str, Any]) -> Item:
    question = row["original_question"]
    steps = tuple(row["original_process"])
    return Item(f"{CONTROL}_{row['idx']}", row["idx"], CONTROL, question, steps, (), 0, question)


def numbered_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON objects of a file, one a line, each with its line number; blank lines are passed over.

    Raises:
        BadInputError: a file that cannot be read as UTF-8, or a line that is no JSON object.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise BadInputError(f"cannot read {file}: {problem}") from problem
    yield from json_rows(text, file)


def _check_row(row: Mapping[str, Any], number: int) -> None:
    name = row.get("idx", f"number {number}")
    for key in _TEXTS:
        if not isinstance(row.get(key), str):
            raise BadInputError(f"row {name}: {key!r} must be a text, got {row.get(key)!r}")
    for key in _STEPS:
        steps = row.get(key)
        if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
            raise BadInputError(f"row {name}: {key!r} must be a non-empty list of texts, got {steps!r:.80}")
    if not isinstance(row.get("error_steps"), list):
        raise BadInputError(f"row {name}: 'error_steps' must be a list, got {row.get('error_steps')!r}")
