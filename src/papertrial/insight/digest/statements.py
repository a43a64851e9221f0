"""Papers with known numbers, and statements about them that are true or were made false."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from papertrial.digest.grounding.masks import names_of
from papertrial.digest.grounding.number import Number
from papertrial.digest.grounding.numbers import extract_numbers
from papertrial.digest.grounding.units import PERCENT, PLAIN, TIMES
from papertrial.digest.sentences import split_sentences


@dataclass(frozen=True)
class Source:
    """One paper: its title and what it says."""

    title: str
    text: str


@dataclass(frozen=True)
class Statement:
    """A sentence about a paper, with one number that is to be judged.

    Attributes:
        paper: the number of the paper in the list of sources.
        text: the sentence.
        start: where the number stands in it.
        truthful: whether the paper says so.
        significant: whether it has two significant digits or more, before and after a change.
        kind: how it was made.
    """

    paper: int
    text: str
    start: int
    truthful: bool
    significant: bool
    kind: str


_FILLER = (
    "The appendix lists {a} further settings and {b} examples of each.",
    "Every run of that kind takes {a} minutes on {b} machines.",
    "We repeat this with {a} other random draws and keep {b} of them.",
    "Earlier reports on unrelated material give {x} and {y} for it.",
    "The remaining part holds {big} rows, of which {p}% are set aside.",
    "Between {a} and {b} people read each page, and {p}% of them agree.",
    "The licence text, the acknowledgements and the list of names follow.",
    "No further measurement was made on that side.",
)
_DERIVED = (
    (
        "On the {name} part the error falls from {high} to {low} after the change.",
        "The change reduces the error on the {name} part by {gap}.",
    ),
    (
        "The {name} stage takes {slow} ms without it and {fast} ms with it.",
        "It makes the {name} stage {ratio}x faster.",
    ),
    (
        "Memory of the {name} store goes from {high} GB to {low} GB.",
        "Memory of the {name} store is reduced by {change}%.",
    ),
)
_PLANTS = "amber birch cedar dahlia ebony fennel ginger hazel indigo juniper kelp laurel maple nettle"
_NAMES = tuple(_PLANTS.split())


def with_filler(source: Source, draw: random.Random, sentences: int) -> Source:
    """Return a paper with sentences about nothing between its own, so that chance has numbers to meet."""
    own = [one.text for one in split_sentences(source.text)]
    slots = sorted(draw.randint(0, len(own)) for _ in range(sentences))
    told: list[str] = []
    for at in range(len(own) + 1):
        told += [_filler(draw) for _ in range(slots.count(at))]
        told += own[at : at + 1]
    return replace(source, text=" ".join(told))


def _filler(draw: random.Random) -> str:
    return draw.choice(_FILLER).format(
        a=draw.randint(2, 64),
        b=draw.randint(3, 500),
        x=f"{draw.uniform(1, 90):.1f}",
        y=f"{draw.uniform(1, 90):.2f}",
        p=draw.randint(2, 98),
        big=f"{draw.randint(1_000, 900_000):,}",
    )


def make_statements(sources: Sequence[Source], draw: random.Random) -> tuple[list[Source], list[Statement]]:
    """Return the papers, each with a sentence to derive from, and true and false statements about them.

    Every number of every sentence gives one true statement (rounded, spelled otherwise, or in a sentence told
    otherwise) and two false ones: changed by 10 to 300 %, and swapped with another paper's number.
    Every paper also gives one true and one false statement that must be derived.
    """
    numbers = [extract_numbers(source.text, names=names_of(source.title)) for source in sources]
    made, papers = [], []
    for paper, source in enumerate(sources):
        sentences = split_sentences(source.text)
        elsewhere = [number for other, those in enumerate(numbers) if other != paper for number in those]
        for sentence in sentences:
            for number in extract_numbers(sentence.text, names=names_of(source.title)):
                if number.spelled or number.unit == "ordinal":
                    continue
                made += _about(paper, sentence.text, number, elsewhere, draw)
        said, statements = _derivable(paper, draw)
        papers.append(replace(source, text=f"{source.text} {said}"))
        made += statements
    return papers, made


_RANGE_AROUND = re.compile(r"(?:[-–—±~]|\bto)\s?\x00|\x00\s?(?:[-–—±~]|to\b)")


def _about(
    paper: int, sentence: str, number: Number, elsewhere: Sequence[Number], draw: random.Random
) -> list[Statement]:
    made = []
    ways: list[tuple[str, str]] = [("told otherwise", number.text)]
    if not _RANGE_AROUND.search(f"{sentence[: number.start][-3:]}\x00{sentence[number.end :][:3]}"):
        ways += rewritings(number)
    kind, written = draw.choice(ways)
    before = _digits(number.text)
    lead = draw.choice(("According to the authors, ", "The paper reports this: ", "In short: "))
    made.append(_statement(paper, sentence, number, written, lead, True, before, kind))
    for kind, false in (("changed", changed(number, draw)), ("swapped", _swapped(number, elsewhere, draw))):
        if false is not None:
            made.append(_statement(paper, sentence, number, false, "", False, before, kind))
    return made


def _statement(
    paper: int, sentence: str, number: Number, written: str, lead: str, truthful: bool, before: int, kind: str
) -> Statement:
    text = f"{lead}{sentence[: number.start]}{written}{sentence[number.end :]}"
    significant = min(before, _digits(written)) >= 2
    return Statement(paper, text, len(lead) + number.start, truthful, significant, kind)


def _digits(written: str) -> int:
    """Return how many significant digits are written."""
    found = re.search(r"\d[\d,]*(?:\.\d+)?", written)
    return len(found[0].replace(",", "").replace(".", "").lstrip("0")) if found else 0


_PARTS = re.compile(r"(?P<sign>[-−$]?)(?P<digits>\d[\d,]*(?:\.\d+)?)(?P<rest>.*)", re.DOTALL)


def rewritings(number: Number) -> list[tuple[str, str]]:
    """Return truthful other writings of a number: its kind and the text."""
    parts = _PARTS.fullmatch(number.text)
    if parts is None:
        return []
    digits, rest = parts["digits"].replace(",", ""), parts["rest"]
    ways = []
    decimals = len(digits.partition(".")[2])
    if decimals and _digits(digits) >= 3:
        ways.append(("rounded", f"{parts['sign']}{_rounded(digits, decimals - 1)}{rest}"))
    if number.unit == PERCENT and rest.strip() == "%" and float(digits) < 100:
        ways.append(("fraction", f"{float(digits) / 100:.{decimals + 2}f}"))
        ways.append(("percent in words", f"{parts['sign']}{digits} percent"))
    if number.unit == PLAIN and not decimals and not rest and int(digits) >= 1000:
        other = digits if "," in parts["digits"] else f"{int(digits):,}"
        ways.append(("separators", other))
        if int(digits) % 1000 == 0:
            ways.append(("thousands", f"{int(digits) // 1000}K"))
    if number.unit == TIMES and rest.strip() in ("x", "×"):
        ways.append(("times in words", f"{digits} times"))
    return ways


def _rounded(digits: str, decimals: int) -> str:
    """Round half away from zero on the decimal digits themselves."""
    shift = 10**decimals
    value = math.floor(float(digits) * shift + 0.5 + 1e-9) / shift
    return f"{value:.{decimals}f}"


def _rewrite_digits(number: Number, change: Callable[[float], float]) -> str | None:
    """Return the number with other digits, its decimals, separators and unit as they were; None where equal."""
    parts = _PARTS.fullmatch(number.text)
    if parts is None:
        return None
    plain = parts["digits"].replace(",", "")
    decimals = len(plain.partition(".")[2])
    comma = "," if "," in parts["digits"] else ""
    written = f"{change(float(plain)):{comma}.{decimals}f}"
    return (
        None
        if float(written.replace(",", "")) == float(plain)
        else f"{parts['sign']}{written}{parts['rest']}"
    )


def changed(number: Number, draw: random.Random) -> str | None:
    """Return the number made larger by 10 to 300 %, or smaller by 10 to 90 %."""
    factor = 1 + draw.uniform(0.1, 3.0) if draw.random() < 0.5 else 1 - draw.uniform(0.1, 0.9)
    return _rewrite_digits(number, lambda value: value * factor)


def _swapped(number: Number, elsewhere: Sequence[Number], draw: random.Random) -> str | None:
    """Return another paper's number of the same unit, or of any where none has it."""
    same = [
        one
        for one in elsewhere
        if one.unit == number.unit and one.scaled == number.scaled and not one.spelled
    ]
    for _ in range(8):
        if not same:
            return None
        other = draw.choice(same)
        if abs(other.value - number.value) > 1e-9 * abs(number.value):
            return other.text
    return None


def _derivable(paper: int, draw: random.Random) -> tuple[str, list[Statement]]:
    """Return a sentence with two numbers, and a true and a false statement of what follows from them."""
    said, claim = draw.choice(_DERIVED)
    high = round(draw.uniform(40, 99), 1)
    low = round(high * draw.uniform(0.2, 0.8), 1)
    fast = draw.randint(11, 99)
    slow = fast * draw.randint(12, 70) // 10
    name = draw.choice(_NAMES)
    truth = {
        "gap": high - low,
        "ratio": slow / fast,
        "change": 100 * (high - low) / high,
    }
    values = {"name": name, "high": high, "low": low, "slow": slow, "fast": fast}
    made = []
    for truthful in (True, False):
        factor = 1.0 if truthful else draw.choice((draw.uniform(1.1, 4.0), draw.uniform(0.1, 0.9)))
        told = {key: f"{value * factor:.1f}" for key, value in truth.items()}
        text = claim.format(**values, **told)
        key = next(key for key in truth if f"{{{key}}}" in claim)
        start = claim.format(**values, **{**told, key: "\x00"}).index("\x00")
        significant = min(_digits(f"{truth[key]:.1f}"), _digits(told[key])) >= 2
        made.append(
            Statement(paper, text, start, truthful, significant, "derived" if truthful else "not derived")
        )
    return said.format(**values), made
