"""Sentences of English and Korean prose, and the words in them that tell what they are about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from papertrial.digest.stop_words import ENGLISH_STOP_WORDS, KOREAN_PARTICLES, KOREAN_STOP_WORDS


@dataclass(frozen=True)
class Sentence:
    """One sentence: `text` is what stands between `start` and `end` in the text it was cut from."""

    text: str
    start: int
    end: int


_ABBREVIATED = """
approx ca cf corp def dept e.g eq eqn eqs fig figs i.e incl p.p pp ref refs resp rev suppl tab tabs viz vol vs w.r.t
a.k.a
"""
_NUMBERED = "app art ch ed eds ex lem max min no nos prop sec secs thm"
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_BEFORE_NUMBERS = frozenset(_NUMBERED.split())  # words and units too, unless a number follows
_TITLES = frozenset({"Dr", "Mr", "Mrs", "Ms", "Prof", "St", "Sr", "Jr", "Mt", "Gen"})
# These end a sentence where a capital follows; the others hardly ever do.
_MAYBE_LAST = frozenset({"etc", "al", "inc", "ltd", "co", "corp", "a.m", "p.m", "u.s"})

_LINE_STARTS = re.compile(
    r"""(?x)
    \n[ \t]*(?=\n)                              # a blank line
    | \n(?=[ \t]*(?:\||\#{1,6}[ ]|[-*•]\ |\(?\d{1,2}[.)]\ ))   # a table row, a heading, an item
    | (?<=\|)[ \t]*\n                           # what follows a table row
    """
)
_HEADING_END = re.compile(r"(?m)^[ \t]*#{1,6} .*$")
_STOPS = re.compile(
    r"(?<![.!?。！？…])[.!?。！？…]++[\"'”’)\]*_]*+(?=\s|$)|(?<=[다요음함됨임])[.!?](?=[가-힣A-Z(\"'“])"
)
_WORD_BEFORE = re.compile(r"[A-Za-z][A-Za-z.]*$")
_ITEM_MARKER = re.compile(r"\(?(?:[ivx]{1,4}|[a-h])\)\s")
_OPENS_ITEM = re.compile(r"(?:^|[:;.?!])\s*\(?\d{1,2}$")  # the "1" of "1. First"
_SEEN = 60  # characters around a stop that decide what it is
_OPENING = "\"'“‘([*_"


def split_sentences(text: str) -> list[Sentence]:
    """Cut a text into sentences, in order; nothing but white space lies between them.

    Safe for abbreviations ("e.g.", "et al.", "Fig. 3"), decimals, initials ("J. Smith"), and numbers that open
    an item ("1. First"). Sentences also end at blank lines, and a heading, a list item or a table row is one
    of its own. A Korean sentence may be followed by the next without a space.
    """
    sentences = []
    for start, end in _blocks(text):
        for cut_start, cut_end in _cuts(text, start, end):
            piece = text[cut_start:cut_end]
            stripped = piece.strip()
            if stripped:
                begin = cut_start + len(piece) - len(piece.lstrip())
                sentences.append(Sentence(stripped, begin, begin + len(stripped)))
    return sentences


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Give the spans that no sentence crosses."""
    edges = {0, len(text)}
    edges.update(found.end() for found in _LINE_STARTS.finditer(text))
    edges.update(found.end() for found in _HEADING_END.finditer(text))
    ordered = sorted(edges)
    return iter(pairwise(ordered))


def _cuts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for stop in _STOPS.finditer(text, start, end):
        if _ends_sentence(text, begin, stop, end):
            yield begin, stop.end()
            begin = stop.end()
    yield begin, end


def _ends_sentence(text: str, begin: int, stop: re.Match[str], end: int) -> bool:
    after = text[stop.end() : min(end, stop.end() + _SEEN)].lstrip()
    if not after:
        return True
    marker = _ITEM_MARKER.match(after)
    first = after.lstrip(_OPENING)[:1]
    if first.islower() and not marker:
        return False
    if not stop[0].startswith(".") or stop[0].startswith(".."):
        return True
    before = text[max(begin, stop.start() - _SEEN) : stop.start()]
    if _OPENS_ITEM.search(before):
        return False
    word = _WORD_BEFORE.search(before)
    if word is None:
        return True
    plain = word[0].rstrip(".").lower()
    if word[0] in _TITLES or (len(plain) == 1 and word[0].isupper()):  # an initial
        return bool(marker)
    if plain in _MAYBE_LAST:
        return first.isupper() and not before.rstrip().endswith("et al")
    if plain in _BEFORE_NUMBERS:
        return not (first.isdigit() or after.startswith("("))
    return plain not in _ABBREVIATIONS


_LATIN_WORD = re.compile(r"[^\W\d_]{3,}", re.UNICODE)
_HANGUL = re.compile(r"[가-힣]{2,}")


def content_terms(text: str, lang: str = "en") -> frozenset[str]:
    """Return the words of a text that can tell a metric, a data set or a method, in lower case.

    A term is a word of three letters or more, or of two Hangul syllables or more without its particle, outside
    the stop lists. English words lose their ending, so that "converts" meets "converted": terms are for comparing,
    not for showing. English terms count in every language; Hangul only where `lang` is "ko" or the text has any.
    """
    terms = {
        stem(word)
        for word in map(str.lower, _LATIN_WORD.findall(text))
        if not _HANGUL.search(word) and word not in ENGLISH_STOP_WORDS
    }
    if lang == "ko" or _HANGUL.search(text):
        terms.update(
            bare
            for word in _HANGUL.findall(text)
            if (bare := _without_particle(word)) not in KOREAN_STOP_WORDS and len(bare) >= 2
        )
    return frozenset(terms - ENGLISH_STOP_WORDS)


_ENDINGS = ("ings", "ing", "ed", "es", "s", "e")


def stem(word: str) -> str:
    """Take the ending off a lower-case English word where four letters stay."""
    if word.endswith(("ss", "us", "is")):
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def _without_particle(word: str) -> str:
    """Take the particle off a Korean word where at least two syllables stay."""
    for particle in KOREAN_PARTICLES:
        if word.endswith(particle) and len(word) - len(particle) >= 2:
            return word[: -len(particle)]
    return word
