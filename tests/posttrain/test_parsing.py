from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.posttrain.parsing import find_json_object, find_tag

PROSE = st.text(alphabet=st.characters(exclude_characters='{}[]"/#\\', exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(before=PROSE, held=st.dictionaries(st.text(), VALUES), after=PROSE)
def test_an_object_is_found_in_any_prose(before, held, after):
    text = before + json.dumps(held) + after
    assert find_json_object(text) == held
    assert find_json_object(text, strict=False) == held


def test_braces_that_open_nothing_are_passed_over():
    assert find_json_object('let S = {1, 2}; ```json\n{"a": [1]}\n```') == {"a": [1]}
    assert find_json_object("no object [1, 2] here") is None
    assert find_json_object('{"a": 1') is None
    assert find_json_object("{" * 50_000) is None  # neither slow nor too deep


def test_comments_are_taken_out_only_where_allowed():
    text = '{"a": "x // y # z", // the first\n "b": 2 # the second\n}'
    assert find_json_object(text) is None
    assert find_json_object(text, strict=False) == {"a": "x // y # z", "b": 2}


def test_tags_strict_and_lenient():
    twice = "<answer>1</answer> no, <answer> 2 </answer>"
    assert find_tag(twice, "answer") is None
    assert find_tag(twice, "answer", strict=False) == "2"
    assert find_tag("<think>a</think><answer>\n3\n</answer>", "answer") == "3"
    assert find_tag("<answer>open", "answer") is None
    assert find_tag("</answer>x<answer>", "answer", strict=False) is None
    assert find_tag("<answer>1</answer>", "Answer", strict=False) is None
    with pytest.raises(BadInputError, match="without angle brackets"):
        find_tag("x", "<answer>")
