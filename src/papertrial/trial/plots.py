"""The report's pictures: SVG that takes its text colour from the page, one colour for each arm."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from papertrial.trial.contract import Metric
from papertrial.trial.formats import number
from papertrial.trial.summary import TrialSummary

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# Okabe and Ito's colours, safe for the colour-blind: without yellow, which white swallows, and with the blue
# lightened until it stands on black too; then four of Paul Tol's muted ones.
PALETTE: tuple[str, ...] = (
    *("#3A87C8", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6FD1", "#7A7A7A"),
    *("#44AA99", "#AA4466", "#999933", "#B07AA1"),
)
_INK = "#010203"  # replaced by currentColor, so that the page's theme decides
_SMOOTHED_TO = 40  # about as many independent points as a curve can show without turning into noise
_LEFT, _RIGHT = 8.0, 192.0


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """Return each arm's colour, the same in every plot of a trial."""
    return {arm: PALETTE[at % len(PALETTE)] for at, arm in enumerate(arms)}


def curve_names(trial: TrialSummary) -> list[str]:
    """Return the names of all curves, the trial's main one first."""
    names = dict.fromkeys(
        name for seeds in trial.curves.values() for values in seeds.values() for name in values
    )
    return sorted(names, key=lambda name: (name != trial.curve, name))


def curve_figure(trial: TrialSummary, name: str) -> str:
    """Draw one value over the steps, the mean over seeds as a line and their range as a band."""
    import numpy as np

    figure, axes = _figure(height=3.4)
    colours = arm_colours([arm.arm for arm in trial.arms])
    ends, smoothed = [], ""
    for arm in colours:
        curves = [values[name] for values in trial.curves.get(arm, {}).values() if name in values]
        if not curves:
            continue
        grid = np.unique(np.concatenate([np.asarray(steps, dtype=float) for steps, _ in curves]))
        rows = np.stack([np.interp(grid, steps, numbers) for steps, numbers in curves])
        window = max(1, len(grid) // _SMOOTHED_TO)
        grid, rows = grid[window - 1 :], _moving_mean(rows, window)
        smoothed = f", mean of {window} points" if window > 1 else ""
        mean = rows.mean(axis=0)
        axes.plot(grid, mean, color=colours[arm], linewidth=1.6, label=arm)
        axes.fill_between(
            grid, rows.min(axis=0), rows.max(axis=0), color=colours[arm], alpha=0.18, linewidth=0
        )
        if math.isfinite(mean[-1]):
            ends.append((float(grid[-1]), float(mean[-1]), arm, colours[arm]))
    axes.set_xlabel("step")
    axes.set_ylabel(f"{name}{smoothed}")
    _cut_outliers(axes)
    _label_ends(axes, ends)
    arms = ", ".join(f"{arm} ends at {number(value)}" for _, value, arm, _ in ends)
    return _svg(figure, f"{name} over the steps, one line for each arm: {arms}")


def metric_figure(trial: TrialSummary, name: str, metric: Metric) -> str:
    """Draw one metric: a dot for each seed and a bar at the centre, one row for each arm."""
    arms = [arm for arm in trial.arms if math.isfinite(arm.metrics[name].centre)]
    figure, axes = _figure(height=0.75 + 0.3 * len(arms))
    colours = arm_colours([arm.arm for arm in trial.arms])
    for row, arm in enumerate(arms):
        values = [one.metrics[name] for one in trial.measurements if one.arm == arm.arm]
        axes.plot(values, [row] * len(values), "o", color=colours[arm.arm], markersize=4.5, alpha=0.7)
        axes.plot([arm.metrics[name].centre] * 2, [row - 0.3, row + 0.3], color=colours[arm.arm], linewidth=2)
    axes.set_yticks(range(len(arms)), [arm.arm for arm in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    unit = f" ({metric.unit})" if metric.unit and metric.unit not in name else ""
    axes.set_xlabel(f"{name}{unit}, {metric.better} is better")
    values = [one.metrics[name] for one in trial.measurements if math.isfinite(one.metrics[name])]
    if values and min(values) > 0 and max(values) / min(values) > 50:
        axes.set_xscale("log")
    if metric.unit == "bytes":
        axes.xaxis.set_major_formatter(lambda value, _: number(value, "bytes"))
    told = ", ".join(f"{arm.arm} {number(arm.metrics[name].centre, metric.unit)}" for arm in arms)
    return _svg(figure, f"{name} of every arm: {told}")


def interval_figure(estimate: float, low: float, high: float, threshold: float, operator: str) -> str:
    """Draw an interval against its threshold; to the right of the line the claim holds, in every row alike."""
    sign = 1.0 if operator.startswith(">") else -1.0
    points = [sign * (value - threshold) for value in (estimate, low, high)]
    reach = max((abs(point) for point in points if math.isfinite(point)), default=0.0) * 1.15 or 1.0
    middle = (_LEFT + _RIGHT) / 2

    def place(value: float) -> float:
        return min(_RIGHT, max(_LEFT, middle + value / reach * (_RIGHT - _LEFT) / 2))

    dot, one, other = (place(point) for point in points)
    return (
        f'<svg class="interval" viewBox="0 0 200 22" role="img" aria-label="estimate {number(estimate)}, '
        f'interval {number(low)} to {number(high)}, threshold {number(threshold)}">'
        f'<rect x="{middle}" y="1" width="{_RIGHT - middle + 8}" height="20" class="good"/>'
        f'<line x1="{middle}" x2="{middle}" y1="1" y2="21" class="threshold"/>'
        f'<line x1="{min(one, other):.1f}" x2="{max(one, other):.1f}" y1="11" y2="11" class="span"/>'
        f'<circle cx="{dot:.1f}" cy="11" r="4" class="dot"/></svg>'
    )


def _moving_mean(rows: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean over the last `window` points of every row (rows, points)."""
    import numpy as np

    sums = np.cumsum(np.pad(rows, ((0, 0), (1, 0))), axis=1)
    return np.asarray((sums[:, window:] - sums[:, :-window]) / window)


def _figure(height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=True, color=_INK, alpha=0.12, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    return figure, axes


def _cut_outliers(axes: Axes) -> None:
    """Leave a diverged arm's peak outside the picture, so that the others can be told apart."""
    import numpy as np

    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    values = np.concatenate(lines) if lines else np.empty(0)
    values = values[np.isfinite(values)]
    if values.size < 8:
        return
    low, high = float(values.min()), float(np.quantile(values, 0.98))
    if values.max() > high + 2 * (high - low):
        axes.set_ylim(low - 0.05 * (high - low), high + 0.15 * (high - low))


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each arm's name at the end of its line, moved apart where they would overlap."""
    bottom, top = axes.get_ylim()
    gap = (top - bottom) * 0.062
    floor = -math.inf
    for right, value, arm, colour in sorted(ends, key=lambda end: end[1]):
        floor = max(value, floor + gap)
        axes.annotate(
            arm,
            (right, floor),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            va="center",
            annotation_clip=False,
        )


def _svg(figure: Figure, says: str) -> str:
    import matplotlib as mpl
    from markupsafe import escape

    buffer = io.StringIO()
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": says,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
    }
    with mpl.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"font: ([\d.]+px) 'DejaVu Sans'[^;\"]*", r"font: \1 system-ui, sans-serif", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg [^>]*?height="[^"]*"[^>]*?width="[^"]*"', _without_size, text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(says)}" ', 1)


def _without_size(found: re.Match[str]) -> str:
    return re.sub(r' (?:width|height)="[^"]*"', "", found[0])
