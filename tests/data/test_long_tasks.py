from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.data.long_tasks import MAKERS, LongTask, load_tasks, make_task, score
from papertrial.errors import BadInputError


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(sorted(MAKERS)), length=st.integers(500, 3000), seed=st.integers(0, 99))
def test_length_is_kept_and_nearly_reached(name, length, seed):
    task = make_task(name, length, seed)
    assert task.length == len(task.input.split()) <= length
    # One more sentence (eight words) or one more unit of a word list (under forty) would be too long.
    assert task.length > length - 40
    assert task == make_task(name, length, seed)
    assert task.input != make_task(name, length, seed + 1).input


@pytest.mark.parametrize("seed", range(5))
def test_the_needle_is_there_and_is_the_answer(seed):
    task = make_task("needle", 800, seed)
    key = re.search(r"is the access code of (\w+)\?", task.input)[1]
    assert re.findall(rf"The access code of {key} is (\d+)\.", task.input) == list(task.outputs)


@pytest.mark.parametrize("seed", range(5))
def test_variables_are_tracked_by_an_interpreter(seed):
    task = make_task("variable-tracking", 800, seed)
    held: dict[str, str] = {}
    for name, source in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)\.", task.input):
        held[name] = source if source.isdigit() else held[source]
    value = re.search(r"which variables hold (\d+)\?", task.input)[1]
    assert {name for name, one in held.items() if one == value} == set(task.outputs)
    assert len(task.outputs) == 5
    assert len(held) == 10


@pytest.mark.parametrize(("name", "number"), [("common-words", 10), ("frequent-words", 3)])
@pytest.mark.parametrize("length", [450, 3000])
def test_words_are_counted(name, number, length):
    task = make_task(name, length, 1)
    counts = Counter(word for word in task.input.split("\n")[1].split() if word != "...").most_common()
    assert {word for word, _ in counts[:number]} == set(task.outputs)
    assert counts[number - 1][1] > counts[number][1]


def test_a_tokenizer_may_count():
    task = make_task("needle", 4000, 0, count=len)
    assert task.length == len(task.input) <= 4000


def test_what_cannot_be_made_is_refused():
    with pytest.raises(BadInputError, match="unknown long-context task 'needles'; did you mean needle"):
        make_task("needles", 100, 0)
    with pytest.raises(BadInputError, match=r"needle needs at least \d+ tokens, got length=10"):
        make_task("needle", 10, 0)


def test_scores_are_rulers_two_rules():
    assert score("It is AB, cd and more", ["ab", "CD", "EF"]) == pytest.approx(2 / 3)
    assert score("It is AB", ["x", "ab"], match="any") == 1.0
    assert score("no", ["x", "ab"], match="any") == 0.0
    with pytest.raises(BadInputError, match="without gold words"):
        score("x", [])


@pytest.mark.parametrize(
    ("file", "length", "first", "words"),
    [("ruler_vt_120k.json", 119_794, "UNPJQ", 5), ("ruler_fwe_120k.json", 119_696, "rooafc", 3)],
)
def test_the_official_files_load(shared_data, file, length, first, words):
    (task,) = load_tasks(shared_data("retroinfer") / file)
    assert (task.index, task.length, len(task.outputs), task.outputs[0]) == (0, length, words, first)
    assert all(word in task.input for word in task.outputs)
    assert score(" ".join(task.outputs), task.outputs) == 1.0


def test_the_official_answers_follow_from_the_official_texts(shared_data):
    (task,) = load_tasks(shared_data("retroinfer") / "ruler_vt_120k.json")
    text = task.input[task.input.rindex("Memorize and track") :]
    value = re.search(r"assigned the value (\d+) in the text", text)[1]
    held: dict[str, str] = {}
    for name, source in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", text):
        held[name] = source if source.isdigit() else held[source]
    assert {name for name, one in held.items() if one == value} == set(task.outputs)
    (task,) = load_tasks(shared_data("retroinfer") / "ruler_fwe_120k.json")
    body = task.input[task.input.index(".") + 1 : task.input.rindex("Question:")]
    body = body[body.index("coded words.") + 12 :]
    counts = Counter(word for word in body.split() if word.strip("."))
    assert {word for word, _ in counts.most_common(3)} == set(task.outputs)


def test_lists_and_lines_load_too(tmp_path):
    records = [{"input": "a", "outputs": ["b"]}, {"input": "c", "outputs": ["d"], "index": 7, "length": 2}]
    expected = [LongTask("a", ("b",), 0, 0), LongTask("c", ("d",), 2, 7)]
    (tmp_path / "tasks.json").write_text(json.dumps(records))
    (tmp_path / "tasks.jsonl").write_text("\n".join(json.dumps(r) for r in records) + "\n\n")
    assert load_tasks(tmp_path / "tasks.json") == load_tasks(tmp_path / "tasks.jsonl") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no task"),
        ("[3]", "task 0 of .* is int, not an object"),
        ('{"outputs": ["x"]}', "no text under 'input'"),
        ('{"input": "x", "outputs": "y"}', "no list of words under 'outputs'"),
        ('{"input": "x", "outputs": []}', "no list of words under 'outputs'"),
        ('{"input": "x", "outputs": ["y"], "length": "9"}', "must be whole numbers"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, said):
    path = tmp_path / "tasks.json"
    path.write_text(text)
    with pytest.raises(BadInputError, match=said):
        load_tasks(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInputError, match="no task file at"):
        load_tasks(tmp_path / "none.json")
