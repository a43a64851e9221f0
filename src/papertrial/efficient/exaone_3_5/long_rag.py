"""LongRAG with questions that the context does not answer: the two kinds are scored apart.

Source: arXiv 2412.04862, appendix D.2 and table 14. There a language model judges; here the match is exact or
given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from papertrial.errors import BadInputError

UNANSWERABLE = "Unanswerable"
"""What the model is told to answer where the context holds no answer."""

Judge = Callable[[str, Sequence[str]], bool]
"""Says whether an answer gives one of the accepted ones."""


@dataclass(frozen=True)
class LongRagScores:
    """Shares of right answers, 0 to 1; NaN where no question is of the kind.

    Attributes:
        answerable: of the questions with an answer in the context.
        unanswerable: of those without.
        total: of all, each question counting once.
        refused: share of answerable questions that were called unanswerable.
    """

    answerable: float
    unanswerable: float
    total: float
    refused: float


def score_long_rag(
    answers: Sequence[str], accepted: Sequence[Sequence[str]], judge: Judge | None = None
) -> LongRagScores:
    """Score answers; a question without accepted answers is an unanswerable one.

    Args:
        answers: the model's.
        accepted: for each question the accepted answers, none for an unanswerable one.
        judge: decides whether an answer is right; inclusion of the words of an accepted one if not given.

    Raises:
        BadInputError: no question, or another number of answers than questions.
    """
    if not answers or len(answers) != len(accepted):
        raise BadInputError(
            f"each question needs an answer, got {len(answers)} answers to {len(accepted)} questions"
        )
    decide = judge or includes
    answerable, unanswerable, refused = [], [], []
    for answer, gold in zip(answers, accepted, strict=True):
        if gold:
            refused.append(is_refusal(answer))
            answerable.append(not refused[-1] and decide(answer, gold))
        else:
            unanswerable.append(is_refusal(answer))
    return LongRagScores(
        _share(answerable), _share(unanswerable), _share([*answerable, *unanswerable]), _share(refused)
    )


def is_refusal(answer: str) -> bool:
    """Return whether an answer is "Unanswerable", whatever its case and punctuation."""
    return _words(answer) == [UNANSWERABLE.lower()]


def includes(answer: str, accepted: Sequence[str]) -> bool:
    """Return whether the words of an accepted answer stand in the answer in a row, without regard to case."""
    given = _words(answer)
    for one in accepted:
        wanted = _words(one)
        if wanted and any(
            given[at : at + len(wanted)] == wanted for at in range(len(given) - len(wanted) + 1)
        ):
            return True
    return False


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else math.nan
