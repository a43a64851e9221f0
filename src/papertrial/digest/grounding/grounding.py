"""Every number of a summary, looked up in its paper."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from papertrial.digest.grounding.context import ClaimContext
from papertrial.digest.grounding.coupling import uncoupled
from papertrial.digest.grounding.index import PaperIndex
from papertrial.digest.grounding.matching import Match, match_number
from papertrial.digest.grounding.number import Number
from papertrial.digest.grounding.numbers import extract_numbers
from papertrial.digest.grounding.topics import topic_overlap
from papertrial.digest.records import GroundedNumber, Grounding, GroundingWord
from papertrial.digest.sentences import split_sentences

ABSTRACT = "abstract"
"""The text that cannot show a number to be wrong: it leaves most of the paper out."""


def ground(sections: Mapping[str, str], index: PaperIndex, *, text: str, lang: str = "en") -> Grounding:
    """Look every number of a summary up in its paper: O((n + m) log n) for n numbers there and m here.

    Args:
        sections: the summary by section; places in the result count in each section's own text.
        index: the paper.
        text: which text of the paper the index holds: "full text", "abstract", …. In an abstract alone a
            number that is not found is "unverifiable" and not "absent".
        lang: the summary's language.
    """
    numbers: list[GroundedNumber] = []
    for section, summary in sections.items():
        numbers.extend(_ground_section(section, summary, index, text=text, lang=lang))
    whole = " ".join(sections.values())
    overlap = topic_overlap(index.title, whole) if index.title.strip() else None
    return Grounding(numbers=tuple(numbers), text=text, topic_overlap=overlap)


def _ground_section(
    section: str, summary: str, index: PaperIndex, *, text: str, lang: str
) -> list[GroundedNumber]:
    claims = [ClaimContext.of(sentence, lang) for sentence in split_sentences(summary)]
    starts = [claim.start for claim in claims]
    judged: list[tuple[Number, ClaimContext, Match]] = []
    for number in extract_numbers(summary, lang, index.names):
        claim = claims[max(0, bisect_right(starts, number.start) - 1)]
        judged.append((number, claim, match_number(number, claim, index, summary[number.end :])))
    judged = uncoupled(judged, index)
    return [
        GroundedNumber(
            text=number.text,
            section=section,
            start=number.start,
            end=number.end,
            value=number.value,
            unit=number.unit,
            word=_word(match, text),
            source=match.source,
            operands=match.operands,
        )
        for number, _, match in judged
    ]


def _word(match: Match, text: str) -> GroundingWord:
    return "unverifiable" if match.word == "absent" and text == ABSTRACT else match.word
