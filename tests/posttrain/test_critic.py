from __future__ import annotations

import pytest

from papertrial.errors import BadInputError
from papertrial.posttrain.critic import CriticScorer, generate_answers, parse_judgement
from papertrial.posttrain.steps import Solution, StepScores, Unscored


def test_a_step_is_good_above_zero():
    scorer = CriticScorer(lambda messages: '{"validity": [0.5, 0, -1], "redundancy": [-1, 0.1, 0.0]}')
    scores = scorer.score("q", ["a", "b", "c"])
    assert isinstance(scores, StepScores)
    labels = scorer.label(scores)
    assert labels.good.tolist() == [True, False, False]
    assert labels.redundant.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I think it is fine.", "no JSON object"),
        ('{"validity": [1]}', "'redundancy' is no list of numbers"),
        ('{"validity": [1], "redundancy": [1, 1]}', "'redundancy' has 2 numbers for 1 steps"),
        ('{"validity": ["1"], "redundancy": [1]}', "'validity' is no list of numbers"),
        ('{"validity": [true], "redundancy": [1]}', "'validity' is no list of numbers"),
        ('{"validity": [NaN], "redundancy": [1]}', "'validity' is no list of numbers"),
        ('{"validity": 1, "redundancy": [1]}', "'validity' is no list of numbers"),
    ],
)
def test_an_answer_that_does_not_fit_is_invalid(answer, reason):
    result = parse_judgement(answer, 1)
    assert isinstance(result, Unscored)
    assert reason in result.reason


def test_comments_are_accepted_unless_strict():
    answer = '{"validity": [1], // clearly\n "redundancy": [-1]}'
    assert isinstance(parse_judgement(answer, 1), StepScores)
    assert isinstance(parse_judgement(answer, 1, strict=True), Unscored)


def test_the_model_sees_instruction_examples_and_numbered_steps():
    shown = Solution("1+1?", ("Step 1. 2.",))
    asked = []

    def ask(messages):
        asked.append(messages)
        return ""

    scorer = CriticScorer(ask, examples=[(shown, "{}")], instruction="Judge.")
    told = []
    scorer.score_all([Solution("2+2?", ("1. Add.", "It is 4."))], lambda *values: told.append(values))
    roles = [message["role"] for message in asked[0]]
    assert roles == ["system", "user", "assistant", "user"]
    assert asked[0][3]["content"] == "Question: 2+2?\n\nSolution:\n\nStep 1: Add.\n\nStep 2: It is 4."
    assert told == [(1, 1)]


def test_a_local_model_answers(language_model, tokenizer):
    ask = generate_answers(language_model, tokenizer, max_new_tokens=5)
    first = ask([{"role": "user", "content": "hello"}])
    assert first == ask([{"role": "user", "content": "hello"}])  # greedy
    assert isinstance(CriticScorer(ask).score("q", ["a"]), Unscored)  # noise is no JSON
    with pytest.raises(BadInputError, match="max_new_tokens must be at least 1"):
        generate_answers(language_model, tokenizer, max_new_tokens=0)
    tokenizer.chat_template = None
    with pytest.raises(BadInputError, match="chat template"):
        generate_answers(language_model, tokenizer)
