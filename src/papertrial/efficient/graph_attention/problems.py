"""Word problems in the form in which the paper fine-tunes: question and answer in one text."""

from __future__ import annotations

import random

from papertrial.data.arithmetic import make_derivation
from papertrial.errors import BadInputError

TEMPLATE = "### User: {question}<|eot_id|>### Assistant: {answer}<|eot_id|>"
_OPERATIONS = ("add", "subtract")


def make_problems(count: int, seed: int, steps: int = 2) -> list[str]:
    """Draw small arithmetic problems with their working, as training texts.

    Raises:
        BadInputError: fewer than one, or no step.
    """
    if count < 1:
        raise BadInputError(f"count must be at least 1, got {count}")
    draw = random.Random(f"problems {seed}")
    texts = []
    for _ in range(count):
        made = make_derivation(draw, steps, operations=_OPERATIONS, largest=99, story=False)
        answer = " ".join([*(step.text for step in made.steps), f"Answer: {made.answer}"])
        texts.append(TEMPLATE.format(question=made.question, answer=answer))
    return texts


def read_problems(source: str) -> list[str]:
    """Return the texts of a data set with the columns `question` and `answer`.

    Args:
        source: files or a hub data set, such as `mlabonne/orca-math-word-problems-80k`.

    Raises:
        BadInputError: nothing there, a column missing, or columns of different lengths.
    """
    from papertrial.data.text import load_documents

    questions, answers = (load_documents(source, field=field) for field in ("question", "answer"))
    if len(questions) != len(answers):
        raise BadInputError(
            f"{source} has {len(questions)} questions and {len(answers)} answers that are not empty"
        )
    return [TEMPLATE.format(question=q, answer=a) for q, a in zip(questions, answers, strict=True)]
