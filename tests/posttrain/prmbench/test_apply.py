from __future__ import annotations

import json

import numpy as np
import pytest

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.apply import ScoreSteps, read_solutions, scored_row
from papertrial.posttrain.step_conventions import load_step_scorer
from papertrial.posttrain.steps import StepScorer, StepScores

ROWS = [
    {"question": "1+1?", "steps": ["Add.", "2."], "mine": 7},
    {"question": "1+1?", "steps": ["3."]},
    {"question": "long", "steps": ["x" * 500]},
]


def silent(done, total, what=""):
    """Take no notice."""


@pytest.fixture
def checkpoint(tmp_path, tokenizer, classifier):
    tokenizer.save_pretrained(tmp_path / "prm")
    classifier.save_pretrained(tmp_path / "prm")
    return tmp_path / "prm"


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


def test_solutions_are_scored_and_written_again(tmp_path, checkpoint, data):
    out = tmp_path / "made" / "scored.jsonl"
    deed = ScoreSteps(str(checkpoint), data, out, convention="trl", max_tokens=200)
    facts = deed.run(silent)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    scorer = load_step_scorer(str(checkpoint), "trl")
    for row, made in zip(ROWS[:2], written, strict=False):
        expected = scorer.score(row["question"], row["steps"])
        # one forward pass of another shape, in float32
        np.testing.assert_allclose(made["validity"], expected.validity, rtol=1e-4)
        assert made["good"] == [value > 0.5 for value in made["validity"]]
        assert "redundancy" not in made
    assert written[0]["mine"] == 7
    assert "at most 200 are read" in written[2]["unscored"]
    assert facts["solutions"] == 3
    assert facts["unscored"] == 1
    assert facts["steps"] == 3
    with pytest.raises(BadInputError, match="is there already"):
        deed.run(silent)


def test_a_threshold_of_ones_own(tmp_path, checkpoint, data):
    facts = ScoreSteps(str(checkpoint), data, tmp_path / "a", "trl", threshold=-1.0, max_tokens=200).run(
        silent
    )
    assert facts["good steps"] == facts["steps"] == 3
    assert facts["threshold"] == -1.0


def test_redundancy_is_written_where_it_is_judged():
    class Both(StepScorer):
        redundancy_threshold = 0.15

        def score_all(self, solutions, on_scored=None):
            raise NotImplementedError

    made = scored_row({"question": "q"}, StepScores(np.array([0.6]), np.array([0.2])), Both())
    assert made == {
        "question": "q",
        "validity": [0.6],
        "good": [True],
        "redundancy": [0.2],
        "redundant": [True],
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"steps": ["a"]}', r"bad\.jsonl:1: 'question' must be a text"),
        ('{"question": "q"}', r"bad\.jsonl:1: 'steps' must be a non-empty list"),
        ('{"question": "q", "steps": []}', "'steps' must be a non-empty list"),
        ('{"question": "q", "steps": [1]}', "'steps' must be a non-empty list"),
        ("{", r"bad\.jsonl:1 is not JSON"),
        ("", "holds no solutions"),
    ],
)
def test_files_that_hold_no_solutions_are_refused(tmp_path, line, message):
    file = tmp_path / "bad.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(BadInputError, match=message):
        read_solutions(file)


def test_settings_that_cannot_work_are_refused(tmp_path, data):
    with pytest.raises(BadInputError, match="there is no file"):
        ScoreSteps("m", tmp_path / "none", tmp_path / "out").run(silent)
    with pytest.raises(BadInputError, match="batch must be at least 1"):
        ScoreSteps("m", data, tmp_path / "out", batch=0).run(silent)
