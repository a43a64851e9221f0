"""Units, scale words and Korean numerals: what may follow a number, and what it means."""

from __future__ import annotations

import re
from dataclasses import dataclass

PLAIN, PERCENT, POINTS, TIMES, SECONDS, BYTES, ORDINAL = "", "%", "pp", "x", "s", "B", "ordinal"

SCORE_UNITS = frozenset({"BLEU", "ROUGE", "METEOR", "AP", "F1", "ppl", "dB"})
"""Scores, whose name claim and source may leave away: "BLEU of 28.4" is "28.4 BLEU"."""

COUNT_UNITS = frozenset({"bit", "px", "deg", "USD", "fps", "tokens/s"})
"""Units that a table's cells leave away, where a claim has them."""


@dataclass(frozen=True)
class Unit:
    """A unit as written: its class, how many of the class's own unit one is, and where the writing ends."""

    name: str
    factor: float
    end: int


def _pattern(*rows: tuple[str, str, float]) -> list[tuple[re.Pattern[str], str, float]]:
    return [
        (re.compile(rf"[ \u00a0\u202f\u2009~-]?(?:{regex})"), name, factor) for regex, name, factor in rows
    ]


_END = r"(?![A-Za-z0-9])"
# In this order: the longer writing first.
_UNITS = _pattern(
    (
        r"\\?%[ -]?points?\b|\\?%\s?p(?![A-Za-z])|\\?%\s?포인트|퍼센트\s?포인트"
        r"|percent(?:age)?[- ]points?\b|pp\b|p\.p\."
        r"|points?\b|pts?\b|포인트|점(?![가-힣]?[수진층검프])",
        POINTS,
        1,
    ),
    (r"\\?[%％]|percent\b|per cent\b|퍼센트", PERCENT, 1),
    (r"[KT]iB(?![A-Za-z])|[KMGTP]?iB(?![A-Za-z])", BYTES, 0),
    (r"[kKMGTP]B(?:ytes?)?(?![A-Za-z])|(?:kilo|mega|giga|tera)?bytes?\b|기가바이트|메가바이트", BYTES, 0),
    (r"(?:[kKMGTPE]\s?)?FLOP(?:[sS]|/s)?(?![A-Za-z])", "FLOP", 0),
    (r"[kMG]?Hz(?![A-Za-z])", "Hz", 0),
    (r"fps\b|FPS\b|frames (?:per|a) second\b|frames/s\b", "fps", 1),
    (r"(?:tokens?|tok)/s(?:ec)?\b|tokens? (?:per|a) second\b", "tokens/s", 1),
    (r"milliseconds?\b|ms" + _END + "|밀리초", SECONDS, 1e-3),
    (r"microseconds?\b|[μµ]s" + _END, SECONDS, 1e-6),
    (r"nanoseconds?\b|ns" + _END, SECONDS, 1e-9),
    (r"seconds?\b|secs?\b|s" + _END + "|초(?![가-힣]*[기과월반])", SECONDS, 1),
    (r"minutes?\b|mins?\b|분(?![가-힣]*[류석포할야산의])", SECONDS, 60),
    (r"hours?\b|hrs?\b|h" + _END + "|시간", SECONDS, 3600),
    (r"days?\b", SECONDS, 86400),
    (
        r"[xX×](?![A-Za-z0-9])(?!\s*\d|\s[A-Z][A-Za-z]*\d)|\$?\\times(?!\s*\d)|times\b|folds?\b|배(?![치열경포우율])",
        TIMES,
        1,
    ),
    (r"ppl\b|PPL\b|perplexity\b", "ppl", 1),
    (r"BLEU\b", "BLEU", 1),
    (r"ROUGE(?:-[12L])?\b", "ROUGE", 1),
    (r"METEOR\b", "METEOR", 1),
    (r"m?AP\b", "AP", 1),
    (r"F1\b", "F1", 1),
    (r"dB\b|데시벨", "dB", 1),
    (r"bits?\b|비트", "bit", 1),
    (r"°C?|degrees?\b|\^?\\?circ\b|\^\{?\\circ\}?", "deg", 1),
    (r"px\b|pixels?\b|픽셀", "px", 1),
    (r"USD\b|dollars?\b|달러", "USD", 1),
    (r"(?:st|nd|rd|th)" + _END + "|번째|위(?![가-힣]*[치한해험에])", ORDINAL, 1),
    (r"mm" + _END, "m", 1e-3),
    (r"cm" + _END, "m", 1e-2),
    (r"km" + _END, "m", 1e3),
    (r"met(?:er|re)s?\b|m(?![A-Za-z0-9²³^])", "m", 1),
    (r"kW\b", "W", 1e3),
    (r"W" + _END, "W", 1),
)
_APART = (" ", "\u00a0", "\u202f", "\u2009", "~", "-")
_NO_UNIT = ("", *" |,.;:()[]\n\t\"'=<>0123456789")
_PREFIX = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_WORD_PREFIX = {"kilo": 1e3, "mega": 1e6, "메가": 1e6, "giga": 1e9, "기가": 1e9, "tera": 1e12}

_SCALES = {
    "thousand": 1e3, "million": 1e6, "mn": 1e6, "billion": 1e9, "bn": 1e9, "trillion": 1e12,
    "K": 1e3, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12,
    "백": 1e2, "천": 1e3, "만": 1e4, "십만": 1e5, "백만": 1e6, "천만": 1e7, "억": 1e8, "십억": 1e9, "백억": 1e10,
    "천억": 1e11, "조": 1e12,
}  # fmt: skip
_SCALE = re.compile(
    r"[ \u00a0-]?(?:thousand|million|billion|trillion|bn|mn)\b"
    r"|[kKMBT](?![A-Za-z0-9])"
    r"|\s?(?:천만|백만|십만|천억|백억|십억|억|만(?![가-힣]?[족큼약들]))|천|백(?!분)|조(?![가-힣]?[각건정합])"
)
KOREAN_STEP = re.compile(r"\s?(\d{1,4}(?:,\d{3})*(?:\.\d+)?)(천만|백만|십만|억|만|천|백)?(?![\d.,]*\d)")
"""A further step of a Korean number: the "5천" of "1만 5천"."""


def unit_after(text: str, at: int) -> Unit | None:
    """Return the unit written at `at`, or None.

    A space or a hyphen may stand before it ("53 ms", "4-bit"). A time has the second as its unit, a size the
    byte, a length the metre.
    """
    apart = text[at : at + 1] in _APART
    if text[at + apart : at + apart + 1] in _NO_UNIT:  # most numbers of a table: spares every pattern
        return None
    for pattern, name, factor in _UNITS:
        found = pattern.match(text, at)
        if found is None or found.end() == at:
            continue
        written = found[0].strip(" \u00a0\u202f\u2009~-")
        return Unit(name, factor or _prefix_factor(written), found.end())
    return None


def _prefix_factor(written: str) -> float:
    for word, factor in _WORD_PREFIX.items():
        if written.startswith(word):
            return factor
    if written.endswith("iB"):
        return 1024.0 ** "KMGTP".index(written[0]) * 1024
    return _PREFIX.get(written[0], 1.0) if len(written) > 1 and written[1:2] not in "yL" else 1.0


def scale_after(text: str, at: int) -> tuple[float, int]:
    """Return the factor of the scale word written at `at` and where it ends; (1, at) where there is none.

    "7B" is 7 billion and "61K" 61,000; "1만" is 10,000.
    """
    found = _SCALE.match(text, at)
    if found is None:
        return 1.0, at
    return _SCALES[found[0].strip(" \u00a0-")], found.end()


_TO_TWENTY = """
two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
WORDS = {
    **{word: value for value, word in enumerate(_TO_TWENTY.split(), start=2)},
    **{word: 10 * tens for tens, word in enumerate(_TENS.split(), start=2)},
    "dozen": 12,
}
"""Small number words. "one" is left out: it is a pronoun nearly always."""

MULTIPLIERS = {
    "twice": 2, "double": 2, "doubles": 2, "doubled": 2, "doubling": 2,
    "thrice": 3, "triple": 3, "triples": 3, "tripled": 3, "tripling": 3, "quadruple": 4, "quadrupled": 4,
}  # fmt: skip
"""Words that say how many times."""

_PLACES = "first second third fourth fifth sixth seventh eighth ninth tenth"
ORDINAL_WORDS = {word: place for place, word in enumerate(_PLACES.split(), start=1)}
"""Ordinals in words."""

KOREAN_WORDS = {
    "두": 2, "세": 3, "네": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9, "열": 10,
    "삼": 3, "사": 4, "오": 5, "육": 6,
}  # fmt: skip
"""Korean number words that stand before a counter."""
