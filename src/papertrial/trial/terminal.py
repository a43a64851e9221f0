"""What `papertrial try` shows in a terminal: live progress, then the arms and the claims."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from papertrial.trial.card import Card, Claim
from papertrial.trial.contract import Trial
from papertrial.trial.evidence import Evidence, Measurement
from papertrial.trial.formats import duration, number, span
from papertrial.trial.listening import Pair
from papertrial.trial.measuring import Failure
from papertrial.trial.summary import PaperSummary, TrialSummary
from papertrial.trial.verdict import SIGNS, Verdict

STYLES = {"holds": "green", "fails": "red", "undecided": "yellow", "untested": "dim", "not measured": "dim"}


class Progress:
    """A listener that draws one line for each arm, with the step, the values and the time left.

    On a terminal the lines are redrawn a few times a second; elsewhere each finished pair is one plain line.
    """

    def __init__(self, console: Console, name: str, trial: Trial) -> None:
        self._console, self._name, self._trial = console, name, trial
        self._phase = ""
        self._planned: Counter[str] = Counter()
        self._done: Counter[str] = Counter()
        self._last: dict[str, Measurement] = {}
        self._evidence: Evidence | None = None
        self._began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, refresh_per_second=4, transient=True, get_renderable=self._draw
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def planned(
        self, phase: str, evidence: Evidence, pairs: Sequence[Pair], found: Sequence[Measurement]
    ) -> None:
        """Begin a phase."""
        self._phase, self._evidence, self._began = phase, evidence, time.monotonic()
        self._planned = Counter(arm for arm, _, _ in pairs)
        self._done = Counter(one.arm for one in found)
        self._last = {one.arm: one for one in found}
        if pairs and len(found) == len(pairs):
            self._say(f"{self._name}: {phase}: all {len(pairs)} pairs were measured before")
        elif found:
            self._say(f"{self._name}: {phase}: {len(found)} of {len(pairs)} pairs were measured before")

    def measured(self, measurement: Measurement) -> None:
        """Count a finished pair."""
        arm = measurement.arm
        self._done[arm] += 1
        self._last[arm] = measurement
        if self._live is None:
            where = "tuning" if self._phase == "tuning" else f"seed {measurement.seed}"
            told = [
                point_text(measurement.point),
                self._values(measurement),
                duration(measurement.wall_seconds),
            ]
            self._say(f"{self._name}: {arm} {where}: " + "  ".join(part for part in told if part))

    def failed(self, failure: Failure) -> None:
        """Say that an arm raised."""
        self._say(f"{self._name}: {failure.arm} seed {failure.seed} failed: {failure.error}", "red")

    def notice(self, message: str) -> None:
        """Say something."""
        self._say(f"{self._name}: {message}", "yellow")

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)

    def _draw(self) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        live = {state["arm"]: state for state in self._evidence.live()} if self._evidence else {}
        for arm, planned in self._planned.items():
            state = live.get(arm)
            part = state["done"] / state["total"] if state and state["total"] else 0.0
            table.add_row(
                f"  {arm}",
                ProgressBar(total=planned, completed=min(planned, self._done[arm] + part), width=18),
                f"{self._done[arm]}/{planned}",
                self._status(arm, state),
            )
        elapsed = f"{self._name}: {self._phase} · {duration(time.monotonic() - self._began)}{self._left()}"
        return Group(Text(elapsed, style="bold"), table)

    def _status(self, arm: str, state: Mapping[str, Any] | None) -> Text:
        if state is not None:
            values = " · ".join(f"{name} {number(value)}" for name, value in state["values"].items())
            return Text(f"step {state['done']}/{state['total']}" + (f" · {values}" if values else ""))
        if arm in self._last:
            return Text(self._values(self._last[arm]))
        return Text("waiting", style="dim")

    def _left(self) -> str:
        done, planned = sum(self._done.values()), sum(self._planned.values())
        fresh = [one.wall_seconds for one in self._last.values()]
        if not done or done >= planned or not fresh:
            return ""
        return f" · about {duration((planned - done) * (time.monotonic() - self._began) / done)} left"

    def _values(self, measurement: Measurement) -> str:
        return "  ".join(
            f"{name} {number(measurement.metrics[name], metric.unit)}"
            for name, metric in self._trial.metrics.items()
            if metric.shown
        )


def header(card: Card) -> Text:
    """Return the line that names a paper."""
    return Text.assemble(
        (card.name, "bold"), "  ", card.title, "  ", (card.origin.partition(" · ")[0], "dim")
    )


def arms_table(trial: TrialSummary) -> Table:
    """Return the arms of one trial with their metrics, mean ± standard deviation over seeds."""
    shown = [name for name, metric in trial.metrics.items() if metric.shown]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, title_justify="left")
    table.title = f"{trial.name}: {trial.scale} · {trial.seeds} seeds"
    table.title_style = "bold"
    table.add_column("arm")
    for name in shown:
        unit = trial.metrics[name].unit
        table.add_column(f"{name}" + (f" ({unit})" if unit and unit != "bytes" else ""), justify="right")
    table.add_column("time", justify="right")
    tuned = any(arm.point for arm in trial.arms)
    if tuned:
        table.add_column("tuned")
    for arm in trial.arms:
        cells = [_spread(trial, arm.metrics, name) for name in shown]
        edge = f" (end of the grid: {', '.join(arm.edges)})" if arm.edges else ""
        row = [arm.arm, *cells, duration(arm.wall_seconds)]
        table.add_row(*row, *([point_text(arm.point) + edge] if tuned else []))
    return table


def claims_table(summary: PaperSummary) -> Table:
    """Return the claims that were measured, with their verdicts."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title, share in (("claim", 5), ("paper", 4), ("here, 95 % interval", 3), ("verdict", 3)):
        table.add_column(title, overflow="fold", ratio=share)
    for claim in summary.card.tested:
        verdict = summary.verdicts[claim.name]
        if verdict.word == "not measured":
            continue
        table.add_row(
            claim.says,
            f"{claim.paper.value} ({claim.paper.source})",
            here_text(claim, verdict, summary),
            verdict_text(verdict),
        )
    return table


def verdict_text(verdict: Verdict) -> Text:
    """Return the verdict as sign and words; colour only repeats them."""
    text = Text(f"{SIGNS[verdict.word]} {verdict.word}", style=STYLES[verdict.word])
    if verdict.adjusted is not None:
        text += Text(f" ({verdict.adjusted} after Holm)", style="dim")
    if verdict.notes:
        text += Text(f", {'; '.join(verdict.notes)}", style="dim")
    return text


def print_summary(console: Console, summary: PaperSummary) -> None:
    """Print the arms, the claims and what was found."""
    console.print(header(summary.card))
    for trial in summary.trials.values():
        console.print(Padding(arms_table(trial), (0, 0, 1, 2)))
        if trial.busy:
            console.print(
                "  the machine was busy while this was timed: repeat it on a quiet one", style="yellow"
            )
        for job, reason in trial.unsaved.items():
            console.print(
                f"  {job} could not be written ({reason}): its numbers are in this table only", style="red"
            )
        for failure in trial.failures:
            console.print(f"  {failure.arm} seed {failure.seed} failed: {failure.error}", style="red")
    console.print(Padding(claims_table(summary), (0, 0, 0, 2)))
    _print_untested(console, summary)
    if summary.card.findings:
        count = len(summary.card.findings)
        things = "1 thing" if count == 1 else f"{count} things"
        console.print(f"  found: {things} to know (papertrial papers {summary.card.name})")


def _print_untested(console: Console, summary: PaperSummary) -> None:
    """Name the claims that cannot be tested here, and how many belong to trials that were not run."""
    for claim in summary.card.claims:
        if claim.untested is not None:
            text = Text.assemble(
                f"{SIGNS['untested']} untested here: {claim.says} ", (f"({claim.untested})", "dim")
            )
            console.print(Padding(text, (0, 0, 0, 2)))
            if claim.command:
                console.print(Text(f"      {claim.command}", style="dim"), soft_wrap=True)
    others = sum(verdict.word == "not measured" for verdict in summary.verdicts.values())
    if others:
        console.print(
            f"  {SIGNS['not measured']} {others} more to measure: papertrial try {summary.card.name}"
        )


def here_text(claim: Claim, verdict: Verdict, summary: PaperSummary) -> str:
    """Say what was found about a claim here, with its interval."""
    if verdict.estimate is None or claim.relation is None:
        return ""
    quantity = claim.relation.quantity
    trial = summary.trials[claim.trial or ""]
    unit = trial.metrics[claim.metric or ""].unit if quantity != "ratio" else ""
    suffix = "x" if quantity == "ratio" else f" {unit}" if unit and unit != "bytes" else ""
    signed = quantity == "difference"
    point = number(verdict.estimate, unit, signed) + suffix
    if verdict.low == verdict.high:
        return point
    return f"{point} {span(verdict.low, verdict.high, unit, signed)}"


def _spread(trial: TrialSummary, metrics: Mapping[str, Any], name: str) -> str:
    spread, unit = metrics[name], trial.metrics[name].unit
    if spread.width is None or spread.width == 0 or trial.metrics[name].kind == "exact":
        return number(spread.centre, unit)
    return f"{number(spread.centre, unit)} ± {number(spread.width, unit)}"


def point_text(point: Mapping[str, Any]) -> str:
    """Say a tuned point."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in point.items()
    )
