from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.classes import BY_FILE_NAME
from papertrial.posttrain.prmbench.derivations import (
    FOREIGN_OPERATIONS,
    HIGHEST,
    INVERSE,
    LARGEST_CONSTANT,
    LOWEST,
    OPERATIONS,
    Definition,
    apply_operation,
    in_range,
    make_problem,
)
from papertrial.posttrain.prmbench.evaluation import evaluate
from papertrial.posttrain.prmbench.injectors import correct_solution, error_count, error_places, inject
from papertrial.posttrain.prmbench.oracle import DerivationOracle
from papertrial.posttrain.prmbench.procedural import (
    ERROR_CLASSES,
    correct_texts,
    derivation_tokenizer,
    make_rows,
)
from papertrial.posttrain.prmbench.rows import items_of
from papertrial.posttrain.steps import Solution

LENGTHS = st.integers(5, 8)
SEEDS = st.integers(0, 10**6)


@pytest.mark.parametrize("length", [5, 6, 7, 8])
def test_a_checker_that_does_every_step_again_agrees_with_every_label(length):
    """The oracle reads text and shares nothing with the generator: labels and texts must both be right."""
    items = items_of(make_rows(60, seed=length, lengths=(length,)), strict=True)[0]
    report = evaluate(DerivationOracle(), items).report
    assert report.prm_score() == 100
    assert report.total.first_error_accuracy == 1
    assert all(report.prm_score(kind) == 100 for kind in report.by_kind)


@settings(max_examples=50)
@given(seed=SEEDS, length=LENGTHS)
def test_problems_are_consistent(seed, length):
    problem = make_problem(np.random.default_rng(seed), length)
    rules = (*problem.core, *problem.alternatives, *problem.descendants)
    for rule in rules:
        assert problem.values[rule.name] == rule.value(problem.values[rule.source])
        assert LOWEST <= problem.values[rule.name] <= HIGHEST
        assert 1 <= rule.constant <= LARGEST_CONSTANT
    assert len({str(rule) for rule in rules}) == len(rules)
    assert len(problem.core) == length
    assert len(problem.descendants) == 2
    steps = correct_solution(np.random.default_rng(seed), problem)
    known = set(problem.givens)
    for step in steps:
        assert step.definition.source in known
        known.add(step.definition.name)


def test_every_injection_is_possible_everywhere():
    """Brute force over all values and constants: an injector is never left without a wrong choice."""
    for value in range(LOWEST, HIGHEST + 1):
        for constant in range(1, LARGEST_CONSTANT + 1):
            foreign = [apply_operation(sign, value, constant) for sign in FOREIGN_OPERATIONS]
            assert any(in_range(result) and result != value for result in foreign)
            for sign in OPERATIONS:
                rule = Definition("b", "a", sign, constant)
                if in_range(rule.value(value)):
                    other = apply_operation(INVERSE[sign], value, constant)
                    assert any(in_range(one) for one in (other, rule.value(rule.value(value))))


@settings(max_examples=40)
@given(seed=SEEDS, length=LENGTHS, kind=st.sampled_from(ERROR_CLASSES))
def test_each_injector_plants_its_own_kind_of_error(seed, length, kind):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, length)
    edited = inject(rng, problem, kind)
    known = {name: problem.values[name] for name in problem.givens}
    stated = {(rule.name, rule.source) for rule in (*problem.core, *problem.alternatives)}
    for place, step in enumerate(edited.steps, start=1):
        rule = step.definition
        if place not in edited.errors:
            known[rule.name] = step.result
            continue
        right = step.result == rule.value(step.source_value)
        found = {
            "redundency": rule.name in known and right,
            "circular": rule.source not in known and right,
            "counterfactual": not right,
            "confidence": not right and step.opening in ("yes", "sure", "certainly"),
            "step_contradiction": right and step.source_value != known.get(rule.source),
            "domain_inconsistency": right and rule.operator in FOREIGN_OPERATIONS,
            "missing_condition": right and rule.name in edited.dropped,
            "deception": right and (rule.name, rule.source) not in stated and rule.source in known,
        }
        assert found[kind], (kind, str(step))
    assert 1 <= len(edited.errors) <= 2


@settings(max_examples=30)
@given(seed=SEEDS, length=LENGTHS)
def test_another_solution_has_no_error_and_the_same_values(seed, length):
    rng = np.random.default_rng(seed)
    problem = make_problem(rng, length)
    edited = inject(rng, problem, "multi_solutions")
    assert edited.errors == ()
    assert {step.definition.name: step.result for step in edited.steps} == {
        rule.name: problem.values[rule.name] for rule in problem.core
    }


def test_place_and_length_of_errors_tell_nothing():
    """Errors lie everywhere alike, and as often in short as in long solutions."""
    items = [one for one in items_of(make_rows(300, seed=0))[0] if one.errors]
    relative, by_length = Counter(), {}
    for item in items:
        relative.update((len(item.steps), place) for place in item.errors)
        wrong, steps = by_length.get(len(item.steps), (0, 0))
        by_length[len(item.steps)] = (wrong + len(item.errors), steps + len(item.steps))
    counts = Counter(len(item.steps) for item in items)
    for length in (5, 6):
        expected = sum(relative[length, place] for place in range(1, length + 1)) / length
        for place in range(1, length + 1):
            # Poisson noise of about 200 errors a place: five standard deviations
            assert abs(relative[length, place] - expected) < 5 * expected**0.5, (length, place)
        wrong, steps = by_length[length]
        assert counts[length] > 500
        assert wrong / steps == pytest.approx(0.2, abs=0.02)
    wrong_lengths = [len(item.steps[place - 1]) for item in items for place in item.errors]
    all_lengths = [len(step) for item in items for step in item.steps]
    # lengths differ by opening words only, with a standard deviation of 2.6 characters
    assert np.mean(wrong_lengths) == pytest.approx(np.mean(all_lengths), abs=0.25)


def test_the_draws_of_count_and_places_are_even():
    rng = np.random.default_rng(0)
    counts = [error_count(rng, 7, 0.2) for _ in range(20_000)]
    assert set(counts) == {1, 2}
    assert np.mean(counts) == pytest.approx(1.4, abs=0.02)  # standard error 0.0035
    places = Counter(place for _ in range(20_000) for place in error_places(rng, 5, 2))
    assert set(places) == set(range(5))
    assert max(places.values()) - min(places.values()) < 600  # standard deviation about 70 each


def test_rows_are_in_the_official_format():
    rows = make_rows(30, seed=0)
    assert {row["classification"] for row in rows} == set(BY_FILE_NAME)
    for row in rows:
        same = row["modified_question"] == row["original_question"]
        assert same == (row["classification"] != "missing_condition")
    first = rows[:8]
    assert len({row["original_question"] for row in first}) == 1
    assert len({tuple(row["original_process"]) for row in first}) == 1


def test_a_longer_benchmark_begins_with_a_shorter():
    assert make_rows(5, seed=3)[:8] == make_rows(1, seed=3)[:8]
    assert make_rows(1, seed=3) != make_rows(1, seed=4)
    assert correct_texts(3, seed=1)[:2] == correct_texts(2, seed=1)


def test_the_tokenizer_knows_every_text():
    tokenizer = derivation_tokenizer()
    rows = make_rows(60, seed=1, lengths=(5, 6, 7, 8))
    texts = [text for row in rows for text in (row["modified_question"], *row["modified_process"])]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert not any(tokenizer.unk_token_id in one for one in ids)
    assert tokenizer.tokenize("now b = a + 3 = 24 + 3 = 27") == ["now", "b =", "a", "+ 3", "24", "+ 3", "27"]
    assert tokenizer.tokenize("b := a ^ 1 . c = 12") == ["b :=", "a", "^ 1", "c =", "12"]


def test_the_oracle_accepts_no_other_text():
    question = "a = 20 . b := a + 3 . c := b - 1"
    good = ["now b = a + 3 = 20 + 3 = 23", "yes c = b - 1 = 23 - 1 = 22"]
    scorer = DerivationOracle()
    assert scorer.score(question, good).validity.tolist() == [1, 1]
    assert scorer.score(question, good[::-1]).validity.tolist() == [0, 1]
    for bad in ("b = 23", "now b = a + 3 = 20 + 3 = 24", "now b = a + 3 = 20 + 2 = 22", ""):
        assert scorer.score(question, [bad]).validity.tolist() == [0]
    assert scorer.score_all([Solution("", ("x",))])[0].validity.tolist() == [0]


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(BadInputError, match="problems must be at least 1"):
        make_rows(0, seed=0)
    with pytest.raises(BadInputError, match="length must be between 5 and 8 steps, got 4"):
        make_rows(1, seed=0, lengths=(4,))
    rng = np.random.default_rng(0)
    with pytest.raises(BadInputError, match="classification must be one of"):
        inject(rng, make_problem(rng, 5), "correct")
    with pytest.raises(BadInputError, match="operator must be one of"):
        apply_operation("/", 1, 2)
