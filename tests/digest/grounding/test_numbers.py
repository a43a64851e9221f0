"""Numbers: what counts as one, and what it is worth."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.digest.grounding import PaperIndex, ground
from papertrial.digest.grounding.clauses import without_clauses
from papertrial.digest.grounding.masks import names_of
from papertrial.digest.grounding.numbers import extract_numbers


def values(text, **options):
    return [(number.value, number.unit) for number in extract_numbers(text, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("87.5%", [(87.5, "%")]),
        ("87.5 percent", [(87.5, "%")]),
        (r"87.5\%", [(87.5, "%")]),
        ("1,389 rows", [(1389, "")]),
        ("1{,}389 rows", [(1389, "")]),
        ("7B", [(7e9, "")]),
        ("1.4 million", [(1.4e6, "")]),
        ("3.7-point", [(3.7, "pp")]),
        ("3.7 percentage points", [(3.7, "pp")]),
        ("2.5%p", [(2.5, "pp")]),
        ("2x", [(2, "x")]),
        ("2×", [(2, "x")]),
        ("50 times faster", [(50, "x")]),
        ("a tenfold gain", [(10, "x")]),
        ("twice as many", [(2, "x")]),
        ("three times", [(3, "x")]),
        ("a factor of 3", [(3, "x")]),
        ("53 ms", [(0.053, "s")]),
        ("2 hours", [(7200, "s")]),
        ("80GB", [(80e9, "B")]),
        ("1.5 GiB", [(1.5 * 2**30, "B")]),
        ("28.4 BLEU", [(28.4, "BLEU")]),
        ("2.8 ppl", [(2.8, "ppl")]),
        ("3e-4", [(3e-4, "")]),
        ("1.2 × 10^-3", [(1.2e-3, "")]),
        ("10^5", [(1e5, "")]),
        ("10⁻⁴", [(1e-4, "")]),
        ("2^20", [(2**20, "")]),
        ("12–15%", [(12, "%"), (15, "%")]),
        ("from 12 to 15%", [(12, "%"), (15, "%")]),
        ("350-700M tokens", [(350e6, ""), (700e6, "")]),
        ("3.2 ± 0.1 points", [(3.2, "pp"), (0.1, "pp")]),
        ("512x512", [(512, ""), (512, "")]),
        ("2048x1024", [(2048, ""), (1024, "")]),
        ("8xA100-80GB", [(8, "")]),
        ("4-bit", [(4, "bit")]),
        ("two stages", [(2, "")]),
        ("twenty-one tasks", [(21, "")]),
        ("a dozen", [(12, "")]),
        ("ranked third", [(3, "ordinal")]),
        ("the 5th", [(5, "ordinal")]),
        ("$100 a month", [(100, "USD")]),
        ("a loss of -2.5", [(-2.5, "")]),
        ("<0.005%", [(0.005, "%")]),
        ("2,048 tokens", [(2048, "")]),
        ("2048 tokens", [(2048, "")]),
        ("2020 images", [(2020, "")]),
        # Korean
        ("1만", [(1e4, "")]),
        ("3천", [(3e3, "")]),
        ("70억(7B)개", [(7e9, ""), (7e9, "")]),
        ("1만 5천 개", [(15e3, "")]),
        ("1억 2천만 개", [(1.2e8, "")]),
        ("3백만 장", [(3e6, "")]),
        ("1,200만", [(12e6, "")]),
        ("3.2배 증가", [(3.2, "x")]),
        ("두 배", [(2, "x")]),
        ("세 단계", [(3, "")]),
        ("85점을", [(85, "pp")]),
        ("2%포인트", [(2, "pp")]),
        ("2.5%p 높았습니다", [(2.5, "pp")]),
        ("정확도는 87%를", [(87, "%")]),
        ("15퍼센트로", [(15, "%")]),
        ("0.23초", [(0.23, "s")]),
        ("약 3시간이", [(3 * 3600, "s")]),
        ("4비트", [(4, "bit")]),
        ("배치 32", [(32, "")]),
    ],
)
def test_a_number_is_read_with_its_worth(text, expected):
    found = values(text)
    assert [unit for _, unit in found] == [unit for _, unit in expected]
    for (value, _), (wanted, _) in zip(found, expected, strict=True):
        assert math.isclose(value, wanted, rel_tol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "Qwen2.5-72B and GPT-4o on AIME2024, COCO-20^2, MMLU-Pro v2",
        "Llama 3.1 and Stable Diffusion 3.5",
        "top-1, pass@1, CLIP ViT-B/16",
        "in 2024, since 1998 (2025)",
        "Table 3, Fig. 2, Section 4.1, Eq. (5), stage 2",
        "[12] and [3, 4, 5]",
        "1. Look here. 2. Look there.",
        "employs: 1) this, 2) that, and 3) those",
        "as follows: (1) this; (2) that",
        "i) one thing ii) another thing",
        "2D, 3D and 4o",
        "released 2025-05-07 as version 1.2.3",
        "arXiv:2505.12345",
        "https://example.org/a/12/b34",
        "O(1) per token",
        "one of the best",
        "First, we look; second, we leap",
        "2024년 5월 3일",
        "α2 and x^2",
    ],
)
def test_what_measures_nothing_is_no_number(text):
    assert values(text) == []


def test_digits_that_begin_a_run_are_numbers_and_letters_that_begin_it_make_a_name():
    assert values("77B parameters, 2x, 7B") == [(77e9, ""), (2, "x"), (7e9, "")]
    assert values("a 72B Qwen2.5 model (QRWKV6-72B-Instruct)") == [(72e9, "")]


def test_names_come_from_title_and_abstract_but_never_numbers():
    names = names_of("EXAONE 3.5: Models of 77B with BitNet v2 at 87.5%", "We test on AIME2024 with 512x512.")
    assert set(names) == {"EXAONE 3.5", "BitNet v2", "v2", "AIME2024"}
    assert values("EXAONE 3.5 has 3.5 points", names=names) == [(3.5, "pp")]


def test_precision_is_the_worth_of_the_last_digit():
    found = {one.text: one for one in extract_numbers("7B, 61K+, 2.80%, 53.1 ms, 1,000 and 3.20e-4")}
    assert [one.precision for one in found.values()] == pytest.approx([1e9, 1e3, 0.01, 1e-4, 1, 1e-6])
    assert [one.significant for one in found.values()] == [1, 2, 3, 3, 4, 3]
    assert found["61K+"].bound == "lower"


def test_about_and_more_than_are_heard():
    about, more = extract_numbers("about 60,000 rows and more than 90%")
    assert about.loose
    assert more.bound == "lower"


units = st.sampled_from(["", "%", " ms", "x", " GB", " points", "K", "B"])


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.integers(0, 4), units, st.booleans()), min_size=1, max_size=6
    )
)
def test_places_are_exact_and_values_are_those_written(rows):
    """Against decimal arithmetic on what was written."""
    worth = {
        "": 1,
        "%": 1,
        " ms": Decimal("0.001"),
        "x": 1,
        " GB": 10**9,
        " points": 1,
        "K": 1000,
        "B": 10**9,
    }
    text, expected = "The gadget holds", []
    for digits, decimals, unit, grouped in rows:
        value = Decimal(digits).scaleb(-decimals)
        written = f"{value:,f}" if grouped else f"{value:f}"
        if not (unit or decimals or grouped) and 1900 <= digits < 2100:
            written = f"{value:,f}"  # bare, it would be a year
        text += f" some {written}{unit} thing,"
        expected.append((written + unit, float(value * worth[unit])))
    found = extract_numbers(text)
    assert [one.text for one in found] == [written for written, _ in expected]
    for one, (_, value) in zip(found, expected, strict=True):
        assert text[one.start : one.end] == one.text
        assert math.isclose(one.value, value, rel_tol=1e-12)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_text_gives_places_inside_it_in_order(text):
    end = 0
    for number in extract_numbers(text):
        assert end <= number.start < number.end <= len(text)
        assert text[number.start : number.end] == number.text
        assert math.isfinite(number.value)
        end = number.end


@pytest.mark.parametrize(
    "text", ["1e999", "9" * 400, "9" * 400 + "B", "10^999", "99^99", "1 × 10^-400", "0^-3", "0^5"]
)
def test_numbers_beyond_all_measure_are_none_or_finite(text):
    assert all(math.isfinite(number.value) for number in extract_numbers(text))


@pytest.mark.parametrize(
    "unit",
    [
        "a1",
        "1,",
        "(1)",
        "1.",
        "...",
        "1-",
        "1x",
        "2^",
        "| 1 ",
        " ",
        "1 to ",
        "e.g. ",
        "1만 ",
        "§ 3",
        "[1",
        "-",
        "1e",
        ", ing",
    ],
)
def test_long_hostile_runs_are_read_in_time(unit):
    """Eighty thousand characters of one run, which a search that grows with the square would not come back from."""
    text = f"A gadget of 41% {unit * (80_000 // len(unit))}x 3 ends."
    index = PaperIndex.of(text, title="A Gadget")
    grounding = ground({"r": "The gadget has 41% of it."}, index, text="full text")
    assert [(one.text, one.word) for one in grounding.numbers] == [("41%", "exact")]
    assert len(without_clauses(text[:8000], [(12, 15)])) < 8000
