"""What a number is: its value, its unit and how precisely it is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """One number of a text.

    Attributes:
        text: as written, with its unit; it stands between `start` and `end`.
        value: in the unit's own unit: seconds for a time, bytes for a size; 15 for 15 %.
        unit: "" (plain), "%", "pp", "x", "s", "B" (bytes), "ordinal" or another name.
        precision: the worth of the last written digit, after scale word and unit: 1e9 for "7B".
        significant: how many significant digits are written.
        bound: "lower" where the text says that the value is a lower bound ("61K+", "more than 90 %").
        loose: whether the text says "about": trailing zeros then are no digits.
        spelled: whether it is written in words.
        scaled: whether a scale letter or word is written ("7B", "61K", "1만").
    """

    text: str
    start: int
    end: int
    value: float
    unit: str
    precision: float
    significant: int
    bound: str = ""
    loose: bool = False
    spelled: bool = False
    scaled: bool = False
