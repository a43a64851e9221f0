"""`papertrial evidence`: what has been measured, where it lies, and its export."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from papertrial.cli.options import help_text, parse_known, refuse_unknown, split_names, wants_help
from papertrial.errors import BadInputError, unknown
from papertrial.home import home
from papertrial.trial.evidence import Evidence, all_evidence
from papertrial.trial.files import to_json
from papertrial.trial.rooms import discover, find_room

COLUMNS = (
    "paper",
    "trial",
    "evidence",
    "phase",
    "arm",
    "seed",
    "point",
    "metric",
    "value",
    "threads",
    "finished",
)


@dataclass(frozen=True)
class EvidenceOptions:
    """Show what has been measured of a paper and where it lies, or export it.

    Attributes:
        format: `table` lists groups of settings; `csv`, `markdown` and `json` give every number; `files` gives
            the path of every picture, video, table and text that was kept, one a line.
        trial: only this trial.
        out: write to this file instead of the terminal.
    """

    format: Literal["table", "json", "csv", "markdown", "files"] = "table"
    trial: str | None = None
    out: Path | None = None


def run(words: Sequence[str]) -> int:
    """Run `papertrial evidence [NAME]`."""
    names, rest = split_names(words)
    if wants_help(rest):
        sys.stdout.write(help_text(EvidenceOptions, "papertrial evidence [NAME]"))
        return 0
    options, left = parse_known(EvidenceOptions, rest, "papertrial evidence")
    refuse_unknown(left, [EvidenceOptions], "papertrial evidence")
    papers = [find_room(name).name for name in names] or list(discover())
    found = [(paper, one) for paper in papers for one in all_evidence(home(), paper)]
    if options.trial is not None:
        trials = {one.about["trial"] for _, one in found}
        if options.trial not in trials:
            raise unknown("trial with evidence", options.trial, trials)
        found = [(paper, one) for paper, one in found if one.about["trial"] == options.trial]
    text = _WRITERS[options.format](found)
    if options.out is None:
        sys.stdout.write(text)
        return 0
    try:
        options.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"cannot write {options.out}: {error}") from error
    return 0


def _table(found: Sequence[tuple[str, Evidence]]) -> str:
    from rich.console import Console
    from rich.table import Table

    if not found:
        return f"nothing has been measured yet in {home()}; measure with: papertrial try NAME\n"
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("paper.trial", "settings", "arms × seeds", "pairs", "kept files", "folder"):
        table.add_column(title, overflow="fold")
    for paper, evidence in found:
        measured = evidence.measurements()
        arms, seeds = {one.arm for one in measured}, {one.seed for one in measured}
        about = evidence.about
        settings = ", ".join(f"{name} {value}" for name, value in about["settings"].items())
        table.add_row(
            f"{paper}.{about['trial']}",
            settings,
            f"{len(arms)} × {len(seeds)}",
            str(len(measured)),
            str(len(evidence.artifacts()) or "–"),
            str(evidence.folder),
        )
    buffer = io.StringIO()
    Console(file=buffer, width=max(100, Console().width)).print(table)
    return buffer.getvalue()


def _rows(found: Sequence[tuple[str, Evidence]]) -> Iterator[dict[str, Any]]:
    """Yield one row for each number: the long form, in which trials with other metrics fit together."""
    for paper, evidence in found:
        trial = evidence.about["trial"]
        for phase, measured in (("tuning", evidence.sweep()), ("measured", evidence.measurements())):
            for one in measured:
                for metric, value in one.metrics.items():
                    yield dict(
                        zip(
                            COLUMNS,
                            (
                                paper,
                                trial,
                                evidence.folder.name,
                                phase,
                                one.arm,
                                one.seed,
                                " ".join(f"{name}={given}" for name, given in one.point.items()),
                                metric,
                                value,
                                one.threads,
                                one.finished,
                            ),
                            strict=True,
                        )
                    )


def _csv(found: Sequence[tuple[str, Evidence]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(found))
    return buffer.getvalue()


def _markdown(found: Sequence[tuple[str, Evidence]]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(str(value) for value in row.values())} |" for row in _rows(found)]
    return "\n".join(lines) + "\n"


def _json(found: Sequence[tuple[str, Evidence]]) -> str:
    groups = [
        {
            **evidence.about,
            "folder": str(evidence.folder),
            "measurements": [asdict(one) for one in evidence.measurements()],
            "sweep": [asdict(one) for one in evidence.sweep()],
            "files": [str(path) for path in evidence.artifacts()],  # below the folder
        }
        for _, evidence in found
    ]
    return to_json(groups, indent=1).decode() + "\n"


def _files(found: Sequence[tuple[str, Evidence]]) -> str:
    return "".join(f"{evidence.folder / path}\n" for _, evidence in found for path in evidence.artifacts())


_WRITERS = {"table": _table, "csv": _csv, "markdown": _markdown, "json": _json, "files": _files}
