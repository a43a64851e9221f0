"""Statements about papers: true ones are true and false ones false, by arithmetic of their own."""

from __future__ import annotations

import random
import re
from decimal import ROUND_HALF_UP, Decimal

import pytest

from papertrial.digest.grounding.numbers import extract_numbers
from papertrial.insight.digest.line_split import split_lines
from papertrial.insight.digest.made_days import make_day
from papertrial.insight.digest.statements import Source, changed, make_statements, rewritings, with_filler
from papertrial.insight.digest.string_matching import StringMatcher

SOURCES = [
    Source(
        "Gadget: A Thing", "The gadget reaches 87.54% on 61,000 scenes. It is 3.2x faster and takes 53 ms."
    ),
    Source("Widget: Another", "The widget reaches 41.2% on 1,389 rooms. It is 7.5x faster and takes 236 ms."),
]


def the_number(text):
    [number] = extract_numbers(text)
    return number


@pytest.mark.parametrize("written", ["87.54%", "61,000", "3.25x", "0.1234", "61000", "45%", "1,389"])
def test_rewritings_have_the_value_or_its_rounding(written):
    number = the_number(f"it has {written} of it")
    for kind, text in rewritings(number):
        other = the_number(f"it has {text} of it")
        value = Decimal(str(other.value)) * (100 if kind == "fraction" else 1)
        original = Decimal(str(number.value))
        if kind == "rounded":
            place = Decimal(1).scaleb(-len(re.search(r"\.(\d*)|$", text)[1] or ""))
            assert value == original.quantize(place, ROUND_HALF_UP)
            assert value != original or text != written
        else:
            assert value == original


def test_changed_numbers_are_ten_to_three_hundred_percent_off():
    number = the_number("it has 87.54% of it")
    for seed in range(200):
        value = the_number(f"it has {changed(number, random.Random(seed))} of it").value
        assert 0.0999 <= abs(value / 87.54 - 1) <= 3.001


def test_statements_point_at_their_number_and_are_what_they_say():
    papers, statements = make_statements(SOURCES, random.Random(0))
    assert {one.kind for one in statements} >= {"changed", "swapped", "derived", "not derived"}
    own = [
        {(round(abs(one.value), 6), one.unit) for one in extract_numbers(source.text)} for source in SOURCES
    ]
    for one in statements:
        assert one.text[one.start].isdigit()
        number = next(found for found in extract_numbers(one.text) if found.start == one.start)
        told = (round(abs(number.value), 6), number.unit)
        if one.kind in ("told otherwise", "percent in words", "separators", "times in words", "thousands"):
            assert told in own[one.paper]
        if one.kind in ("changed", "swapped"):
            assert told not in own[one.paper]
        if one.kind == "swapped":
            assert told in own[1 - one.paper]
        if one.truthful:
            assert one.text not in papers[one.paper].text, "a quotation would be no test"


def test_derived_statements_follow_from_the_sentence_that_was_added():
    for seed in range(30):
        papers, statements = make_statements(SOURCES, random.Random(seed))
        for one in (one for one in statements if one.kind in ("derived", "not derived")):
            said = papers[one.paper].text[len(SOURCES[one.paper].text) :]
            first, second = (number.value for number in extract_numbers(said))
            claim = next(found for found in extract_numbers(one.text) if found.start == one.start)
            truth = {"": first - second, "x": first / second, "%": 100 * (first - second) / first}[claim.unit]
            assert (abs(truth - claim.value) <= 0.05 + 1e-9) == one.truthful


def test_filler_keeps_every_own_sentence_in_order():
    filled = with_filler(SOURCES[0], random.Random(1), 20).text
    places = [filled.index(part) for part in ("The gadget reaches", "It is 3.2x")]
    assert places == sorted(places)
    assert len(extract_numbers(filled)) > len(extract_numbers(SOURCES[0].text))


def test_seeds_draw_other_statements_and_one_seed_the_same():
    assert make_statements(SOURCES, random.Random(1)) == make_statements(SOURCES, random.Random(1))
    assert make_statements(SOURCES, random.Random(1)) != make_statements(SOURCES, random.Random(2))


def test_strings_match_as_written_and_normalised():
    plain = StringMatcher("It has 1,389 rows, 87.50% and 3.2x.")
    kind = StringMatcher("It has 1,389 rows, 87.50% and 3.2x.", normalised=True)
    for written, exact, normalised in (
        ("1,389", True, True), ("1389", False, True), ("87.5%", False, True), ("87.50%", True, True),
        ("3.2x", True, True), ("3.2 times", False, True), ("389", False, False), ("87.4%", False, False),
    ):  # fmt: skip
        assert plain.has_number_at(f"so {written} of", 3) == exact
        assert kind.has_number_at(f"so {written} of", 3) == normalised


def test_made_days_are_of_the_public_grammar_and_break_the_line_split():
    """Against markdown-it: a day whose titles are on one line renders as a table of three cells a row."""
    from markdown_it import MarkdownIt

    sources = [Source(f"A Title Number {n} of Several Words", f"It has {n}.5% of it.") for n in range(30)]
    text, rows = make_day(sources, random.Random(0))
    assert any(row.broken for row in rows)
    found = split_lines(text)
    wanted = {row.arxiv: row.title for row in rows if not row.broken and "Output" not in row.summary}
    assert {arxiv: title for arxiv, title, _ in found if arxiv in wanted} == wanted
    assert not {(row.arxiv, row.title) for row in rows if row.broken} & {
        (arxiv, title) for arxiv, title, _ in found
    }
    whole = text.replace("\n  ", " ").replace("; Past | Input", "; Past, Input")
    html = MarkdownIt().enable("table").render(whole)
    assert html.count("<td>") == 3 * len(rows)
