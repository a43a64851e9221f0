"""How numbers are printed, everywhere the same."""

from __future__ import annotations

import math

_THIN_SPACE = "\u202f"
_BYTES = ("B", "kB", "MB", "GB", "TB")


def number(value: float | None, unit: str = "", signed: bool = False) -> str:
    """Return a number with four significant digits; bytes in the unit that keeps it short.

    Args:
        value: the number, or None where there is none.
        unit: the metric's unit; only "bytes" changes how the number is written.
        signed: whether to print a plus sign.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    if unit == "bytes":
        return _bytes(value, signed)
    sign = "+" if signed and value > 0 else ""
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        text = f"{value:.3g}"
    elif value == int(value) and size < 1e6:
        text = f"{int(value):,}".replace(",", _THIN_SPACE)
    else:
        text = f"{value:.{max(0, 3 - math.floor(math.log10(size)))}f}" if size >= 1 else f"{value:.3f}"
    return (sign + text).replace("-", "−")


def span(low: float | None, high: float | None, unit: str = "", signed: bool = False) -> str:
    """Return an interval as `[low, high]`."""
    return f"[{number(low, unit, signed)}, {number(high, unit, signed)}]"


def duration(seconds: float) -> str:
    """Return a duration as people say it: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 4 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _bytes(value: float, signed: bool) -> str:
    size, index = abs(value), 0
    while size >= 1000 and index < len(_BYTES) - 1:
        size /= 1000
        index += 1
    sign = "−" if value < 0 else "+" if signed else ""
    return f"{sign}{size:.3g} {_BYTES[index]}"
