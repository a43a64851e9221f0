"""MMLU in its official files: `dev/<subject>_dev.csv` and `test/<subject>_test.csv`, six columns, no header."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from papertrial.errors import BadInputError, unknown

LETTERS = "ABCD"


@dataclass(frozen=True)
class MmluRow:
    """One question: its four choices, and the letter of the right one."""

    question: str
    choices: tuple[str, str, str, str]
    letter: str


@dataclass(frozen=True)
class MmluSubject:
    """One subject: the rows shown as examples and the rows asked.

    Attributes:
        name: the file's stem, as "abstract_algebra".
        examples: the dev rows, in file order.
        questions: the test rows.
    """

    name: str
    examples: tuple[MmluRow, ...]
    questions: tuple[MmluRow, ...]


def load_mmlu(folder: Path, subjects: tuple[str, ...] | None = None) -> list[MmluSubject]:
    """Read MMLU's official folder, which holds `dev/` and `test/`.

    Every cell is text: a choice that reads "None" or "NA" stays as it is (read with pandas' defaults it
    becomes "nan", as in the harness that came with arXiv 2505.02214).

    Args:
        folder: holds `dev/` and `test/`.
        subjects: names to read; all if not given.

    Raises:
        BadInputError: a missing folder or file, an unknown subject, a row that has not six cells or whose
            answer is no letter A to D (named by file and row).
    """
    tests = {path.name.removesuffix("_test.csv"): path for path in sorted(folder.glob("test/*_test.csv"))}
    if not tests:
        raise BadInputError(f"{folder} is no MMLU folder: it has no test/<subject>_test.csv")
    for name in subjects or ():
        if name not in tests:
            raise unknown("MMLU subject", name, tests)
    return [
        MmluSubject(name, _read(folder / "dev" / f"{name}_dev.csv"), _read(tests[name]))
        for name in subjects or tests
    ]


def _read(file: Path) -> tuple[MmluRow, ...]:
    if not file.is_file():
        raise BadInputError(f"there is no {file}")
    rows = []
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for number, cells in enumerate(csv.reader(lines), start=1):
            if len(cells) != 6:
                raise BadInputError(f"{file}, row {number}: six cells are needed, got {len(cells)}")
            question, a, b, c, d, letter = cells
            if letter not in tuple(LETTERS):
                raise BadInputError(f"{file}, row {number}: the answer must be A, B, C or D, got {letter!r}")
            rows.append(MmluRow(question, (a, b, c, d), letter))
    if not rows:
        raise BadInputError(f"{file} holds no row")
    return tuple(rows)
