"""Matching against a plain matcher that looks at every pair, and by what must hold whatever the numbers are."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.digest.grounding import PaperIndex, ground
from papertrial.errors import BadInputError


def words(claim, paper, **options):
    grounding = ground(
        {"results": claim}, PaperIndex.of(paper, title=options.pop("title", "")), text="full text", **options
    )
    return [(number.text, number.word) for number in grounding.numbers]


# --- a brute-force matcher on the numbers as they were made, in decimal arithmetic -------------------------------

UNITS = {"": "", "%": "%", " ms": "s", "x": "x", " points": "pp"}


class Made:
    """A number as the test wrote it."""

    def __init__(self, digits, decimals, unit):
        self.value = Decimal(digits).scaleb(-decimals)
        self.decimals = decimals
        self.unit = UNITS[unit]
        self.written = f"{self.value:,f}{unit}"

    def __repr__(self):
        return self.written


def meet(claim, source):
    if claim.unit == "" and claim.decimals == 0:
        return source.unit == ""
    hundreds = {"", "%", "pp"}
    return claim.unit == source.unit or (claim.unit in hundreds and source.unit in hundreds)


def readings(claim, source):
    """The source's value and decimals in the claim's terms, in every way in which they may be the same thing."""
    if meet(claim, source):
        yield source.value, source.decimals
    if claim.unit == "%" and source.unit == "" and source.decimals and source.value <= 2:
        yield source.value * 100, source.decimals - 2
    if claim.unit == "" and 0 < claim.value < 1 and claim.decimals >= 2 and source.unit == "%":
        yield source.value / 100, source.decimals + 2


def rounds(value, to, decimals):
    place = Decimal(1).scaleb(-decimals)
    return any(value.quantize(place, how) == to for how in (ROUND_HALF_UP, ROUND_HALF_EVEN)) or (
        abs(value - to) * 2 == place
    )


def follows(claim, first, second):
    if first.unit != second.unit or first.value == second.value or not first.value or not second.value:
        return False
    large, small = max(first.value, second.value), min(first.value, second.value)
    place = Decimal(1).scaleb(-claim.decimals)
    slack = place / 2 + Decimal("1e-8") * max(claim.value, place)
    difference_units = {"%": ("%", ""), "pp": ("%", "pp", ""), "": ("",), "s": ("s",)}.get(claim.unit, ())
    wanted = []
    if first.unit in difference_units:
        wanted.append(large - small)
    if claim.unit == "x":
        wanted += [large / small, small / large]
    if claim.unit == "%":
        wanted += [100 * (large - small) / large, 100 * (large - small) / small]
    return any(abs(one - claim.value) <= slack for one in wanted)


def brute_force(claim, rows, tells_change):
    sources = [one for row in rows for one in row]
    ways = [(reading, one) for one in sources for reading in readings(claim, one)]
    if any(value == claim.value for (value, _), _ in ways):
        return "exact"
    count = claim.unit == "" and claim.decimals == 0 and claim.value < 10
    if not count and any(
        decimals > claim.decimals and rounds(value, claim.value, claim.decimals)
        for (value, decimals), _ in ways
    ):
        return "rounded"
    pairs = [pair for row in rows for pair in combinations(row, 2)]
    if tells_change and not count and any(follows(claim, *pair) for pair in pairs):
        return "derived"
    return "not found"


numbers = st.builds(Made, st.integers(1, 2500), st.integers(0, 3), st.sampled_from([*UNITS, "", "%"])).filter(
    lambda one: one.decimals or one.unit or not 1900 <= one.value < 2100
)


@st.composite
def cases(draw):
    rows = draw(st.lists(st.lists(numbers, min_size=1, max_size=4), min_size=1, max_size=5))
    kind = draw(st.sampled_from(["any", "same", "rounded", "difference", "ratio", "change", "fraction"]))
    claim = draw(numbers)
    source = draw(st.sampled_from([one for row in rows for one in row]))
    row = draw(st.sampled_from(rows))
    unit = next(unit for unit, name in UNITS.items() if name == source.unit)
    if kind == "same":
        claim = source
    elif kind == "rounded" and source.decimals:
        decimals = source.decimals - 1
        claim = Made(
            int(source.value.quantize(Decimal(1).scaleb(-decimals)).scaleb(decimals)), decimals, unit
        )
    elif kind == "fraction" and source.unit == "%":
        claim = Made(int(source.value.scaleb(source.decimals)), source.decimals + 2, "")
    elif len(row) > 1 and kind in ("difference", "ratio", "change"):
        large, small = sorted((row[0].value, row[1].value), reverse=True)
        worth = {
            "difference": large - small,
            "ratio": large / small,
            "change": 100 * (large - small) / large,
        }[kind]
        own = next(unit for unit, name in UNITS.items() if name == row[0].unit)
        claim = Made(round(worth * 10), 1, {"difference": own, "ratio": "x", "change": "%"}[kind])
    if claim.value == 0:
        claim = source
    return claim, rows, draw(st.booleans())


@given(cases())
@settings(max_examples=400, deadline=None)
def test_the_verdict_is_that_of_a_matcher_that_looks_at_every_pair(case):
    claim, rows, tells_change = case
    paper = " ".join(f"The gadget holds {' beside '.join(one.written for one in row)} here." for row in rows)
    verb = "improves by" if tells_change else "holds"
    [(written, word)] = words(f"Our gadget {verb} {claim.written} today.", paper)
    assert written == claim.written
    expected = brute_force(claim, rows, tells_change or claim.unit == "x")
    assert ("not found" if word in ("absent", "context differs") else word) == expected


@given(st.lists(st.lists(numbers, min_size=1, max_size=4), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_text_grounds_in_itself_with_everything_exact(rows):
    paper = "\n\n".join(
        f"The gadget holds {' beside '.join(one.written for one in row)} here." for row in rows
    )
    assert {word for _, word in words(paper, paper)} == {"exact"}


def test_real_days_ground_in_themselves(shared_data):
    """Every number of every summary of 27 real days is found in the summary itself."""
    from papertrial.digest.reading import read_days

    counted = 0
    for file in sorted((shared_data("digest") / "en").glob("*.md")):
        for entry in (entry for day in read_days(file) for entry in day if entry.summary):
            index = PaperIndex.of(entry.summary, title=entry.paper.title)
            grounding = ground({"whole": entry.summary}, index, text="full text")
            counted += len(grounding.numbers)
            assert grounding.grounded_fraction in (None, 1.0), entry.paper.title
    assert counted > 1000


# --- single rules ---------------------------------------------------------------------------------------------------

PAPER = "The gadget reaches an accuracy of 0.15 on 1,389 scenes in 53.12 ms. Its store has 61,234 rows."


@pytest.mark.parametrize(
    ("claim", "word"),
    [
        ("The gadget has an accuracy of 15%.", "exact"),
        ("The gadget has an accuracy of 0.15.", "exact"),
        ("The gadget saw 1389 scenes.", "exact"),
        ("The gadget takes 0.05312 seconds.", "exact"),
        ("The gadget takes 53.1 ms.", "rounded"),
        ("The gadget takes 53.2 ms.", "absent"),
        ("The gadget takes 53.123 ms.", "absent"),
        ("The gadget store has 61K+ rows.", "rounded"),
        ("The gadget store has 61K rows.", "rounded"),
        ("The gadget store has 62K+ rows.", "absent"),
        ("The gadget store has more than 60,000 rows.", "rounded"),
        ("The gadget store has about 60,000 rows.", "rounded"),
        ("The gadget store has 60,000 rows.", "absent"),
        ("The widget has an aroma of 53.12 ms.", "context differs"),
    ],
)
def test_spelling_rounding_bounds_and_context(claim, word):
    assert [found for _, found in words(claim, PAPER)] == [word]


def test_rounding_needs_a_source_that_is_more_precise():
    assert words("The gadget scores 87.0 points.", "The gadget scores 87.04 points.") == [
        ("87.0 points", "rounded")
    ]
    assert words("The gadget scores 87.04 points.", "The gadget scores 87.0 points.") == [
        ("87.04 points", "absent")
    ]


def test_derived_needs_a_word_of_change_and_a_shared_term_in_the_row_itself():
    paper = "The gadget goes from 40.0% to 45.5%. Nothing is said of widgets here."
    assert words("The gadget improves by 5.5 points.", paper) == [("5.5 points", "derived")]
    assert words("The gadget has 5.5 points.", paper) == [("5.5 points", "absent")]
    assert words("The widget improves by 5.5 points.", paper) == [("5.5 points", "absent")]


def test_operands_and_source_of_a_derived_number_are_told():
    index = PaperIndex.of("The gadget takes 236 ms without and 53 ms with it.")
    [number] = ground({"r": "The gadget becomes 4.5x faster."}, index, text="full text").numbers
    assert number.word == "derived"
    assert number.operands == ("236 ms", "53 ms")
    assert number.source == "The gadget takes 236 ms without and 53 ms with it."


def test_a_whole_number_of_things_is_no_percentage():
    assert words("The gadget speaks 12 languages.", "The gadget errs in 12% of cases.") == [
        ("12", "context differs")
    ]


def test_an_abstract_cannot_show_a_number_to_be_wrong():
    index = PaperIndex.of("The gadget is fast.")
    grounding = ground({"r": "The gadget scores 87.5%."}, index, text="abstract")
    assert [one.word for one in grounding.numbers] == ["unverifiable"]
    assert grounding.grounded_fraction is None


def test_a_header_gives_its_cells_their_unit():
    paper = "| Gadget | Latency (ms) | Size (B) |\n|---|---|---|\n| fast | 53 | 7 |\n| slow | 236 | 72 |\n"
    assert words("The fast gadget has a latency of 53 ms.", paper) == [("53 ms", "exact")]
    assert words("The slow gadget has 72B parameters in size.", paper) == [("72B", "exact")]
    assert words("The fast gadget has a latency of 236 ms.", paper)[0][1] != "absent"


def test_a_number_of_another_column_is_of_another_context():
    paper = "| Gadget | LAMBADA | MMLU |\n|---|---|---|\n| Foo-7B | 75.4 | 77.5 |\n| Bar-7B | 75.1 | 83.4 |\n"
    assert words("Foo-7B has an MMLU of 75.4.", paper) == [("75.4", "context differs")]
    assert words("Foo-7B has an MMLU of 77.5.", paper) == [("77.5", "exact")]
    assert words("Foo-7B has an MMLU of 83.4.", paper) == [("83.4", "context differs")]


def test_the_places_are_those_of_each_section():
    sections = {"headline": "A gadget of 7B.", "results": "The gadget reaches 87.5% and 12 ms."}
    grounding = ground(sections, PaperIndex.of(" ".join(sections.values())), text="full text")
    assert [(one.section, one.text) for one in grounding.numbers] == [
        ("headline", "7B"), ("results", "87.5%"), ("results", "12 ms"),
    ]  # fmt: skip
    for one in grounding.numbers:
        assert sections[one.section][one.start : one.end] == one.text


def test_korean_claims_meet_english_papers():
    paper = (
        "The gadget has 7B parameters and cuts latency from 236ms to 53ms on ImageNet, with 87.5% accuracy."
    )
    claim = (
        "이 장치(Gadget)는 70억 개의 파라미터로 ImageNet에서 정확도(Accuracy) 87.5%를 기록하고 지연 시간을 "
        "236ms에서 53ms로 줄였다. 정확도(Accuracy)는 91%이다."
    )
    assert [word for _, word in words(claim, paper, lang="ko")] == [
        "exact",
        "exact",
        "exact",
        "exact",
        "absent",
    ]


def test_no_text_is_refused():
    with pytest.raises(BadInputError, match="text is empty"):
        PaperIndex.of(" \n ")
