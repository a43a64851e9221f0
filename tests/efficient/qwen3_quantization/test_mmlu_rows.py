from __future__ import annotations

import csv

import pytest

from papertrial.efficient.evaluation.mmlu_files import load_mmlu


def test_the_supplied_rows_are_read_whole(shared_data):
    subjects = load_mmlu(shared_data("qwen3_quantization") / "mmlu")
    assert len(subjects) == 57
    assert sum(len(subject.examples) for subject in subjects) == 285
    assert sum(len(subject.questions) for subject in subjects) == 1140


def test_choices_that_read_as_missing_stay_text(shared_data):
    folder = shared_data("qwen3_quantization") / "mmlu"
    missing = {"", "NA", "N/A", "nan", "NaN", "null", "None", "n/a", "NULL"}  # what pandas takes for nothing
    found = []
    for file in sorted(folder.glob("*/*.csv")):
        with file.open(newline="", encoding="utf-8") as rows:
            found += [(file, row) for row in csv.reader(rows) if missing.intersection(row)]
    if not found:
        pytest.skip("no sampled row has such a choice")
    subjects = {subject.name: subject for subject in load_mmlu(folder)}
    for file, row in found:
        name, _, part = file.stem.rpartition("_")
        subject = subjects[name]
        questions = subject.examples if part == "dev" else subject.questions
        choices = {tuple(question.choices) for question in questions}
        assert tuple(row[1:5]) in choices
