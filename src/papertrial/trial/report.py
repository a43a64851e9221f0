"""The report: one self-contained HTML file, light and dark, without anything from outside.

It runs no script but our own, which lays pictures over each other: its content policy names the hash of that one, so
that nothing that came in with a card, a setting or an artifact can ever run.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from papertrial.trial.card import Claim
from papertrial.trial.contract import Metric
from papertrial.trial.embedding import Embedded
from papertrial.trial.files import write_atomically
from papertrial.trial.formats import duration, number, span
from papertrial.trial.plots import curve_figure, curve_names, interval_figure, metric_figure
from papertrial.trial.sheets import contact_sheets
from papertrial.trial.summary import PaperSummary, Spread, TrialSummary
from papertrial.trial.terminal import point_text
from papertrial.trial.verdict import SIGNS, Verdict, tally

_CURVES = 3
MOST_BYTES = 5_000_000
"""Of a report: as many artifacts go in as fit, unless the text alone is longer."""


def render_report(papers: Sequence[PaperSummary], folder: Path | None = None) -> str:
    """Return the report on one or several papers as HTML. Everything in it is escaped.

    Args:
        papers: what it is about.
        folder: where it will lie: artifacts that do not fit in are linked from there. None names their paths.
    """
    environment = Environment(
        loader=PackageLoader("papertrial.trial", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    template = environment.get_template("report.html.jinja")
    script = (resources.files("papertrial.trial") / "templates" / "compare.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = {
        "papers": papers,
        "version": metadata.version("papertrial"),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
    }

    def render(most: int) -> str:
        embedded = Embedded(papers, most, folder)
        inside = {"artifact": embedded.artifact, "left_out": embedded.left_out}
        return template.render(shared | helpers() | _in_one_file() | inside)

    alone = render(0)
    if not any(trial.artifacts for paper in papers for trial in paper.trials.values()):
        return alone
    return render(MOST_BYTES - len(alone.encode()))  # what goes in stands where its link stood


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
        "left_out": lambda trial: "",
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
    }


def write_report(home: Path, papers: Sequence[PaperSummary]) -> Path:
    """Write the report and return its path, the same for the same papers and settings.

    Raises:
        OSError: it cannot be written.
    """
    path = report_path(home, papers)
    write_atomically(path, render_report(papers, path.parent).encode())
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
