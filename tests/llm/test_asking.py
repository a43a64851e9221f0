"""JSON out of what models say: found, checked, repaired once."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.llm import (
    ChatModelError,
    InvalidAnswerError,
    Scripted,
    complete_json,
    find_json,
    schema_problem,
)

ASK = [{"role": "user", "content": "Give a."}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
# Around JSON models write prose; brackets of its own would make another value the right answer.
prose = st.text(alphabet="abc .,:!\n\"'`", max_size=40)


@given(
    value=st.dictionaries(st.text(max_size=5), values, min_size=1, max_size=3),
    before=prose,
    after=prose,
    fenced=st.booleans(),
)
def test_an_object_is_found_in_whatever_stands_round_it(value, before, after, fenced):
    text = json.dumps(value, ensure_ascii=False, indent=1)
    shown = f"\n```json\n{text}\n```\n" if fenced else text
    # a fence of the prose's own, or one inside a string, ends another fence early: that is no longer ours to find
    if "```" not in before + after + text:
        assert find_json(f"{before}{shown}{after}") == value


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ('<think>maybe {"a": 9}</think>\n{"a": 1}', {"a": 1}),
        ('{"a": 1,}', {"a": 1}),
        ('Sure: {"a": [1, 2,], "b": ",}"}', {"a": [1, 2], "b": ",}"}),
        ('{"a": "two\nlines"}', {"a": "two\nlines"}),
        ('Use {} like so: {"a": 1}', {"a": 1}),
        ('[1] says: {"a": 1}', {"a": 1}),
        ("```\n[1, 2]\n```", [1, 2]),
    ],
)
def test_common_untidiness_is_forgiven(said, value):
    assert find_json(said) == value


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "empty"),
        ("<think>only thoughts</think>", "empty"),
        ("I cannot.", "holds no JSON"),
        ('{"a": ', "cut off or broken"),
        ('{"a": NaN}', "cut off or broken"),
        ("42", "holds no JSON"),
    ],
)
def test_what_holds_no_json_is_said(said, why):
    with pytest.raises(InvalidAnswerError, match=why):
        find_json(said)


@pytest.mark.parametrize(
    "attack", ["{" * 100_000, '{"a":' * 50_000, "[" * 100_000, "{}" * 50_000, '"' * 50_001, '{",' * 50_000]
)
def test_hostile_answers_end_soon(attack):
    began = time.monotonic()
    with suppress(InvalidAnswerError):
        find_json(attack)
    assert time.monotonic() - began < 10  # seconds; a blow-up takes minutes


def test_a_fitting_answer_is_asked_for_once():
    model = Scripted(['{"a": 1}'])
    assert complete_json(model, ASK, SCHEMA) == {"a": 1}
    assert model.calls == [(ASK, SCHEMA)]


@pytest.mark.parametrize(
    ("first", "wrong"), [('{"a": "x"}', "at a: 'x' is not of type 'integer'"), ("none", "no JSON")]
)
def test_a_wrong_answer_is_shown_to_the_model_with_what_is_wrong(first, wrong):
    model = Scripted([first, '{"a": 2}'])
    assert complete_json(model, ASK, SCHEMA) == {"a": 2}
    again = model.calls[1][0]
    assert again[:2] == [ASK[0], {"role": "assistant", "content": first}]
    assert wrong in again[2]["content"]


@pytest.mark.parametrize("repair", [0, 1, 2])
def test_repairs_are_bounded(repair):
    model = Scripted(lambda messages: "{}")
    with pytest.raises(InvalidAnswerError, match="'a' is a required property"):
        complete_json(model, ASK, SCHEMA, repair=repair)
    assert len(model.calls) == 1 + repair


def test_what_the_model_raises_passes_through():
    with pytest.raises(ChatModelError, match="overloaded"):
        complete_json(Scripted([ChatModelError("overloaded")]), ASK, SCHEMA)


def test_bad_requests_are_refused():
    with pytest.raises(BadInputError, match="not a JSON schema"):
        complete_json(Scripted([]), ASK, {"type": "no such type"})
    with pytest.raises(BadInputError, match="repair"):
        complete_json(Scripted([]), ASK, SCHEMA, repair=-1)


def test_a_schema_problem_is_one_short_line():
    assert schema_problem({"a": 1}, SCHEMA) is None
    problem = schema_problem({"a": "x\n" * 2000}, SCHEMA)
    assert "\n" not in problem
    assert len(problem) < 300
