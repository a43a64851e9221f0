"""A digest as one self-contained HTML file: no script, nothing from outside, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from jinja2 import Environment, PackageLoader, StrictUndefined

from papertrial.digest.cards import total
from papertrial.digest.marking import MARKS, section_html
from papertrial.digest.records import LABELS, Day
from papertrial.digest.verdicts import chips
from papertrial.trial.verdict import SIGNS

_ROLE_NAMES = {
    "headline": "In one line",
    "objective": "Question",
    "method": "Method",
    "results": "Results",
    "implication": "What it means",
} | LABELS


def render_html(days: Sequence[Day]) -> str:
    """Write days as one HTML file, newest first.

    Entries can be filtered by tag without a script; each number shows where the paper has it. Everything in
    it is escaped; formulas stay text.
    """
    days = sorted(days, key=lambda day: day.date, reverse=True)
    environment = Environment(
        loader=PackageLoader("papertrial.digest", "templates"), autoescape=True, undefined=StrictUndefined
    )
    entries = [entry for day in days for entry in day]
    return environment.get_template("digest.html.jinja").render(
        days=days,
        lang=entries[0].lang if entries else "en",
        tags=sorted({tag for entry in entries for tag in entry.paper.categories}),
        totals=total(entry.trial for entry in entries if entry.trial is not None),
        signs=SIGNS,
        marks=MARKS,
        chips=chips,
        section=section_html,
        role=lambda name: _ROLE_NAMES.get(name, name),
        version=metadata.version("papertrial"),
    )
