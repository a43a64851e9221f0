"""Numbers in words: "twenty-one", "twice", "third", "두 배"."""

from __future__ import annotations

import re

from papertrial.digest.grounding import units
from papertrial.digest.grounding.number import Number
from papertrial.digest.grounding.units import PLAIN, TIMES

_ENGLISH_WORDS = re.compile(
    rf"(?<![\w-])(?:(?P<tens>{'|'.join(word for word in units.WORDS if word.endswith('ty'))})-"
    rf"(?P<ones>two|three|four|five|six|seven|eight|nine|one)|(?P<word>{'|'.join(units.WORDS)})"
    rf"|(?P<multiplier>{'|'.join(units.MULTIPLIERS)})|(?P<ordinal>{'|'.join(units.ORDINAL_WORDS)}))"
    r"(?P<fold>[- ]?fold|\s+times)?(?![A-Za-z])",
    re.I,
)
_COUNTERS = "가지|개|단계|번|배|명|편|종|차례|곳|장|쪽|축|층|부분|시간|달|갈래"
_KOREAN_WORDS = re.compile(
    rf"(?<![가-힣])(?P<word>{'|'.join(units.KOREAN_WORDS)})\s?(?P<counter>{_COUNTERS})"
)


def spelled_numbers(masked: str, text: str, hangul: bool) -> list[Number]:
    """Return the numbers in words, English ones and, with `hangul`, Korean ones before a counter.

    Args:
        masked: the text with all that is no measurement blanked out.
        text: the text itself, as long.
        hangul: whether Korean number words are looked for.
    """
    found = []
    for word in _ENGLISH_WORDS.finditer(masked):
        if number := _english_word(word, text):
            found.append(number)
    if hangul:
        for word in _KOREAN_WORDS.finditer(masked):
            unit = {"배": TIMES, "시간": units.SECONDS}.get(word["counter"], PLAIN)
            end = word.end() if unit else word.end("word")
            factor = 3600.0 if unit == units.SECONDS else 1.0
            found.append(
                _word_number(text, word.start(), end, units.KOREAN_WORDS[word["word"]], unit, factor)
            )
    return found


def _english_word(word: re.Match[str], text: str) -> Number | None:
    start, end = word.span()
    if word["multiplier"]:
        return _word_number(text, start, end, units.MULTIPLIERS[word["multiplier"].lower()], TIMES)
    if word["ordinal"]:
        if word["fold"] or re.match(r"\s*,", text[end : end + 4]):  # "First, we ..." counts nothing
            return None
        if word["ordinal"].lower() == "second" and re.search(
            r"\b(?:per|a|each|one)\s$", text[max(0, start - 6) : start]
        ):
            return None
        return _word_number(text, start, end, units.ORDINAL_WORDS[word["ordinal"].lower()], units.ORDINAL)
    ones = 1 if (word["ones"] or "").lower() == "one" else units.WORDS.get((word["ones"] or "").lower(), 0)
    value = units.WORDS[(word["tens"] or word["word"]).lower()] + ones
    if word["fold"]:
        return _word_number(text, start, end, value, TIMES)
    unit = units.unit_after(text, end) if text[end : end + 1] in " -" else None
    if unit is None:
        factor, scale_end = units.scale_after(text, end)
        return _word_number(text, start, scale_end, value, PLAIN, factor)
    return _word_number(text, start, unit.end, value, unit.name, unit.factor)


def _word_number(text: str, start: int, end: int, value: float, unit: str, factor: float = 1.0) -> Number:
    return Number(text[start:end], start, end, value * factor, unit, factor, len(f"{value:g}"), spelled=True)
