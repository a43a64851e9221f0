from __future__ import annotations

import pytest
import torch

from papertrial.efficient.evaluation import Question, answer_questions, continuation_likelihoods, encode_pair
from papertrial.errors import BadInputError


def test_likelihoods_are_those_of_one_forward_pass_each(model, stream):
    ids = stream.tolist()
    pairs = [(ids[:5], ids[5:9]), (ids[:12], ids[12:13]), (ids[:12], [7]), (ids[:1], ids[1:30])]
    found = continuation_likelihoods(model, pairs, batch_size=3)
    for (context, continuation), score in zip(pairs, found, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([context + continuation])).logits[0].log_softmax(-1)
        rows = logits[len(context) - 1 : -1]
        wanted = float(rows[range(len(continuation)), continuation].sum())
        assert score.log_likelihood == pytest.approx(wanted, abs=1e-4)  # float32 sums in another batch shape
        assert score.greedy == (rows.argmax(-1).tolist() == continuation)
        assert score.tokens == len(continuation)


def test_one_token_choices_share_their_forward_pass(model, stream):
    calls = []
    hook = model.register_forward_pre_hook(
        lambda *given: calls.append(given[2]["input_ids"].shape), with_kwargs=True
    )
    try:
        context = stream[:9].tolist()
        continuation_likelihoods(model, [(context, [letter]) for letter in (5, 6, 7, 8)])
    finally:
        hook.remove()
    assert [tuple(shape) for shape in calls] == [(1, 9)]


def test_normalisation_is_by_characters_of_the_choice(model, tokenizer):
    """A sum of four negative terms is never above its first: the long choice needs the division."""
    question = Question("The market", ("opens", "opens at eight, and the bread is warm"), 1)
    scores = answer_questions(model, tokenizer, [question])
    short, long = scores.log_likelihoods[0]
    assert scores.picks == (0,)
    assert short > long
    expected = max((short / len(question.choices[0]), 0), (long / len(question.choices[1]), 1))[1]
    assert scores.normalised_picks == (expected,)
    assert scores.normalised_accuracy == float(expected == 1)


def test_context_white_space_goes_to_the_continuation(tokenizer):
    context, continuation = encode_pair(tokenizer, "The bread ", "is warm")
    assert tokenizer.decode(context) == "The bread"
    assert tokenizer.decode(continuation) == " is warm"
    context, continuation = encode_pair(tokenizer, "", "warm")
    assert context == [tokenizer.eos_token_id]
    assert tokenizer.decode(continuation) == "warm"


def test_too_long_loses_tokens_from_the_left(model, stream):
    ids = stream.tolist()
    (cut,) = continuation_likelihoods(model, [(ids[:30], ids[30:33])], length=10)
    (short,) = continuation_likelihoods(model, [(ids[22:30], ids[30:33])], length=10)
    assert cut.log_likelihood == pytest.approx(short.log_likelihood, abs=1e-5)


def test_bad_input(model, tokenizer):
    with pytest.raises(BadInputError, match="no questions"):
        answer_questions(model, tokenizer, [])
    with pytest.raises(BadInputError, match="at least two choices"):
        Question("a", ("b",), 0)
    with pytest.raises(BadInputError, match="answer must be 0 … 1, got 2"):
        Question("a", ("b", "c"), 2)
    with pytest.raises(BadInputError, match="must not be empty"):
        encode_pair(tokenizer, "a", "")
    with pytest.raises(BadInputError, match="0 tokens of context"):
        continuation_likelihoods(model, [([], [1])])
    with pytest.raises(BadInputError, match="4 of continuation"):
        continuation_likelihoods(model, [([1], [1, 2, 3, 4])], length=3)
