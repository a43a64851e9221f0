"""A scorer that checks procedural derivations by doing them again: the ceiling of that benchmark.

It shares nothing with the generator: it reads question and steps as text and keeps its own books.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from papertrial.posttrain.steps import (
    OnScored,
    Solution,
    StepScorer,
    StepScores,
    Unscored,
    checked_solutions,
)

_GIVEN = re.compile(r"^([a-z]) = (\d+)$")
_RULE = re.compile(r"^([a-z]) := ([a-z]) (\S) (\d+)$")
_STEP = re.compile(r"^[a-z]+ ([a-z]) = ([a-z]) (\S) (\d+) = (\d+) (\S) (\d+) = (\d+)$")


class DerivationOracle(StepScorer):
    """Accepts a step when all of this holds, and scores it 1; else 0.

    It has the form of a step; its letter is not known yet; its definition is one that the question states;
    the source is known, with the value used; the operation is applied as defined; the result is right.
    """

    def score_all(
        self, solutions: Sequence[Solution], on_scored: OnScored | None = None
    ) -> list[StepScores | Unscored]:
        """See `StepScorer.score_all`."""
        return [StepScores(np.array(_verify(one), dtype=np.float64)) for one in checked_solutions(solutions)]


def _verify(solution: Solution) -> list[bool]:
    known: dict[str, int] = {}
    rules: set[tuple[str, str, str, str]] = set()
    for statement in solution.question.split(" . "):
        if given := _GIVEN.match(statement):
            known[given[1]] = int(given[2])
        elif rule := _RULE.match(statement):
            rules.add((rule[1], rule[2], rule[3], rule[4]))
    verdicts = []
    for text in solution.steps:
        step = _STEP.match(text)
        verdicts.append(step is not None and _follows(step, known, rules))
        if step is not None and verdicts[-1]:
            known[step[1]] = int(step[8])
    return verdicts


def _follows(step: re.Match[str], known: dict[str, int], rules: set[tuple[str, str, str, str]]) -> bool:
    name, source, sign, constant, value, applied_sign, applied_constant, result = step.groups()
    if name in known or (name, source, sign, constant) not in rules:
        return False
    if known.get(source) != int(value) or (applied_sign, applied_constant) != (sign, constant):
        return False
    change = int(constant) if sign == "+" else -int(constant)
    return int(value) + change == int(result)
