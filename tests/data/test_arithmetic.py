from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.data.arithmetic import OPERATIONS, compute, make_derivation, step_text
from papertrial.data.sums import make_sum, sum_documents
from papertrial.errors import BadInputError

SYMBOLS = {"add": "add", "subtract": "subtract", "multiply": "multiply by", "divide": "divide by"}


def by_counting(operation: str, left: int, right: int) -> int:
    """Compute with nothing but lengths of lists: no operator of the code under test."""
    pile = [None] * left
    if operation == "add":
        return len(pile + [None] * right)
    if operation == "subtract":
        return len(pile[right:])
    if operation == "multiply":
        return len([None for _ in range(right) for _ in pile])
    return len(pile[::right])  # every right-th: left / right where that comes out even


@given(st.integers(0, 10**9), st.integers(1, 30), st.sampled_from([50, 999, 5000]))
@settings(deadline=None)
def test_every_value_is_true_and_in_range(seed, length, largest):
    derivation = make_derivation(random.Random(seed), length, largest=largest)
    assert len(derivation.steps) == length
    value = derivation.steps[0].left
    for step in derivation.steps:
        assert step.left == value
        value = by_counting(step.operation, step.left, step.right)
        assert step.result == value
        assert 0 <= value <= largest
        if step.operation == "divide":
            assert step.left == by_counting("multiply", value, step.right)
    assert derivation.answer == value


@given(st.integers(0, 10**9))
@settings(deadline=None)
def test_no_step_does_nothing(seed):
    for step in make_derivation(random.Random(seed), 12).steps:
        assert step.result != step.left


@given(st.integers(0, 10**9), st.booleans())
@settings(deadline=None)
def test_the_question_states_the_start_and_every_operand_in_order(seed, story):
    derivation = make_derivation(random.Random(seed), 6, story=story)
    numbers = [int(number) for number in re.findall(r"\d+", derivation.question)]
    assert numbers == [derivation.steps[0].left, *(step.right for step in derivation.steps)]


@given(st.integers(0, 10**9))
@settings(deadline=None)
def test_bare_instructions_name_every_operation(seed):
    derivation = make_derivation(random.Random(seed), 5, story=False)
    wanted = ", ".join(f"then {SYMBOLS[step.operation]} {step.right}" for step in derivation.steps)
    assert f"Start with {derivation.steps[0].left}, {wanted}." in derivation.question


@given(st.integers(0, 10**9))
@settings(deadline=None)
def test_a_steps_sentence_holds_its_numbers(seed):
    for step in make_derivation(random.Random(seed), 8).steps:
        numbers = sorted(int(number) for number in re.findall(r"\d+", step.text))
        assert numbers == sorted([step.left, step.right, step.result])


def test_one_state_gives_one_derivation():
    assert make_derivation(random.Random(3), 5) == make_derivation(random.Random(3), 5)
    assert make_derivation(random.Random(3), 5) != make_derivation(random.Random(4), 5)


def test_everything_that_can_occur_does():
    rng = random.Random(0)
    drawn = [make_derivation(rng, 4) for _ in range(400)]
    assert {step.operation for d in drawn for step in d.steps} == set(OPERATIONS)
    assert len({re.sub(r"\d+", "#", step.text) for d in drawn for step in d.steps}) == 12
    assert len({re.sub(r"\d+", "#", d.question) for d in drawn}) > 300


def test_operations_can_be_chosen():
    derivation = make_derivation(random.Random(0), 20, operations=("subtract", "add"))
    assert {step.operation for step in derivation.steps} == {"add", "subtract"}


def test_the_text_has_a_line_for_everything():
    derivation = make_derivation(random.Random(0), 3)
    first, *steps, last = derivation.text.split("\n")
    assert first == derivation.question
    assert steps == [step.text for step in derivation.steps]
    assert last == f"Answer: {derivation.answer}"


def test_a_false_step_can_be_said_too():
    assert step_text("add", 2, 2, 5) == "2 + 2 = 5."
    assert step_text("divide", 6, 3, 2, wording=4) == "Dividing 6 by 3 gives 2."


@pytest.mark.parametrize(("left", "right"), [(7, 2), (7, 0)])
def test_an_uneven_division_is_refused(left, right):
    with pytest.raises(BadInputError, match=f"7 cannot be divided evenly by {right}"):
        compute("divide", left, right)


@pytest.mark.parametrize(
    ("length", "settings", "words"),
    [
        (0, {}, "length must be at least 1 step, got 0"),
        (3, {"largest": 19}, "largest must be at least 20, got 19"),
        (3, {"operations": ()}, "operations must name at least one of add, subtract"),
        (3, {"operations": ("plus",)}, "unknown operation 'plus'"),
        (40, {"operations": ("multiply",)}, r"multiply cannot go on from \d+ below 999 \(step \d+ of 40\)"),
    ],
)
def test_what_cannot_be_made_is_said(length, settings, words):
    with pytest.raises(BadInputError, match=words):
        make_derivation(random.Random(0), length, **settings)


class TestSums:
    @given(st.integers(0, 10**9), st.integers(1, 6))
    @settings(deadline=None)
    def test_the_written_digits_are_the_answer(self, seed, digits):
        worked = make_sum(random.Random(seed), digits, "add")
        written = re.findall(r"write (\d)", "\n".join(worked.working))
        assert int("".join(reversed(written))) == worked.answer
        left, right = map(int, re.findall(r"\d+", worked.question))
        assert worked.answer == sum((left, right))
        for a, b, carried, total in re.findall(r": (\d) \+ (\d)(?: \+ (\d))? = (\d+)", worked.text):
            assert int(total) == sum(map(int, (a, b, carried or "0")))

    @given(st.integers(0, 10**9), st.integers(1, 4))
    @settings(deadline=None)
    def test_the_partial_products_add_up(self, seed, digits):
        worked = make_sum(random.Random(seed), digits, "multiply")
        left, right = map(int, re.findall(r"\d+", worked.question))
        parts = [
            tuple(map(int, line))
            for line in re.findall(r"(\d+) \* (\d+) = (\d+), (\d+) \+ (\d+) = (\d+)", worked.text)
        ]
        assert sum(factor for _, factor, *_ in parts) == right
        assert all(part == left * factor for _, factor, part, *_ in parts)
        assert parts[-1][-1] == worked.answer == left * right

    def test_short_numbers_occur_as_often_as_long_ones(self):
        rng = random.Random(0)
        lengths = [len(make_sum(rng, 4).question.split()[0]) for _ in range(1000)]
        # A number drawn with up to d digits can come out shorter, so the shortest are a little above a quarter.
        assert all(170 < lengths.count(length) < 330 for length in range(1, 5))

    def test_documents_are_seeded(self):
        assert sum_documents(20, 1) == sum_documents(20, 1) != sum_documents(20, 2)
        assert all("*" in text for text in sum_documents(5, operations=("multiply",)))

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda: make_sum(random.Random(0), 0), "digits must be between 1 and 6, got 0"),
            (lambda: make_sum(random.Random(0), 7), "digits must be between 1 and 6, got 7"),
            (lambda: make_sum(random.Random(0), 2, "divide"), "unknown operation 'divide'"),
            (lambda: sum_documents(0), "count must be at least 1"),
            (lambda: sum_documents(3, operations=()), "count must be at least 1 with an operation"),
        ],
    )
    def test_bad_input(self, call, words):
        with pytest.raises(BadInputError, match=words):
            call()
