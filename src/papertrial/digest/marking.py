"""Summaries as HTML in which each number shows where the paper has it."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from papertrial.digest.records import Entry, GroundedNumber

# What a reader sees beside a number that the paper does not bear out; colour never says it alone.
MARKS = {"context differs": "≠", "absent": "!", "unverifiable": "?"}
_MEANINGS = {
    "en": {
        "exact": "in the paper",
        "rounded": "in the paper, rounded here",
        "derived": "follows from two numbers of the paper",
        "context differs": "the paper has this number, but about something else",
        "absent": "the paper does not have this number",
        "unverifiable": "only the abstract was read, which does not have this number",
    },
    "ko": {
        "exact": "논문에 있는 값",
        "rounded": "논문 값을 반올림",
        "derived": "논문의 두 수에서 나오는 값",
        "context differs": "논문에 이 수가 있으나 다른 내용에 관한 것",
        "absent": "논문에 없는 수",
        "unverifiable": "초록만 읽었고, 초록에는 없는 수",
    },
}


def section_html(entry: Entry, section: str) -> Markup:
    """Return a section's text, escaped, each grounded number with its verdict and source as a tooltip."""
    found = entry.grounding.numbers if entry.grounding else ()
    numbers = [one for one in found if one.section == section]
    return marked(entry.sections[section], numbers, entry.lang)


def marked(text: str, numbers: Iterable[GroundedNumber], lang: str = "en") -> Markup:
    """Return a text, escaped, with the numbers at their places marked.

    Args:
        text: the section's text.
        numbers: those of this section; one whose place lies outside the text, or inside another's, is left
            unmarked.
        lang: the language of the tooltips.
    """
    parts: list[Markup] = []
    at = 0
    for one in sorted(numbers, key=lambda one: one.start):
        if at <= one.start < one.end <= len(text):
            parts += [escape(text[at : one.start]), _number(text[one.start : one.end], one, lang)]
            at = one.end
    return Markup("").join([*parts, escape(text[at:])])


def _number(text: str, one: GroundedNumber, lang: str) -> Markup:
    meaning = _MEANINGS.get(lang, _MEANINGS["en"])[one.word]
    operands = f" ({', '.join(one.operands)})" if one.operands else ""
    source = f": {one.source}" if one.source else ""
    mark = MARKS.get(one.word)
    sign = Markup('<sup aria-hidden="true">{}</sup>').format(mark) if mark else ""
    return Markup('<abbr class="number {}" title="{}">{}{}</abbr>').format(
        one.word.replace(" ", "-"), f"{meaning}{operands}{source}", text, sign
    )
