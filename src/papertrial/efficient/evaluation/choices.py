"""Zero-shot multiple choice by log-likelihood, as lm-eval scores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedTokenizerBase

from papertrial.efficient.evaluation.likelihood import continuation_likelihoods, encode_pair
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class Question:
    """A text and the ways it may go on, one of which is right.

    Attributes:
        context: all that stands before the choice.
        choices: what may follow, without the delimiter.
        answer: which choice is right, from 0.
    """

    context: str
    choices: tuple[str, ...]
    answer: int

    def __post_init__(self) -> None:
        if len(self.choices) < 2 or not all(self.choices):
            raise BadInputError(f"a question needs at least two choices, none empty, got {self.choices!r}")
        if not 0 <= self.answer < len(self.choices):
            raise BadInputError(f"answer must be 0 … {len(self.choices) - 1}, got {self.answer}")


@dataclass(frozen=True)
class ChoiceScores:
    """What a model chose.

    Attributes:
        accuracy: share of questions whose likeliest choice is right (lm-eval's `acc`).
        normalised_accuracy: the same by log-likelihood per character of the choice (`acc_norm`).
        picks: the likeliest choice of each question.
        normalised_picks: the likeliest per character.
        log_likelihoods: of each question's choices, in nats.
    """

    accuracy: float
    normalised_accuracy: float
    picks: tuple[int, ...]
    normalised_picks: tuple[int, ...]
    log_likelihoods: tuple[tuple[float, ...], ...]


def answer_questions(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    delimiter: str = " ",
    length: int | None = None,
    batch_size: int = 8,
) -> ChoiceScores:
    """Let the model choose by the log-likelihood of `delimiter + choice` after the context.

    Lengths are of the choice alone, in characters, and the first of equal choices wins, as in lm-eval.

    Args:
        model: gives `.logits`.
        tokenizer: the model's own.
        questions: what to ask.
        delimiter: stands between context and choice.
        length: tokens the model may see at once; its configuration's limit if not given.
        batch_size: sequences in one forward pass.

    Raises:
        BadInputError: no questions, or a choice longer than `length`.
    """
    if not questions:
        raise BadInputError("there are no questions to ask")
    pairs = [
        encode_pair(tokenizer, question.context, delimiter + choice)
        for question in questions
        for choice in question.choices
    ]
    scores = iter(continuation_likelihoods(model, pairs, length=length, batch_size=batch_size))
    likelihoods = [tuple(next(scores).log_likelihood for _ in question.choices) for question in questions]
    picks = [_best(row) for row in likelihoods]
    normalised = [
        _best([value / len(choice) for value, choice in zip(row, question.choices, strict=True)])
        for row, question in zip(likelihoods, questions, strict=True)
    ]
    return ChoiceScores(
        accuracy=_share_right(picks, questions),
        normalised_accuracy=_share_right(normalised, questions),
        picks=tuple(picks),
        normalised_picks=tuple(normalised),
        log_likelihoods=tuple(likelihoods),
    )


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _share_right(picks: Sequence[int], questions: Sequence[Question]) -> float:
    right = sum(pick == question.answer for pick, question in zip(picks, questions, strict=True))
    return right / len(questions)
