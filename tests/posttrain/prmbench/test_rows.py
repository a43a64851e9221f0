from __future__ import annotations

import json

import pytest

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.classes import CLASSES, GROUPS, class_named
from papertrial.posttrain.prmbench.rows import items_of, read_rows, write_rows


def test_nine_classes_in_three_groups():
    assert [sum(one.group == group for one in CLASSES) for group in GROUPS] == [2, 4, 3]
    assert [one.short for one in CLASSES] == ["NR", "NCL", "ES", "SC", "DC", "CI", "PS", "DR", "MS"]
    assert [one.short for one in CLASSES if one.judged_by_redundancy] == ["NR", "NCL"]
    assert class_named("redundancy") is class_named("redundency") is CLASSES[0]
    with pytest.raises(BadInputError, match="did you mean redundency"):
        class_named("redundent")


def test_a_row_becomes_an_item(row):
    items, oddities = items_of([row()])
    (item,) = items
    assert item.id == "counterfactual_prm_test_x_1"
    assert item.errors == (2, 3)
    assert item.first_listed == 2
    assert oddities.as_table() == []
    assert (oddities.rows, oddities.steps) == (1, 3)


def test_a_redundancy_row_brings_its_control(row):
    items, _ = items_of([row(classification="redundancy"), row()])
    assert [item.id for item in items] == [
        "correct_prm_test_x_1",
        "redundency_prm_test_x_1",
        "counterfactual_prm_test_x_1",
    ]
    assert items[0].steps == ("2p = 6.", "p = 3.")
    assert items[0].errors == ()


def test_the_first_of_two_rows_with_one_id_counts(row):
    items, oddities = items_of([row(), row(error_steps=[1])])
    assert len(items) == 1
    assert items[0].errors == (2, 3)
    assert oddities.duplicate_ids == [items[0].id]
    assert oddities.rows == 2


def test_errors_that_point_nowhere_are_ignored_and_reported(row):
    rows = [row(error_steps=[0, 2, 9, "3", 2.0, True], modified_process=["a", " ", "b"])]
    items, oddities = items_of(rows)
    assert items[0].errors == (2,)
    assert oddities.out_of_range == {items[0].id: [0, 9]}
    assert oddities.not_integers == {items[0].id: ["3", 2.0, True]}
    assert oddities.blank_steps == {items[0].id: [2]}
    assert len(oddities.as_table()) == 3
    with pytest.raises(BadInputError, match="2 irregular rows; the first: error step beyond"):
        items_of(rows, strict=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"idx": 3}, "'idx' must be a text"),
        ({"modified_question": None}, "'modified_question' must be a text"),
        ({"modified_process": []}, "'modified_process' must be a non-empty list of texts"),
        ({"original_process": ["a", 1]}, "'original_process' must be a non-empty list of texts"),
        ({"error_steps": None}, "'error_steps' must be a list"),
        ({"classification": "x"}, "unknown classification 'x'"),
    ],
)
def test_a_row_that_is_none_is_refused(row, changed, message):
    with pytest.raises(BadInputError, match=message):
        items_of([row(**changed)])


def test_rows_survive_a_file(row, tmp_path):
    rows = [row(reason="線\u2028 separator and \x85 kept"), row(idx="other")]
    write_rows(rows, tmp_path / "b.jsonl")
    write_rows([row(idx="first")], tmp_path / "a.jsonl")
    assert read_rows(tmp_path / "b.jsonl") == rows
    assert [one["idx"] for one in read_rows(tmp_path)] == ["first", "prm_test_x_1", "other"]


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(BadInputError, match="there is no file or folder"):
        read_rows(tmp_path / "none")
    with pytest.raises(BadInputError, match=r"has no \.jsonl files"):
        read_rows(tmp_path)
    file = tmp_path / "x.jsonl"
    file.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(BadInputError, match=r"x\.jsonl:3 is not JSON"):
        read_rows(file)
    file.write_text("[1]\n")
    with pytest.raises(BadInputError, match=r"x\.jsonl:1 is not a JSON object but list"):
        read_rows(file)
    file.write_bytes(b"\xff\n")
    with pytest.raises(BadInputError, match="cannot read"):
        read_rows(file)


def test_no_released_row_is_lost(shared_data):
    rows = read_rows(shared_data("prmbench"))
    items, oddities = items_of(rows)
    assert oddities.rows == len(rows) == 718 + 165
    edited = [item for item in items if item.classification != "correct"]
    assert len(edited) == 718 + 160  # five rows of multi_solutions come twice
    assert sum(item.classification == "correct" for item in items) == 90
    assert len(oddities.duplicate_ids) == 5
    assert len(oddities.out_of_range) == 21  # counted in the data's own notes
    assert oddities.not_integers == {}
    assert list(oddities.blank_steps) == ["deception_prm_test_p1_87"]
    assert oddities.steps == sum(len(json.loads(json.dumps(row))["modified_process"]) for row in rows)
    assert sum(item.first_listed > 0 and item.first_listed not in item.errors for item in edited) == 2
