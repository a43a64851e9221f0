"""The report: one self-contained HTML file, light and dark, without script or anything from outside."""

from __future__ import annotations

import base64
import csv
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from papertrial.trial.card import Claim
from papertrial.trial.contract import Metric
from papertrial.trial.evidence import TUNING_SEED
from papertrial.trial.files import write_atomically
from papertrial.trial.formats import duration, number, span
from papertrial.trial.plots import curve_figure, curve_names, interval_figure, metric_figure
from papertrial.trial.summary import PaperSummary, Spread, TrialSummary
from papertrial.trial.terminal import point_text
from papertrial.trial.verdict import SIGNS, Verdict, tally

_CURVES = 3
_MOST_EMBEDDED = 8_000_000  # bytes of one artifact that the report still carries inside
_ROWS = 50
_MEDIA = {".png": "image/png", ".mp4": "video/mp4"}


@dataclass(frozen=True)
class Sheet:
    """What the measurements of a trial kept under one name: the arms in columns, the seeds in rows.

    Attributes:
        rows: for each seed one file an arm, relative to the evidence, or None where that pair kept none.
        pictures: whether the files are pictures, which can be laid over each other.
    """

    name: str
    arms: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Path | None]]]
    pictures: bool


def render_report(papers: Sequence[PaperSummary]) -> str:
    """Return the report on one or several papers as HTML. Everything in it is escaped."""
    environment = Environment(
        loader=PackageLoader("papertrial.trial", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        papers=papers, version=metadata.version("papertrial"), **helpers(), **_in_one_file()
    )


def helpers() -> dict[str, Any]:
    """Return what `paper.jinja` calls, alike in the report and on the page."""
    return {
        "signs": SIGNS,
        "tally": tally,
        "here": _here,
        "point": point_text,
        "number": number,
        "duration": duration,
        "spread": _spread,
        "interval": claim_interval,
        "pictures": _pictures,
        "sheets": contact_sheets,
        "has_points": lambda trial: any(arm.point for arm in trial.arms),
        "has_times": lambda trial: any(math.isfinite(arm.wall_seconds) for arm in trial.arms),
    }


def _in_one_file() -> dict[str, Any]:
    """Return what `paper.jinja` calls, as a file that stands alone has it: English, pictures inside."""
    return {
        "t": lambda text, language=None: text,
        "lang": "en",
        "origins": {},
        "day_link": str,
        "code_link": lambda repository: Markup("<code>{}</code>").format(repository),
        "scale_of": lambda claim, paper: (
            paper.trials[claim.trial].scale if claim.trial in paper.trials else ""
        ),
        "raw_values": lambda paper, trial: Markup(
            "<code>papertrial evidence {} --format csv</code> gives them unrounded."
        ).format(paper.card.name),
        "artifact": _artifact,
    }


def write_report(home: Path, papers: Sequence[PaperSummary]) -> Path:
    """Write the report and return its path, the same for the same papers and settings.

    Raises:
        OSError: it cannot be written.
    """
    path = report_path(home, papers)
    write_atomically(path, render_report(papers).encode())
    return path


def report_path(home: Path, papers: Sequence[PaperSummary]) -> Path:
    """Return where the report on these papers under these settings lies."""
    folders = [trial.folder.name for paper in papers for trial in paper.trials.values() if trial.folder]
    digest = hashlib.sha256("\n".join(folders).encode()).hexdigest()[:8]
    names = "+".join(paper.card.name for paper in papers)
    return home / "reports" / f"{names[:80]}-{digest}" / "report.html"


def _pictures(trial: TrialSummary) -> Iterator[Markup]:
    """Yield the curves (the main one and two more), then each metric that the arms differ in."""
    for name in curve_names(trial)[:_CURVES]:
        yield Markup(curve_figure(trial, name))
    for name, metric in trial.metrics.items():
        means = {arm.metrics[name].centre for arm in trial.arms if math.isfinite(arm.metrics[name].centre)}
        if metric.shown and len(means) > 1:
            yield Markup(metric_figure(trial, name, metric))


def claim_interval(claim: Claim, verdict: Verdict) -> Markup:
    """Draw the interval of a verdict against the threshold that its claim asks for, ratios by logarithm."""
    relation = claim.relation
    if relation is None or verdict.estimate is None or verdict.low is None or verdict.high is None:
        return Markup("")
    values = [verdict.estimate, verdict.low, verdict.high, relation.threshold]
    if relation.quantity == "ratio":
        values = [_log(value) for value in values]
    says = f"{number(verdict.low)} to {number(verdict.high)}, threshold {number(relation.threshold)}"
    return Markup(interval_figure(values[0], values[1], values[2], values[3], relation.operator, says))


def quantity_text(claim: Claim, verdict: Verdict, unit: str) -> str:
    """Say what was found about a claim here, with its interval.

    Args:
        claim: the claim.
        verdict: what was found.
        unit: of the claim's metric; "" where it is not known.
    """
    if verdict.estimate is None or claim.relation is None:
        return ""
    quantity = claim.relation.quantity
    unit = "" if quantity == "ratio" else unit
    suffix = "x" if quantity == "ratio" else f" {unit}" if unit and unit != "bytes" else ""
    signed = quantity == "difference"
    point = number(verdict.estimate, unit, signed) + suffix
    if verdict.low == verdict.high:
        return point
    return f"{point} {span(verdict.low, verdict.high, unit, signed)}"


def _here(claim: Claim, verdict: Verdict, paper: PaperSummary) -> str:
    trial = paper.trials.get(claim.trial or "")
    return quantity_text(claim, verdict, trial.metrics[claim.metric or ""].unit if trial else "")


def _log(value: float) -> float:
    return -math.inf if value <= 0 else math.log(value)


def _spread(spread: Spread, metric: Metric) -> str:
    if spread.width is None or spread.width == 0 or metric.kind == "exact":
        return number(spread.centre, metric.unit)
    return f"{number(spread.centre, metric.unit)} ± {number(spread.width, metric.unit)}"


def contact_sheets(trial: TrialSummary) -> list[Sheet]:
    """Gather what the measurements kept, by file name."""
    order = {arm.arm: at for at, arm in enumerate(trial.arms)}
    found: dict[str, dict[tuple[str, str], Path]] = {}
    for path in trial.artifacts:
        arm, _, seed = path.parent.name.rpartition("@")
        if seed != str(TUNING_SEED):
            found.setdefault(path.name, {})[arm, seed] = path
    sheets = []
    for name, files in sorted(found.items()):
        arms = sorted({arm for arm, _ in files}, key=lambda arm: (order.get(arm, len(order)), arm))
        seeds = sorted({seed for _, seed in files}, key=lambda seed: (len(seed), seed))
        rows = [(seed, [files.get((arm, seed)) for arm in arms]) for seed in seeds]
        sheets.append(Sheet(Path(name).stem, arms, rows, name.endswith(".png")))
    return sheets


def _artifact(trial: TrialSummary, path: Path) -> Markup:
    """Return one artifact with its content inside."""
    assert trial.folder is not None
    file = trial.folder / path
    says = escape(f"{path.stem}: {path.parent.name}")
    if file.stat().st_size > _MOST_EMBEDDED:
        return Markup("<code>{}</code>").format(file)
    if file.suffix in _MEDIA:
        source = f"data:{_MEDIA[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"
        return Markup(f'<img src="{source}" alt="{says}">' if file.suffix == ".png" else _video(source, says))
    text = file.read_text(encoding="utf-8", errors="replace")
    body = _table(list(csv.DictReader(text.splitlines()))) if file.suffix == ".csv" else _text(text)
    return Markup(f"<details><summary>{says}</summary>{body}</details>")


def _video(source: str, says: Markup) -> str:
    return f'<video src="{source}" controls loop muted playsinline aria-label="{says}"></video>'


def _text(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0]) if rows else ""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(value)}</td>" for value in row.values()) + "</tr>"
        for row in rows[:_ROWS]
    )
    more = f'<p class="soft">and {len(rows) - _ROWS} more rows</p>' if len(rows) > _ROWS else ""
    return f'<div class="box"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}'
