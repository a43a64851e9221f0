"""Placeholders that stand for a text's numbers and names while the rest of it is translated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from papertrial.digest.grounding.number import Number
from papertrial.digest.grounding.numbers import extract_numbers
from papertrial.digest.grounding.tables import proper_names
from papertrial.digest.grounding.units import PERCENT, POINTS, TIMES
from papertrial.digest.particles import particle, particle_at

PLACEHOLDER = re.compile(r"⟦n(\d+)⟧")
"""The mark of one piece; its number counts from 1."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[.+-]?[A-Za-z0-9]+)*")


@dataclass(frozen=True)
class Piece:
    """What one placeholder stands for, and where that was in the source.

    `text` is as the source writes it; the first number of a range has the unit that the source writes only once.
    """

    text: str
    start: int
    end: int
    number: Number | None = None


def hold_pieces(text: str, lang: str) -> list[Piece]:
    """Return the numbers and names of a text, in order, none inside another.

    A run of letters and digits that holds a number ("8xA100-80GB") is held whole as a name.
    """
    numbers = extract_numbers(text, lang)
    names = proper_names(text)
    pieces = [
        Piece(_with_unit(one, after, lang), one.start, one.end, one)
        for one, after in zip_longest(numbers, numbers[1:])
        if one is not None
    ]
    for found in _NAME.finditer(text):
        if found[0].lower() not in names and not re.fullmatch(r"[A-Z]{2,}s?", found[0]):
            continue
        if not any(piece.start < found.end() and found.start() < piece.end for piece in pieces):
            pieces.append(Piece(found[0], found.start(), found.end()))
    return _with_bare_digits(text, sorted(pieces, key=lambda piece: piece.start))


def _with_unit(number: Number, after: Number | None, lang: str) -> str:
    """Return a number as it is written, with the unit of the next one where it shares that ("12" of "12–15%")."""
    alone = extract_numbers(number.text, lang)
    if after is None or not alone or (alone[0].unit == number.unit and alone[0].scaled == number.scaled):
        return number.text
    return number.text + re.sub(r"^[-−–$]?[\d.,]*\d", "", after.text)


def _with_bare_digits(text: str, pieces: list[Piece]) -> list[Piece]:
    """Add the digits that are neither: a version after a family's name, a list marker, a year."""
    held = list(pieces)
    for found in re.finditer(r"\d[\d.,:/-]*\d|\d", text):
        if not any(piece.start < found.end() and found.start() < piece.end for piece in held):
            held.append(Piece(found[0], found.start(), found.end()))
    return sorted(held, key=lambda piece: piece.start)


def with_placeholders(text: str, pieces: Sequence[Piece]) -> str:
    """Return the text with its pieces replaced by ⟦n1⟧, ⟦n2⟧, … in order."""
    out, edge = [], 0
    for count, piece in enumerate(pieces, start=1):
        out += [text[edge : piece.start], f"⟦n{count}⟧"]
        edge = piece.end
    return "".join([*out, text[edge:]])


_KOREAN_UNITS = (
    (re.compile(r"[ -]?(?:percentage[- ]points?|%[ -]?points?|points?|pts?)$"), POINTS, "%p"),
    (re.compile(r"\s?percent$"), PERCENT, "%"),
    (re.compile(r"[ -]?(?:times|folds?|[xX×])$"), TIMES, "배"),
    (re.compile(r"[ -]?(?:milliseconds?)$"), "s", "밀리초"),
    (re.compile(r"[ -]?(?:seconds?|secs?)$"), "s", "초"),
    (re.compile(r"[ -]?(?:minutes?|mins?)$"), "s", "분"),
    (re.compile(r"[ -]?(?:hours?|hrs?)$"), "s", "시간"),
    (re.compile(r"[ -]?bits?$"), "bit", "비트"),
)


def spoken(piece: Piece, lang: str) -> str:
    """Return a piece as the other language writes it: its digits as they are, in Korean with Korean units.

    Number words become digits, since a word of one language is none in another.
    """
    number = piece.number
    if number is None:
        return piece.text
    if number.spelled:
        suffix = {TIMES: "배" if lang == "ko" else "x", "ordinal": "번째" if lang == "ko" else "."}.get(
            number.unit
        )
        if suffix is not None:
            return f"{number.value:g}{suffix}"
        text = re.sub(r"^[A-Za-z-]+?(?=[ -]|$)", "", piece.text, count=1)
        text = f"{number.value / _worth(number):g}{text if number.unit else ''}"
    else:
        text = piece.text
    if lang != "ko":
        return text
    for pattern, unit, korean in _KOREAN_UNITS:
        if number.unit == unit and pattern.search(text):
            return pattern.sub(korean, text)
    return text


def _worth(number: Number) -> float:
    return number.precision if number.unit else 1.0


def put_back(text: str, pieces: Sequence[Piece], lang: str) -> tuple[str, list[tuple[int, int]]]:
    """Return a translated text with its pieces back, and where each piece now stands, in the order of the pieces.

    In Korean the particle behind a piece takes the form that the piece's sound asks for.
    """
    out, length, edge = [], 0, 0
    places: list[tuple[int, int]] = [(0, 0)] * len(pieces)
    for found in PLACEHOLDER.finditer(text):
        at = int(found[1]) - 1
        written = spoken(pieces[at], lang)
        between = text[edge : found.start()]
        length += len(between)
        places[at] = (length, length + len(written))
        out += [between, written]
        length += len(written)
        edge = found.end()
        if lang == "ko" and (following := particle_at(text, edge)):
            out.append(particle(written, following[0]))
            length += len(out[-1])
            edge = following[1]
    return "".join([*out, text[edge:]]), places


def without_names(text: str, places: Sequence[tuple[int, int]], pieces: Sequence[Piece]) -> str:
    """Return a text with the pieces that are no numbers blanked out."""
    blanked = list(text)
    for piece, (start, end) in zip(pieces, places, strict=True):
        if piece.number is None:
            blanked[start:end] = "\x00" * (end - start)
    return "".join(blanked)
