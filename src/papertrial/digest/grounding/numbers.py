"""Numbers in prose and tables, in English and Korean, normalised to value, unit and precision."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from papertrial.digest.grounding import units
from papertrial.digest.grounding.masks import mask
from papertrial.digest.grounding.number import Number
from papertrial.digest.grounding.spelled import spelled_numbers
from papertrial.digest.grounding.units import PERCENT, PLAIN, TIMES

_HAS_HANGUL = re.compile(r"[가-힣]")
_CORE = re.compile(
    r"\d{1,3}(?:(?:,|\{,\}|[\u2009\u202f])\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<![\w.])\.\d+"
)
_EXPONENT = re.compile(r"[eE]([-+−]?\d{1,3})(?![A-Za-z0-9]|\.\d)")
_TIMES_TEN = re.compile(  # PDF readers lose the caret: "10-3"
    r"\s?(?:×|x|\\times|·|\*)\s?10"
    r"(?:\^\{?\s?([-−+]?\d{1,3})\}?|([-−]\d{1,2})|([⁻⁺]?[⁰¹²³⁴-⁹]+))(?![\d.]\d|\d)"
)
_POWER = re.compile(r"\^\{?([-−+]?\d{1,3})\}?(?!\.?\d)|([⁻⁺]?[⁰¹²³⁴-⁹]+)")
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺−", "0123456789-+-")
_LONGEST_NAME = 64
_MOST_DIGITS, _LARGEST_POWER = 30, 99
_IN_RUN = re.compile(r"[A-Za-z0-9._^@-]|(?<=[A-Za-z])/(?=\d)")
_DIMENSION_PREFIX = re.compile(r"^(?:\d+(?:\.\d+)?[xX])+(?=[A-Za-z0-9])")
_LOOSE = re.compile(
    r"(?:~|≈|∼|\\sim|\babout|\baround|\bapproximately|\broughly|\bnearly|\balmost|약)\s*\$?$", re.I
)
_LOWER = re.compile(
    r"(?:\bmore than|\bat least|\bover|\babove|\bexceeding|\bexceeds|\bsurpassing|[>≥])\s*$", re.I
)
_FACTOR_BEFORE = re.compile(
    r"(?:\bfactors? of|\bspeed-?ups? of(?: up to| about)?|\bratios? of)\s*(?:about |~)?$", re.I
)
_RANGE = re.compile(r"\s?(?:[-–—~±]|\\pm|\+/-|to|and)\s?")
_BETWEEN = re.compile(r"(?:\bbetween|\bfrom)\s*$", re.I)


def extract_numbers(text: str, lang: str = "en", names: Iterable[str] = ()) -> list[Number]:
    """Return the numbers of a text in order, leaving out those that measure nothing.

    Left out are numbers inside names ("Qwen2.5-72B", "AIME2024"), after a model family ("Llama 3.1"), years,
    dates, versions, citations, numbers of tables and figures, and list markers. A range gives two numbers of
    one unit, "512x512" two plain ones. Number words up to ninety, ordinals, "twice" and the like count; "one"
    does not. Korean numerals and units ("1만 5천", "두 배", "3점", "2%포인트") are read in every language,
    number words before a counter only where the text has Hangul.

    Args:
        text: prose or tables.
        lang: the text's language; "ko" also reads Korean number words where no Hangul was looked for.
        names: further names whose digits are no measurement, as from `names_of`.
    """
    masked = mask(text, names)
    found: list[Number] = []
    end = 0
    for core in _CORE.finditer(masked):
        if core.start() < end or not _is_number(masked, core):
            continue
        number = _read(text, masked, core)
        if number is not None:
            found.append(number)
            end = number.end
    found.extend(spelled_numbers(masked, text, hangul=lang == "ko" or _HAS_HANGUL.search(text) is not None))
    found.sort(key=lambda number: number.start)
    return _share_units(text, found)


def _is_number(text: str, core: re.Match[str]) -> bool:
    """Say whether digits stand for themselves and not inside a name."""
    before = text[core.start() - 1] if core.start() else " "
    if before in "^_" or (before.isalpha() and not before.isascii() and not _HAS_HANGUL.match(before)):
        return False
    start = core.start()
    while start and core.start() - start < _LONGEST_NAME and _IN_RUN.match(text, start - 1):
        start -= 1
    head = text[start : core.start()].lstrip("._-^@/")
    if len(head) >= _LONGEST_NAME - 8:  # no name, and no figure: a hash, an address
        return False
    prefix = _DIMENSION_PREFIX.match(f"{head}0")
    if prefix is not None:
        head = head[prefix.end() :]
    if head.lower() == "sub-":
        head = ""
    if not head:
        return True
    return not head[0].isalpha() and not head[-1].isalpha() and not re.search(r"-[A-Za-z]+[\w.]*-$", head)


def _read(text: str, masked: str, core: re.Match[str]) -> Number | None:
    """Read the number whose digits are `core`, with exponent, scale word, plus sign and unit."""
    digits = re.sub(r"[,{}\u2009\u202f]", "", core[0])
    worth = _worth(digits, masked, core.end())
    if worth is None:
        return None
    value, precision, at, scaled = worth
    plus = masked[at : at + 1] == "+" and not masked[at + 1 : at + 2].isdigit()
    at += plus
    unit = units.unit_after(masked, at)
    if unit is None and _letter_follows(masked, at) and not scaled:
        return None  # "3D", "4o": a name that begins with a digit
    name, factor = (unit.name, unit.factor) if unit else (PLAIN, 1.0)
    if name == PLAIN and _FACTOR_BEFORE.search(text[max(0, core.start() - 24) : core.start()]):
        name = TIMES
    end = unit.end if unit else at
    start, sign, name = _sign(text, core.start(), name, text[end : end + 1])
    loose = bool(_LOOSE.search(text[max(0, start - 16) : start]))
    bound = "lower" if plus or _LOWER.search(text[max(0, start - 16) : start]) else ""
    return Number(
        text=text[start:end],
        start=start,
        end=end,
        value=sign * value * factor,
        unit=name,
        precision=precision * factor,
        significant=len(f"{round(value / precision)}"),
        bound=bound,
        loose=loose,
        scaled=scaled,
    )


def _worth(digits: str, text: str, at: int) -> tuple[float, float, int, bool] | None:
    """Return value and precision with the exponent or scale word that follows, its end, and whether it is a scale.

    None is for digits or powers beyond all measure.
    """
    if len(digits) > _MOST_DIGITS:
        return None
    value, precision = float(digits), _place(digits)
    exponent = _EXPONENT.match(text, at) or _TIMES_TEN.match(text, at)
    raised = None if exponent or not digits.strip("0").isdigit() else _POWER.match(text, at)
    if exponent is not None and abs(to := _integer(exponent)) <= _LARGEST_POWER:
        return value * 10.0**to, precision * 10.0**to, exponent.end(), False
    if raised is not None and abs(to := _integer(raised)) * len(digits) <= _LARGEST_POWER:
        return value**to, value**to, raised.end(), False
    return None if exponent or raised else _scale(text, value, precision, at)


def _place(digits: str) -> float:
    """Return the worth of the last written digit."""
    return 10.0 ** -len(digits.partition(".")[2])


def _integer(exponent: re.Match[str]) -> int:
    return int(next(group for group in exponent.groups() if group).translate(_SUPERSCRIPT))


def _scale(text: str, value: float, precision: float, at: int) -> tuple[float, float, int, bool]:
    """Apply the scale word at `at`, and the further steps of a Korean number."""
    factor, end = units.scale_after(text, at)
    if end == at:
        return value, precision, at, False
    value, precision = value * factor, precision * factor
    korean = _HAS_HANGUL.search(text[at:end]) is not None
    while korean and (step := units.KOREAN_STEP.match(text, end)):
        worth, last = units.scale_after(text, step.end(1))
        piece = float(step[1].replace(",", "")) * worth
        if piece >= factor or (not step[2] and text[end : end + 1] == " "):
            break
        value, precision, factor, end = value + piece, worth, worth, max(last, step.end())
    return value, precision, end, True


def _letter_follows(text: str, at: int) -> bool:
    after = text[at : at + 1]
    if not (after.isascii() and after.isalpha()):
        return False
    # 512x512 and 8xA100 are counts of something, 2D and 4o are names
    return not re.match(r"[xX](?:\d|[A-Z])", text[at : at + 2])


def _sign(text: str, start: int, unit: str, after: str) -> tuple[int, float, str]:
    """Take a minus sign or a currency sign before the digits into the number."""
    before = text[start - 1] if start else ""
    ahead = text[start - 2] if start > 1 else " "
    if before in "-−–" and before and (ahead.isspace() or ahead in "([:=|"):
        return start - 1, -1.0, unit
    if before == "$" and after != "$" and unit == PLAIN and not ahead.isalnum():
        return start - 1, 1.0, "USD"
    return start, 1.0, unit


def _share_units(text: str, numbers: list[Number]) -> list[Number]:
    """Give the first number of a range, or the one before "±", the unit and scale of the second."""
    shared = list(numbers)
    for at in range(len(numbers) - 2, -1, -1):
        first, second = shared[at], shared[at + 1]
        between = text[first.end : second.start]
        if (
            first.unit
            or first.scaled
            or not _RANGE.fullmatch(between)
            or first.spelled
            or second.unit == "ordinal"
        ):
            continue
        if between.strip() in ("to", "and") and not _BETWEEN.search(
            text[max(0, first.start - 9) : first.start]
        ):
            continue
        shared[at] = _with_unit_of(first, second)
    return shared


def _with_unit_of(first: Number, second: Number) -> Number:
    """Return the number in the unit of the one that follows it."""
    digits = re.match(r"[-−–]?[\d.,]+", second.text)
    written = (
        float(digits[0].replace(",", "").replace("−", "-").replace("–", "-").rstrip(".")) if digits else 0.0
    )
    factor = abs(second.value / written) if written and second.unit != PERCENT else 1.0
    if second.scaled and first.value >= factor:  # "350,000 to 700K" needs no scale of its own
        factor = 1.0
    return replace(
        first,
        value=first.value * factor,
        unit=second.unit,
        precision=first.precision * factor,
        scaled=second.scaled,
    )
