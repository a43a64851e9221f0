"""Axes drawn as small SVG: attributes only, so that a strict Content-Security-Policy lets it through.

Text and lines take their colour from the page (`currentColor`), marks have one of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import escape

WIDTH = 480.0
FONT = 13
_LETTER = 6.9  # mean advance of system-ui at 13 px; labels only need room, not precision
_TOP, _BOTTOM = 8.0, 42.0
_EQUAL = 1e-9  # relative distance below which two values cannot be told apart on an axis
_NOTHING = 1e-290  # a distance below which the arithmetic of an axis would leave the normal floats


class Scale:
    """Maps values to places, linearly or by their logarithm.

    Args:
        low, high: the values at the two ends; they may be equal.
        start, end: the places of the two ends.
        log: by the logarithm; both ends must be positive.
    """

    def __init__(self, low: float, high: float, start: float, end: float, log: bool = False) -> None:
        if high - low <= max(_EQUAL * max(abs(low), abs(high)), _NOTHING):
            reach = abs(low) * 0.5 if abs(low) > _NOTHING else 1.0
            low, high = (low / 2, high * 2) if log else (low - reach, high + reach)
        self.low, self.high, self._start, self._end, self._log = low, high, start, end, log

    def __call__(self, value: float) -> float:
        """Return the place of a value; values outside lie outside."""
        low, high = self.low, self.high
        if self._log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-300))
        return self._start + (value - low) / (high - low) * (self._end - self._start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values between the ends, at most `most` (powers of ten where logarithmic)."""
        if self._log:
            exponents = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            stride = max(1, math.ceil(len(exponents) / most))
            found = [10.0**exponent for exponent in exponents[::stride]]
            return found if len(found) >= 2 else [self.low, self.high]
        raw = (self.high - self.low) / most
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [float(f"{at * step:.12g}") for at in range(first, last + 1)]


def text_width(text: str) -> float:
    """Return about how wide a label is; letters of East Asian scripts are twice as wide."""
    return sum(_LETTER * (2 if ord(sign) > 0x1100 else 1) for sign in text)


def label(text: str, x: float, y: float, anchor: str = "start", colour: str = "currentColor") -> str:
    """Return a text at a place; the text is escaped."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    paint = "" if colour == "currentColor" else f' fill="{colour}"'
    return f'<text x="{_short(x)}" y="{_short(y)}"{where}{paint}>{escape(text)}</text>'


def path(points: Sequence[tuple[float, float]], closed: bool = False) -> str:
    """Return the `d` of a path through points; a point that is not finite breaks the line."""
    parts, drawing = [], False
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{_short(x)} {_short(y)}")
        drawing = True
    return "".join(parts) + ("Z" if closed and parts else "")


def picture(
    body: Sequence[str],
    height: float,
    says: str,
    across: tuple[Scale, str, Callable[[float], str]],
    left: float,
    right: float,
    up: tuple[Scale, Callable[[float], str]] | None = None,
) -> str:
    """Return a whole picture: grid, axes, marks.

    Args:
        body: the marks.
        height: of the whole picture.
        says: what a reader who cannot see it hears.
        across: the horizontal scale, what it counts, how its ticks are written.
        left: where the plot begins.
        right: where it ends.
        up: the vertical scale and how its ticks are written; None where rows have names instead.
    """
    scale, title, write = across
    floor = height - _BOTTOM
    grid, words = [], []
    for value in scale.ticks():
        x = scale(value)
        grid.append(f"M{_short(x)} {_TOP}V{_short(floor)}")
        words.append(label(write(value), x, floor + 16, "middle"))
    if up is not None:
        for value in up[0].ticks(5):
            y = up[0](value)
            grid.append(f"M{_short(left)} {_short(y)}H{_short(right)}")
            words.append(label(up[1](value), left - 6, y + 4.5, "end"))
    words.append(label(title, (left + right) / 2, height - 5, "middle"))
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {_short(height)}" role="img" aria-label="{escape(says)}" '
        f'font-family="system-ui, sans-serif" font-size="{FONT}" fill="currentColor">'
        f'<path d="{"".join(grid)}" stroke="currentColor" stroke-opacity=".13"/>'
        f'<path d="M{_short(left)} {_TOP}V{_short(floor)}H{_short(right)}" fill="none" stroke="currentColor" '
        f'stroke-opacity=".6"/>{"".join(words)}{"".join(body)}</svg>'
    )


def plot_floor(height: float) -> tuple[float, float]:
    """Return the places of the plot's lower and upper edge in a picture of that height."""
    return height - _BOTTOM, _TOP


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
