"""Small problems whose every statement can be checked: the ground on which errors are planted.

A problem states four numbers (`a = 24`) and definitions (`b := a + 3`); a solution derives one letter a step:
`so b = a + 3 = 24 + 3 = 27`. All numbers have two digits and all constants one, so that a step's length
says nothing about its values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from papertrial.errors import BadInputError

OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
}
FOREIGN_OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "|": lambda left, right: left | right,
    "^": lambda left, right: left ^ right,
}
INVERSE = {"+": "-", "-": "+"}
# The plain and the confident words are equally long in pairs: a confident step is not a longer one.
PLAIN_OPENINGS = ("now", "then", "therefore")
CONFIDENT_OPENINGS = ("yes", "sure", "certainly")
LETTERS = "abcdefghijklmn"
# Whole blocks of four: with constants up to 3, "^" then never leaves the range, nor keeps a value.
LOWEST, HIGHEST = 12, 31
LARGEST_CONSTANT = 3
LENGTHS = range(5, 9)


def apply_operation(operator: str, left: int, right: int) -> int:
    """Return `left operator right`.

    Raises:
        BadInputError: an operator that is neither ordinary nor foreign here.
    """
    rule = OPERATIONS.get(operator) or FOREIGN_OPERATIONS.get(operator)
    if rule is None:
        raise BadInputError(
            f"operator must be one of {' '.join([*OPERATIONS, *FOREIGN_OPERATIONS])}, got {operator!r}"
        )
    return rule(left, right)


def in_range(value: int) -> bool:
    """Say whether a value may stand in a text."""
    return LOWEST <= value <= HIGHEST


@dataclass(frozen=True)
class Definition:
    """`name := source operator constant`."""

    name: str
    source: str
    operator: str
    constant: int

    def __str__(self) -> str:
        return f"{self.name} := {self.source} {self.operator} {self.constant}"

    def value(self, source_value: int) -> int:
        """Return what the definition makes of its source's value."""
        return apply_operation(self.operator, source_value, self.constant)


@dataclass(frozen=True)
class DerivationStep:
    """One line of a solution: a definition applied to a value of its source, and the result."""

    opening: str
    definition: Definition
    source_value: int
    result: int

    def __str__(self) -> str:
        rule = self.definition
        applied = f"{rule.operator} {rule.constant}"
        return f"{self.opening} {rule.name} = {rule.source} {applied} = {self.source_value} {applied} = {self.result}"


@dataclass(frozen=True)
class Problem:
    """What a question states, and the true value of every letter.

    Attributes:
        givens: the four letters whose value is stated.
        core: the definitions that a solution goes through, each after its source.
        alternatives: second definitions of two givens and of one core letter, true as well.
        descendants: definitions of letters that no solution needs, from letters that nothing else needs.
        values: the value of every letter.
    """

    givens: tuple[str, ...]
    core: tuple[Definition, ...]
    alternatives: tuple[Definition, ...]
    descendants: tuple[Definition, ...]
    values: Mapping[str, int]

    def question(self, rng: np.random.Generator, without: Sequence[str] = ()) -> str:
        """Return the question, its statements in random order, lacking the core definitions of `without`."""
        statements = [f"{name} = {self.values[name]}" for name in self.givens]
        statements += [str(rule) for rule in (*self.core, *self.alternatives, *self.descendants)]
        dropped = {str(rule) for rule in self.core if rule.name in without}
        shuffled = [statements[at] for at in rng.permutation(len(statements))]
        return " . ".join(statement for statement in shuffled if statement not in dropped)

    def leaves(self) -> tuple[Definition, ...]:
        """Return the core definitions on which no other core definition rests."""
        sources = {rule.source for rule in self.core}
        return tuple(rule for rule in self.core if rule.name not in sources)


def make_problem(rng: np.random.Generator, length: int) -> Problem:
    """Return a problem whose solution takes `length` steps.

    Two leaves rest on givens directly, so that up to two errors can be planted at any place of a solution
    without any later correct step resting on one of them.

    Raises:
        BadInputError: `length` outside 5..8, where one or two errors make a fifth of the steps on average.
    """
    if length not in LENGTHS:
        raise BadInputError(f"length must be between {LENGTHS[0]} and {LENGTHS[-1]} steps, got {length}")
    while True:  # ends: about half of all draws have a core letter near enough to a given
        problem = _draw_problem(rng, length)
        if problem is not None:
            return problem


def _draw_problem(rng: np.random.Generator, length: int) -> Problem | None:
    names = [LETTERS[at] for at in rng.permutation(len(LETTERS))]
    givens, core_names, extra_names = names[:4], names[4 : 4 + length], names[4 + length : 6 + length]
    values: dict[str, int] = {}
    for one, other in (givens[:2], givens[2:]):
        values[one] = int(rng.integers(18, 26))
        values[other] = values[one] + int(rng.integers(1, LARGEST_CONSTANT + 1)) * (
            1 if rng.integers(2) else -1
        )
    core: list[Definition] = []
    for at, name in enumerate(core_names):
        # The last two stay leaves on givens; the others may rest on anything before them.
        sources = givens if at >= length - 2 else [*givens, *core_names[:at]]
        core.append(_define(rng, name, sources[int(rng.integers(len(sources)))], values))
    second = [
        rule
        for name, first_rule in zip(core_names[:-2], core, strict=False)
        for source in givens
        if (rule := _between(name, source, values)) is not None and rule != first_rule
    ]
    if not second:
        return None
    # Never two definitions of each other: one step would repeat the other's words.
    alternatives = [_between(givens[0], givens[1], values), _between(givens[2], givens[3], values)]
    alternatives.append(second[int(rng.integers(len(second)))])
    kept = tuple(rule for rule in alternatives if rule is not None)
    taken = {rule.source for rule in core} | {rule.name for rule in kept}
    free = [rule.name for rule in core if rule.name not in taken]
    roots = [free[at] for at in rng.permutation(len(free))[:2]]
    descendants = [_define(rng, name, root, values) for name, root in zip(extra_names, roots, strict=True)]
    return Problem(tuple(givens), tuple(core), kept, tuple(descendants), values)


def _define(rng: np.random.Generator, name: str, source: str, values: dict[str, int]) -> Definition:
    """Return a definition of `name` and enter its value, turning the operation where it left the range."""
    operator = "+-"[int(rng.integers(2))]
    rule = Definition(name, source, operator, int(rng.integers(1, LARGEST_CONSTANT + 1)))
    if not in_range(rule.value(values[source])):
        rule = Definition(name, source, INVERSE[operator], rule.constant)
    values[name] = rule.value(values[source])
    return rule


def _between(name: str, source: str, values: Mapping[str, int]) -> Definition | None:
    """Return the definition that makes `name` of `source`, or None where they lie too far apart."""
    difference = values[name] - values[source]
    if not 1 <= abs(difference) <= LARGEST_CONSTANT:
        return None
    return Definition(name, source, "+" if difference > 0 else "-", abs(difference))


def opening(rng: np.random.Generator, confident: bool | None = None) -> str:
    """Return an opening word; `confident=None` draws from both kinds alike."""
    if confident is None:
        confident = bool(rng.integers(2))
    words = CONFIDENT_OPENINGS if confident else PLAIN_OPENINGS
    return words[int(rng.integers(len(words)))]


def correct_step(rng: np.random.Generator, rule: Definition, values: Mapping[str, int]) -> DerivationStep:
    """Return the step that applies a true definition to its source's true value."""
    return DerivationStep(opening(rng), rule, values[rule.source], rule.value(values[rule.source]))
