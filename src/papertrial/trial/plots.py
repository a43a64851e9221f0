"""The pictures of reports and pages: small SVG that takes its text colour from the page, one colour an arm."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import escape

from papertrial.trial.contract import Metric
from papertrial.trial.evidence import Curve
from papertrial.trial.formats import number
from papertrial.trial.summary import TrialSummary
from papertrial.trial.svg import WIDTH, Scale, label, path, picture, plot_floor, text_width

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Okabe and Ito's colours, safe for the colour-blind: without yellow, which white swallows, and with the blue
# lightened until it stands on black too; then four of Paul Tol's muted ones.
PALETTE: tuple[str, ...] = (
    *("#3A87C8", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6FD1", "#7A7A7A"),
    *("#44AA99", "#AA4466", "#999933", "#B07AA1"),
)
_SMOOTHED_TO = 40  # about as many independent points as a curve can show without turning into noise
_DRAWN = 80  # points of a line: more would not be seen at this width
_LONGEST_NAME = 24
_DASHES = ' stroke-dasharray="6 4"'
_NARROWEST = 270.0  # of the plot itself: names and labels get what is left
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
    curves = {
        arm.arm: [values[name] for values in trial.curves.get(arm.arm, {}).values() if name in values]
        for arm in trial.arms
    }
    return curves_picture(name, curves)


def curves_picture(
    name: str,
    curves: Mapping[str, Sequence[Curve]],
    colours: Mapping[str, str] | None = None,
    dashed: Collection[str] = (),
) -> str:
    """Draw one value over the steps for every arm: the mean of its curves, and their range as a band.

    Args:
        name: what the value is.
        curves: for each arm, one curve a seed; arms without curves keep their colour for other plots.
        colours: of each arm; as in all plots of a trial where None.
        dashed: the arms whose lines are dashed.
    """
    import numpy as np

    colours = arm_colours(list(curves)) if colours is None else colours
    drawn, window = {}, 1
    for arm, seeds in curves.items():
        if not seeds:
            continue
        grid = np.unique(np.concatenate([np.asarray(steps, dtype=float) for steps, _ in seeds]))
        # a seed that is still running counts as far as it is
        rows = np.stack([np.interp(grid, steps, numbers, right=math.nan) for steps, numbers in seeds])
        window = max(1, len(grid) // _SMOOTHED_TO)
        grid, rows = grid[window - 1 :], _moving_mean(rows, window)
        kept = np.unique(np.linspace(0, len(grid) - 1, min(_DRAWN, len(grid))).round().astype(int))
        drawn[arm] = (grid[kept], rows[:, kept])
    if not drawn:
        return ""
    return _draw_curves(name, drawn, colours, dashed, window)


def _draw_curves(
    name: str,
    drawn: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    colours: Mapping[str, str],
    dashed: Collection[str],
    window: int,
) -> str:
    import numpy as np

    height = 250.0
    floor, top = plot_floor(height)
    low, high = _reach([np.nanmean(rows, axis=0) for _, rows in drawn.values()])
    right = WIDTH - 10 - max(text_width(_cut(arm)) for arm in drawn)
    up = Scale(low, high, floor, top)
    left = 14 + max(text_width(_tick(value)) for value in up.ticks(5))
    first = min(float(grid[0]) for grid, _ in drawn.values())
    last = max(float(grid[-1]) for grid, _ in drawn.values())
    across = Scale(first, last, left, right)
    body, ends = [], []
    for arm, (grid, rows) in drawn.items():
        xs = [across(float(value)) for value in grid]
        mean = np.nanmean(rows, axis=0)
        if len(rows) > 1:
            lower = [_within(up(float(value)), top, floor) for value in np.nanmin(rows, axis=0)]
            upper = [_within(up(float(value)), top, floor) for value in np.nanmax(rows, axis=0)]
            band = [*zip(xs, upper, strict=True), *reversed(list(zip(xs, lower, strict=True)))]
            body.append(f'<path d="{path(band, closed=True)}" fill="{colours[arm]}" fill-opacity=".18"/>')
        line = [(x, _within(up(float(value)), top, floor)) for x, value in zip(xs, mean, strict=True)]
        body.append(
            f'<path d="{path(line)}" fill="none" stroke="{colours[arm]}" stroke-width="2" '
            f'stroke-linejoin="round"{_DASHES if arm in dashed else ""}/>'
        )
        if math.isfinite(mean[-1]):
            ends.append((float(mean[-1]), line[-1][1], arm))
    body += _end_labels(ends, colours, right + 6, top)
    told = ", ".join(f"{arm} ends at {number(value)}" for value, _, arm in ends)
    smoothed = f", mean of {window} points" if window > 1 else ""
    return picture(
        body,
        height,
        f"{name} over the steps, one line for each arm: {told}",
        (across, f"{name} over the steps{smoothed}", _tick),
        left,
        right,
        (up, _tick),
    )


def metric_figure(trial: TrialSummary, name: str, metric: Metric) -> str:
    """Draw one metric: a dot for each seed and a bar at the centre, one row for each arm."""
    arms = [arm for arm in trial.arms if math.isfinite(arm.metrics[name].centre)]
    rows = {arm.arm: [one.metrics[name] for one in trial.measurements if one.arm == arm.arm] for arm in arms}
    values = [value for row in rows.values() for value in row if math.isfinite(value)]
    log = bool(values) and min(values) > 0 and max(values) / min(values) > 50
    height = 56.0 + 24 * len(arms)
    left = min(18 + max(text_width(_cut(arm)) for arm in rows), WIDTH - _NARROWEST)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = (high - low) * 0.03
    ends = (low, high) if log else (low - margin, high + margin)
    right = (
        WIDTH
        - 6
        - max(text_width(_tick(value, metric.unit)) for value in Scale(*ends, 0, 1, log).ticks()) / 2
    )
    across = Scale(*ends, left, right, log)
    colours = arm_colours([arm.arm for arm in trial.arms])
    body = []
    for at, arm in enumerate(arms):
        y = 8 + 24 * (at + 0.5)
        body.append(label(_cut(arm.arm), left - 8, y + 4.5, "end"))
        dots = "".join(
            f"M{across(value) - 4:.1f} {y:g}a4 4 0 1 0 8 0a4 4 0 1 0-8 0"
            for value in rows[arm.arm]
            if math.isfinite(value)
        )
        centre = across(arm.metrics[name].centre)
        body.append(f'<path d="{dots}" fill="{colours[arm.arm]}" fill-opacity=".6"/>')
        body.append(f'<path d="M{centre:.1f} {y - 9:g}v18" stroke="{colours[arm.arm]}" stroke-width="2.5"/>')
    unit = f" ({metric.unit})" if metric.unit and metric.unit not in name and metric.unit != "bytes" else ""
    told = ", ".join(f"{arm.arm} {number(arm.metrics[name].centre, metric.unit)}" for arm in arms)
    return picture(
        body,
        height,
        f"{name} of every arm: {told}",
        (across, f"{name}{unit}, {metric.better} is better", lambda value: _tick(value, metric.unit)),
        left,
        right,
    )


def interval_figure(
    estimate: float, low: float, high: float, threshold: float, operator: str, says: str
) -> str:
    """Draw an interval against its threshold; to the right of the middle the claim holds, in every row.

    The threshold's line and the half in which the claim holds are the stylesheet's (`.interval`).

    Args:
        estimate: the point; ratios come as their logarithms, as do the other three numbers.
        low: the interval's lower end.
        high: the interval's upper end.
        threshold: what the claim asks for.
        operator: on which side of the threshold the claim holds.
        says: what a reader who cannot see it hears.
    """
    sign = 1.0 if operator.startswith(">") else -1.0
    points = [sign * (value - threshold) for value in (estimate, low, high)]
    reach = max((abs(point) for point in points if math.isfinite(point)), default=0.0) * 1.15 or 1.0
    middle = (_LEFT + _RIGHT) / 2
    dot, one, other = (
        _within(middle + point / reach * (_RIGHT - _LEFT) / 2, _LEFT, _RIGHT) for point in points
    )
    return (
        f'<svg class="interval" viewBox="0 0 200 22" role="img" aria-label="{escape(says)}">'
        f'<path d="M{min(one, other):.0f} 11H{max(one, other):.0f}"/><circle cx="{dot:.0f}" cy="11" r="4"/></svg>'
    )


def _moving_mean(rows: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean over the last `window` points of every row (rows, points)."""
    import numpy as np

    sums = np.cumsum(np.pad(rows, ((0, 0), (1, 0))), axis=1)
    return np.asarray((sums[:, window:] - sums[:, :-window]) / window)


def _reach(means: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the values between which to draw; a diverged arm's peak stays outside the picture."""
    import numpy as np

    values = np.concatenate(means)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    usual = float(np.quantile(values, 0.98))
    if values.size >= 8 and high > usual + 2 * (usual - low):
        return low - 0.05 * (usual - low), usual + 0.15 * (usual - low)
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _end_labels(
    ends: Sequence[tuple[float, float, str]], colours: Mapping[str, str], x: float, top: float
) -> list[str]:
    """Write each arm's name at the end of its line, moved apart where they would overlap."""
    labels, ceiling = [], math.inf
    for _, y, arm in sorted(ends, key=lambda end: -end[1]):
        ceiling = min(y, ceiling - 15)
        labels.append(label(_cut(arm), x, max(ceiling, top - 4) + 4.5, colour=colours[arm]))
    return labels


def _within(value: float, least: float, most: float) -> float:
    return value if math.isnan(value) else min(most, max(least, value))


def _tick(value: float, unit: str = "") -> str:
    """Write a round number as short as it is."""
    return number(value, unit) if unit == "bytes" else f"{value:.6g}".replace("-", "−")


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
