"""The report: one self-contained HTML file, light and dark, without script or anything from outside."""

from __future__ import annotations

import base64
import csv
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from papertrial.trial.card import Claim
from papertrial.trial.contract import Metric
from papertrial.trial.evidence import TUNING_SEED
from papertrial.trial.files import write_atomically
from papertrial.trial.formats import duration, number
from papertrial.trial.plots import curve_figure, curve_names, interval_figure, metric_figure
from papertrial.trial.summary import PaperSummary, Spread, TrialSummary
from papertrial.trial.terminal import here_text, point_text
from papertrial.trial.verdict import SIGNS, Verdict, tally

_CURVES = 3
_MOST_EMBEDDED = 8_000_000  # bytes of one artifact that the report still carries inside
_ROWS = 50
_MEDIA = {".png": "image/png", ".mp4": "video/mp4"}


def render_report(papers: Sequence[PaperSummary]) -> str:
    """Return the report on one or several papers as HTML. Everything in it is escaped."""
    environment = Environment(
        loader=PackageLoader("papertrial.trial", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        papers=papers,
        version=metadata.version("papertrial"),
        signs=SIGNS,
        tally=tally,
        here=here_text,
        point=point_text,
        number=number,
        duration=duration,
        spread=_spread,
        interval=_interval,
        pictures=_pictures,
        artifacts=_artifacts,
        has_points=lambda trial: any(arm.point for arm in trial.arms),
    )


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


def _interval(claim: Claim, verdict: Verdict) -> Markup:
    relation = claim.relation
    if relation is None or verdict.estimate is None or verdict.low is None or verdict.high is None:
        return Markup("")
    values = [verdict.estimate, verdict.low, verdict.high, relation.threshold]
    if relation.quantity == "ratio":
        values = [_log(value) for value in values]
    return Markup(interval_figure(values[0], values[1], values[2], values[3], relation.operator))


def _log(value: float) -> float:
    return -math.inf if value <= 0 else math.log(value)


def _spread(spread: Spread, metric: Metric) -> str:
    if spread.width is None or spread.width == 0 or metric.kind == "exact":
        return number(spread.centre, metric.unit)
    return f"{number(spread.centre, metric.unit)} ± {number(spread.width, metric.unit)}"


def _artifacts(trial: TrialSummary) -> Iterator[Markup]:
    """Yield what the measurements kept, by name, the arms beside each other."""
    if trial.folder is None:
        return
    measured = [path for path in trial.artifacts if not path.parent.name.endswith(f"@{TUNING_SEED}")]
    for path in sorted(measured, key=lambda path: (path.name, path.parent.name)):
        file = trial.folder / path
        if file.stat().st_size <= _MOST_EMBEDDED:
            yield _artifact(file, f"{path.stem}: {path.parent.name}")


def _artifact(file: Path, caption: str) -> Markup:
    says = escape(caption)
    if file.suffix in _MEDIA:
        source = f"data:{_MEDIA[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"
        tag = f'<img src="{source}" alt="{says}">' if file.suffix == ".png" else _video(source, says)
        return Markup(f"<figure>{tag}<figcaption>{says}</figcaption></figure>")
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
