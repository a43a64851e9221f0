"""MMLU with examples in the prompt, scored by letter logits or by log-likelihood."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from papertrial.efficient.evaluation.choices import Question, answer_questions
from papertrial.efficient.evaluation.forward import check_at_least, evaluating, next_token_logits
from papertrial.efficient.evaluation.likelihood import encode
from papertrial.efficient.evaluation.mmlu_files import LETTERS, MmluRow, MmluSubject
from papertrial.errors import BadInputError, unknown

Rule = Literal["letter-logits", "log-likelihood"]
"""How an answer is read off the model; see `evaluate_mmlu`."""


@dataclass(frozen=True)
class MmluScores:
    """How a model did.

    Attributes:
        accuracy: over all questions, whatever their subject.
        by_subject: accuracy of each subject.
        picks: the letter chosen for each question, by subject.
        fewest_shots: examples in the prompt that had to lose most of them to fit.
    """

    accuracy: float
    by_subject: dict[str, float]
    picks: dict[str, tuple[str, ...]]
    fewest_shots: int


def evaluate_mmlu(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    subjects: Sequence[MmluSubject],
    *,
    rule: str = "letter-logits",
    shots: int = 5,
    length: int = 2048,
    batch_size: int = 4,
) -> MmluScores:
    """Ask every question of every subject, with `shots` examples before it.

    "letter-logits" is the rule of MMLU's first harness, which quantisation papers use: the header has two
    spaces after "about", the last example is dropped until the prompt fits `length` (down to none), and the
    logits that follow "Answer:" are compared at the last ids of "A", "B", "C", "D" encoded without a leading
    space. "log-likelihood" is lm-eval's: one space, stripped questions, " A" … " D" as continuations, and a
    prompt too long is cut from the left.

    Args:
        model: gives `.logits`.
        tokenizer: the model's own; it is not changed.
        subjects: from `load_mmlu`.
        rule: how an answer is read off the model: a `Rule`.
        shots: examples in the prompt, the first ones of the file.
        length: tokens of the longest prompt.
        batch_size: prompts in one forward pass.

    Raises:
        BadInputError: an unknown rule, no subjects, more shots than a subject has examples, or a tokenizer
            for which two letters are one token.

    Source: arXiv 2505.02214, evaluation on MMLU; arXiv 2009.03300 for the data and the first rule.
    """
    if rule not in get_args(Rule):
        raise unknown("rule", rule, get_args(Rule))
    if not subjects:
        raise BadInputError("there are no subjects to evaluate")
    check_at_least(0, shots=shots)
    check_at_least(1, length=length, batch_size=batch_size)
    for subject in subjects:
        if shots > len(subject.examples):
            raise BadInputError(
                f"shots must be at most {len(subject.examples)}, the examples of {subject.name}, got {shots}"
            )
    ask = _by_logits if rule == "letter-logits" else _by_likelihood
    picks, fewest = {}, shots
    for subject in subjects:
        picks[subject.name], kept = ask(model, tokenizer, subject, shots, length, batch_size)
        fewest = min(fewest, kept)
    return _scores(subjects, picks, fewest)


def _scores(subjects: Sequence[MmluSubject], picks: dict[str, tuple[str, ...]], fewest: int) -> MmluScores:
    right = {
        subject.name: sum(
            row.letter == pick for row, pick in zip(subject.questions, picks[subject.name], strict=True)
        )
        for subject in subjects
    }
    asked = {subject.name: len(subject.questions) for subject in subjects}
    return MmluScores(
        accuracy=sum(right.values()) / sum(asked.values()),
        by_subject={name: right[name] / asked[name] for name in right},
        picks=picks,
        fewest_shots=fewest,
    )


def letter_prompt(subject: MmluSubject, row: MmluRow, shots: int) -> str:
    """Return the prompt of the first harness, up to "Answer:"."""
    # every part of the name is preceded by a space, so two follow "about": part of the published figures
    name = "".join(f" {part}" for part in subject.name.split("_"))
    header = f"The following are multiple choice questions (with answers) about {name}.\n\n"
    examples = "".join(f"{_asked(one)} {one.letter}\n\n" for one in subject.examples[:shots])
    return header + examples + _asked(row)


def likelihood_prompt(subject: MmluSubject, row: MmluRow, shots: int) -> str:
    """Return lm-eval's prompt, up to "Answer:"."""
    name = subject.name.replace("_", " ")
    header = f"The following are multiple choice questions (with answers) about {name}.\n\n"
    examples = "".join(f"{_asked(one, strip=True)} {one.letter}\n\n" for one in subject.examples[:shots])
    return header + examples + _asked(row, strip=True)


def _asked(row: MmluRow, *, strip: bool = False) -> str:
    question = row.question.strip() if strip else row.question
    choices = (f"{letter}. {choice}" for letter, choice in zip(LETTERS, row.choices, strict=True))
    return "\n".join([question, *choices, "Answer:"])


def _fitting(
    tokenizer: PreTrainedTokenizerBase, subject: MmluSubject, shots: int, length: int
) -> Iterator[tuple[list[int], int]]:
    """Yield each question's prompt ids, with as many examples as fit, and how many those are."""
    for row in subject.questions:
        for kept in range(shots, -1, -1):
            ids = encode(tokenizer, letter_prompt(subject, row, kept), specials=True)
            if len(ids) <= length:
                break
        yield ids, kept


def _by_logits(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    subject: MmluSubject,
    shots: int,
    length: int,
    batch_size: int,
) -> tuple[tuple[str, ...], int]:
    letters = [encode(tokenizer, letter, specials=True)[-1] for letter in LETTERS]
    if len(set(letters)) < len(LETTERS):
        raise BadInputError(f"the tokenizer's last ids of A, B, C, D are {letters}: they must differ")
    prompts = list(_fitting(tokenizer, subject, shots, length))
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number][0]))
    picks = [""] * len(prompts)
    with evaluating(model):
        for first in range(0, len(order), batch_size):
            group = order[first : first + batch_size]
            rows = [torch.tensor(prompts[number][0]) for number in group]
            logits = next_token_logits(model, torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))
            for place, number in enumerate(group):
                final = logits[place, len(rows[place]) - 1, letters]
                picks[number] = LETTERS[int(final.argmax())]
    return tuple(picks), min(kept for _, kept in prompts)


def _by_likelihood(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    subject: MmluSubject,
    shots: int,
    length: int,
    batch_size: int,
) -> tuple[tuple[str, ...], int]:
    questions = [
        Question(likelihood_prompt(subject, row, shots), tuple(LETTERS), LETTERS.index(row.letter))
        for row in subject.questions
    ]
    scores = answer_questions(model, tokenizer, questions, length=length, batch_size=batch_size)
    return tuple(LETTERS[pick] for pick in scores.picks), shots
