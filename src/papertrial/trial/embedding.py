"""What of a trial's artifacts stands inside the report, and what only beside it.

A report is one file that people send to each other, so it stays small. Its artifacts go in by rows, a row being one
seed of one sheet with all its arms: the first seed of every sheet before the second of any, small rows before large
ones, and a row whole or not at all. What does not fit is linked to where it lies.
"""

from __future__ import annotations

import base64
import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from papertrial.trial.formats import number
from papertrial.trial.media import MEDIA_TYPES
from papertrial.trial.posters import poster
from papertrial.trial.sheets import contact_sheets, media_kind
from papertrial.trial.summary import PaperSummary, TrialSummary

_ROWS = 50


class Embedded:
    """The artifacts of a report: `artifact` and `left_out` are what its template calls.

    Args:
        papers: what the report is about.
        most: bytes that all artifacts inside may take together, as they are written.
        folder: where the report will lie, from which links are relative; None gives paths instead of links.
    """

    def __init__(self, papers: Sequence[PaperSummary], most: int, folder: Path | None) -> None:
        self._folder = folder
        self._inside: dict[Path, Markup] = {}
        for files in _rows_in_order(papers):
            if sum(file.stat().st_size for _, file in files) > most:
                continue
            row = {file: _inside(says, file) for says, file in files}
            size = sum(len(markup.encode()) for markup in row.values())
            if size <= most:
                self._inside |= row
                most -= size

    def artifact(self, trial: TrialSummary, path: Path) -> Markup:
        """Return one artifact with its content inside, or a link to it."""
        assert trial.folder is not None
        file = trial.folder / path
        return self._inside.get(file) or self._beside(file)

    def left_out(self, trial: TrialSummary) -> Markup:
        """Say how many of a trial's artifacts are not inside, and where they lie; nothing where all are."""
        files = [file for row in _rows_of(trial) for _, file in row]
        out = sum(file not in self._inside for file in files)
        if not out or trial.folder is None:
            return Markup("")
        return Markup(
            '<p class="soft left-out">{} of {} files are not inside this report, which would grow too large: '
            "they lie in <code>{}</code></p>"
        ).format(out, len(files), trial.folder / "artifacts")

    def _beside(self, file: Path) -> Markup:
        size = number(file.stat().st_size, "bytes")
        if self._folder is None:
            return Markup("<code>{}</code> {}").format(file, size)
        target = quote(Path(os.path.relpath(file, self._folder)).as_posix())
        return Markup('<a href="{}">{}</a> <span class="soft">{}</span>').format(target, file.name, size)


def _rows_in_order(papers: Sequence[PaperSummary]) -> Iterator[list[tuple[str, Path]]]:
    """Yield the rows of all sheets in the order in which they go into a report."""
    ranked: list[tuple[int, int, int, list[tuple[str, Path]]]] = []
    for paper in papers:
        for trial in paper.trials.values():
            for rank, row in _ranked_rows(trial):
                ranked.append((rank, sum(file.stat().st_size for _, file in row), len(ranked), row))
    for _, _, _, row in sorted(ranked):
        yield row


def _rows_of(trial: TrialSummary) -> Iterator[list[tuple[str, Path]]]:
    for _, row in _ranked_rows(trial):
        yield row


def _ranked_rows(trial: TrialSummary) -> Iterator[tuple[int, list[tuple[str, Path]]]]:
    """Yield for every row how many rows of its sheet stand before it, and its files with what they are called."""
    if trial.folder is None:
        return
    for sheet in contact_sheets(trial):
        for rank, (_, paths) in enumerate(sheet.rows):
            found = [path for path in paths if path is not None]
            yield rank, [(f"{path.stem}: {path.parent.name}", trial.folder / path) for path in found]


def _inside(says: str, file: Path) -> Markup:
    """Return an artifact with its content."""
    kind = media_kind(file)
    if kind is not None:
        content = base64.b64encode(file.read_bytes()).decode()
        source = f"data:{MEDIA_TYPES[file.suffix.lower()]};base64,{content}"
        return media_tag(kind, source, says, poster(file) if kind == "video" else None)
    text = file.read_text(encoding="utf-8", errors="replace")
    body = _table(list(csv.DictReader(text.splitlines()))) if file.suffix == ".csv" else _text(text)
    return Markup("<details><summary>{}</summary>{}</details>").format(says, body)


def media_tag(kind: str, source: str, says: str, still: str | None = None) -> Markup:
    """Return a picture or a video, which is silent, loops, and starts when its reader wants it to.

    Args:
        kind: "picture" or "video".
        source: its address.
        says: what it is called.
        still: address of the picture that a video shows before it plays.
    """
    if kind == "picture":
        return Markup('<img src="{}" alt="{}">').format(source, says)
    before = Markup("") if still is None else Markup(' poster="{}"').format(still)
    return Markup(
        '<video src="{}"{} controls loop muted playsinline preload="metadata" aria-label="{}"></video>'
    ).format(source, before, says)


def _text(text: str) -> Markup:
    return Markup("<pre><code>{}</code></pre>").format(text)


def _table(rows: Sequence[Mapping[str, Any]]) -> Markup:
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0]) if rows else ""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(value)}</td>" for value in row.values()) + "</tr>"
        for row in rows[:_ROWS]
    )
    more = f'<p class="soft">and {len(rows) - _ROWS} more rows</p>' if len(rows) > _ROWS else ""
    return Markup(
        f'<div class="box"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}'
    )
