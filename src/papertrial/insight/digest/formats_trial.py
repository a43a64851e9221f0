"""Parsing on trial: rows of the English digest found and written back, against a line-based split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from papertrial.trial.contract import Metric, Trial, Watch

_LINK = re.compile(
    r"^\|(?: (?P<title>(?:(?!\n\| )[^\x00])*?) \(Read more on \[arXiv\]|.*\])"
    r"\(https://arxiv\.org/abs/(?P<id>\d{4}\.\d{4,5})",
    re.MULTILINE,
)

Row = tuple[str, str, str]
"""The arXiv id, the title on one line, and the summary of a row."""


@dataclass(frozen=True)
class FormatsTrial(Trial):
    """Read digest days with broken titles, pipes in cells and empty authors, and write them back.

    A row counts as found where its arXiv id, its title and, in made days, its whole summary are right; a day as
    written back where every byte is. The line split is what a quick script does: a row a line, a cell a pipe.

    Attributes:
        days: files or folders of real days of the English digest; by default days made from the cards by
            the format's grammar, other ones for every seed.
        made: how many days are made.
    """

    days: tuple[str, ...] = ()
    made: int = 8

    arms: ClassVar[tuple[str, ...]] = ("line-split", "parser")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "rows_found": Metric("share of rows", "higher", kind="exact"),
        "broken_rows_found": Metric("share of rows whose title is broken over lines", "higher", kind="exact"),
        "written_back": Metric("share of days, byte for byte", "higher", kind="exact"),
        "rows": Metric("rows", "higher", kind="exact", shown=False),
    }

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        from papertrial.errors import BadInputError
        from papertrial.insight.digest.material_trial import day_files

        if self.made < 1:
            raise BadInputError(f"made must be at least 1, got {self.made}")
        day_files(self.days)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Read every day by one reader."""
        found: Counter[bool] = Counter()
        present: Counter[bool] = Counter()
        whole = 0
        texts = self._texts(seed)
        for done, (text, made) in enumerate(texts, start=1):
            rows, back = _read(arm, text)
            for broken, row in made if made is not None else _links(text):
                present[broken] += 1
                found[broken] += _take(rows, row)
            whole += back == text
            watch.step(done, len(texts), rows=present.total())
        return {
            "rows_found": found.total() / present.total(),
            "broken_rows_found": found[True] / present[True] if present[True] else float("nan"),
            "written_back": whole / len(texts),
            "rows": float(present.total()),
        }

    def scale(self) -> str:
        """Say which days."""
        if self.days:
            return f"real days of the English digest ({', '.join(self.days)})"
        return f"{self.made} days made from the cards a seed, a third of the titles broken over lines"

    @classmethod
    def quick(cls) -> FormatsTrial:
        """Return the trial with two made days."""
        return cls(made=2)

    def _texts(self, seed: int) -> list[tuple[str, list[tuple[bool, Row]] | None]]:
        """Return every day's text, and its rows where they are known, each with whether its title is broken."""
        import random

        from papertrial.insight.digest.made_days import make_day
        from papertrial.insight.digest.material_trial import card_sources, day_files

        if self.days:
            return [(file.read_text(encoding="utf-8"), None) for file in day_files(self.days)]
        sources = card_sources()
        made: list[tuple[str, list[tuple[bool, Row]] | None]] = []
        for number in range(self.made):
            draw = random.Random(f"{seed} {number} day")
            text, rows = make_day(draw.sample(sources, min(14, len(sources))), draw)
            made.append((text, [(row.broken, (row.arxiv, row.title, row.summary.strip())) for row in rows]))
        return made


def _read(arm: str, text: str) -> tuple[list[Row], str]:
    """Return the rows that a reader finds, and the text that it writes back."""
    if arm == "line-split":
        from papertrial.insight.digest.line_split import split_lines

        rows = split_lines(text)
        return rows, "".join(f"| {' | '.join(row)} |\n" for row in rows)

    from papertrial.digest.table_format import parse_table, render_table

    day = parse_table(text)
    rows = [(entry.paper.id, entry.paper.title, entry.fields[0].text.strip()) for entry in day]
    return rows, render_table(day, legacy=True)


def _links(text: str) -> list[tuple[bool, Row]]:
    """Return the rows of a real day by their links to arXiv: id and title; the older generations' id alone."""
    return [
        ("\n" in (found["title"] or ""), (found["id"], " ".join((found["title"] or "").split()), ""))
        for found in _LINK.finditer(text)
    ]


def _take(rows: list[Row], wanted: Row) -> bool:
    """Take the wanted row out of those found, and say whether it was there; what is "" is not compared."""
    for at, row in enumerate(rows):
        if all(want in ("", have) for want, have in zip(wanted, row, strict=True)):
            del rows[at]
            return True
    return False
