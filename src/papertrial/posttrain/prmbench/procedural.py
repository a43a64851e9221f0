"""A benchmark made on the fly, in the official row format, with training data of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.derivations import (
    CONFIDENT_OPENINGS,
    FOREIGN_OPERATIONS,
    HIGHEST,
    LARGEST_CONSTANT,
    LETTERS,
    LOWEST,
    OPERATIONS,
    PLAIN_OPENINGS,
    Problem,
    make_problem,
)
from papertrial.posttrain.prmbench.injectors import EditedSolution, correct_solution, inject

ERROR_CLASSES = (
    "redundency",
    "circular",
    "counterfactual",
    "step_contradiction",
    "domain_inconsistency",
    "confidence",
    "missing_condition",
    "deception",
)
MULTI_SOLUTION_SHARE = 165 / 758  # of the problems, as in the released files
LENGTHS = (5, 6)
SEPARATOR = "<step>"


def make_rows(
    problems: int, seed: int, *, name: str = "procedural", lengths: Sequence[int] = LENGTHS
) -> list[dict[str, Any]]:
    """Return rows in the format of the official files: eight for each problem, nine for about a fifth.

    A problem depends on `seed` and its own number alone, so that a longer benchmark begins with a shorter
    one of the same seed.

    Args:
        problems: how many problems.
        seed: draws everything.
        name: the `idx` of the rows is `{name}_{number}`.
        lengths: how many steps the solutions have; drawn from these alike.

    Raises:
        BadInputError: no problems, or a length outside 5..8.
    """
    if problems < 1:
        raise BadInputError(f"problems must be at least 1, got {problems}")
    rows = []
    for number in range(problems):
        rng = np.random.default_rng((seed, number))
        problem = make_problem(rng, int(rng.choice(lengths)))
        classes = [*ERROR_CLASSES, "multi_solutions"]
        kept = classes if rng.random() < MULTI_SOLUTION_SHARE else classes[:-1]
        rows += _problem_rows(rng, problem, f"{name}_{number}", kept)
    return rows


def correct_texts(
    problems: int, seed: int, *, lengths: Sequence[int] = LENGTHS
) -> list[tuple[str, list[str]]]:
    """Return questions with correct solutions, for training a language model: (question, steps) pairs."""
    texts = []
    for number in range(problems):
        rng = np.random.default_rng((seed, number))
        problem = make_problem(rng, int(rng.choice(lengths)))
        steps = [str(step) for step in correct_solution(rng, problem)]
        texts.append((problem.question(rng), steps))
    return texts


def derivation_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer for these texts: words, numbers, `a :=`, `a =` and `+ 3` are one token each.

    Full stops and bare equality signs carry nothing here and are dropped; any other word becomes `<unk>`.
    """
    words = ["<pad>", "<unk>", "<bos>", SEPARATOR, *PLAIN_OPENINGS, *CONFIDENT_OPENINGS]
    letters = [letter + sign for sign in ("", " =", " :=") for letter in LETTERS]
    numbers = [str(number) for number in range(LOWEST, HIGHEST + 1)]
    signs = (*OPERATIONS, *FOREIGN_OPERATIONS)
    operations = [f"{sign} {constant}" for sign in signs for constant in range(1, LARGEST_CONSTANT + 1)]
    vocabulary = {word: at for at, word in enumerate([*words, *letters, *numbers, *operations])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    pieces = Regex(rf"[{LETTERS}] :?=|[-+|^] \d|\w+")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        additional_special_tokens=[SEPARATOR],
    )


def _problem_rows(
    rng: np.random.Generator, problem: Problem, idx: str, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return one row a class, all about one problem and beside the same correct solution."""
    order = int(rng.integers(2**32))  # one order of the statements for all rows, so that they share a prefix
    question = problem.question(np.random.default_rng(order))
    original = [str(step) for step in correct_solution(rng, problem)]
    rows = []
    for classification in classes:
        edited = inject(rng, problem, classification)
        changed = _without(problem, edited, order) if edited.dropped else question
        rows.append(_row(idx, classification, question, changed, original, edited))
    return rows


def _without(problem: Problem, edited: EditedSolution, order: int) -> str:
    return problem.question(np.random.default_rng(order), without=edited.dropped)


def _row(
    idx: str, classification: str, question: str, changed: str, original: list[str], edited: EditedSolution
) -> dict[str, Any]:
    return {
        "idx": idx,
        "classification": classification,
        "original_question": question,
        "modified_question": changed,
        "original_process": original,
        "modified_process": [str(step) for step in edited.steps],
        "modified_steps": list(edited.errors),
        "error_steps": list(edited.errors),
        "reason": edited.reason,
        "question": question,
    }
