"""Arithmetic problems made on the fly, with a true value for every step of their solution."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from papertrial.data.wording import END_QUESTIONS, NAMES, STARTS, STORY_MOVES, THINGS
from papertrial.errors import BadInputError, unknown

Operation = Literal["add", "subtract", "multiply", "divide"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
"""Every operation."""

STEP_WORDINGS: Mapping[Operation, tuple[str, ...]] = {
    "add": (
        "{left} + {right} = {result}.",
        "Adding {right} to {left} gives {result}.",
        "{left} plus {right} makes {result}.",
    ),
    "subtract": (
        "{left} - {right} = {result}.",
        "Taking {right} from {left} leaves {result}.",
        "{left} minus {right} makes {result}.",
    ),
    "multiply": (
        "{left} * {right} = {result}.",
        "Multiplying {left} by {right} gives {result}.",
        "{left} times {right} makes {result}.",
    ),
    "divide": (
        "{left} / {right} = {result}.",
        "Dividing {left} by {right} gives {result}.",
        "{left} divided by {right} makes {result}.",
    ),
}
"""How a step can be said; each wording has `{left}`, `{right}` and `{result}`."""

_LARGEST_ADDEND = 99
_FACTORS = range(2, 10)


@dataclass(frozen=True)
class Step:
    """One operation of a derivation.

    Attributes:
        operation: what is done.
        left: the value so far: the start, or the result of the step before.
        right: the other operand.
        result: the true value of `left operation right`.
        text: the step as a sentence.
    """

    operation: Operation
    left: int
    right: int
    result: int
    text: str


@dataclass(frozen=True)
class Derivation:
    """A word problem and its solution, one operation a step.

    Attributes:
        question: states the start and every operation, in order.
        steps: each step's `left` is the result of the one before.
        answer: the last step's result.
    """

    question: str
    steps: tuple[Step, ...]
    answer: int

    @property
    def text(self) -> str:
        """The question, the steps and the answer, a line each."""
        return "\n".join([self.question, *(step.text for step in self.steps), f"Answer: {self.answer}"])


def compute(operation: Operation, left: int, right: int) -> int:
    """Return the value of one operation on whole numbers.

    Raises:
        BadInputError: a division that does not come out even, or by zero.
    """
    if operation == "add":
        return left + right
    if operation == "subtract":
        return left - right
    if operation == "multiply":
        return left * right
    if right == 0 or left % right:
        raise BadInputError(f"{left} cannot be divided evenly by {right}")
    return left // right


def step_text(operation: Operation, left: int, right: int, result: int, wording: int = 0) -> str:
    """Say one step, true or not, in one of `STEP_WORDINGS` (counted round if there are fewer)."""
    choices = STEP_WORDINGS[operation]
    return choices[wording % len(choices)].format(left=left, right=right, result=result)


def make_derivation(
    rng: random.Random,
    length: int,
    *,
    operations: Sequence[str] = OPERATIONS,
    largest: int = 999,
    story: bool | None = None,
) -> Derivation:
    """Make a word problem of `length` operations, with every value between 0 and `largest`.

    Divisions come out even and no step does nothing (no + 0, * 1), so a wrong operation or operand shows
    in the value.

    Args:
        rng: drawn from in a fixed order: one state, one derivation.
        length: how many steps.
        operations: which operations may occur.
        largest: the largest value on the way.
        story: about somebody's things, or bare instructions; drawn where None.

    Raises:
        BadInputError: `length` below 1, `largest` below 20, an unknown operation, or operations that
            cannot go on that long (only multiplying leaves the range).
    """
    if length < 1:
        raise BadInputError(f"length must be at least 1 step, got {length}")
    if largest < 20:
        raise BadInputError(f"largest must be at least 20, got {largest}")
    allowed = _known(operations)
    start = value = rng.randint(2, min(_LARGEST_ADDEND, largest))
    steps = []
    for number in range(length):
        choices = _possible(allowed, value, largest)
        if not choices:
            raise BadInputError(
                f"{', '.join(allowed)} cannot go on from {value} below {largest} (step {number + 1} of "
                f"{length}); allow more operations, a larger `largest`, or fewer steps"
            )
        operation = rng.choice(list(choices))
        right = rng.choice(choices[operation])
        result = compute(operation, value, right)
        wording = rng.randrange(len(STEP_WORDINGS[operation]))
        text = step_text(operation, value, right, result, wording)
        steps.append(Step(operation, value, right, result, text))
        value = result
    as_story = rng.random() < 0.5 if story is None else story
    return Derivation(_question(rng, start, steps, as_story), tuple(steps), value)


def _known(names: Sequence[str]) -> list[Operation]:
    if not names:
        raise BadInputError(f"operations must name at least one of {', '.join(OPERATIONS)}")
    for name in names:
        if name not in OPERATIONS:
            raise unknown("operation", name, OPERATIONS)
    return [operation for operation in OPERATIONS if operation in names]


def _possible(operations: Sequence[Operation], value: int, largest: int) -> dict[Operation, Sequence[int]]:
    """Return the operands that each operation may take from `value`, without operations that have none."""
    operands: dict[Operation, Sequence[int]] = {
        "add": range(1, min(_LARGEST_ADDEND, largest - value) + 1),
        "subtract": range(1, min(_LARGEST_ADDEND, value) + 1),
        "multiply": [factor for factor in _FACTORS if 0 < value * factor <= largest],
        "divide": [factor for factor in _FACTORS if value and value % factor == 0],
    }
    return {operation: operands[operation] for operation in operations if operands[operation]}


def _question(rng: random.Random, start: int, steps: Sequence[Step], as_story: bool) -> str:
    if not as_story:
        moves = [
            {
                "add": f"add {step.right}",
                "subtract": f"subtract {step.right}",
                "multiply": f"multiply by {step.right}",
                "divide": f"divide by {step.right}",
            }[step.operation]
            for step in steps
        ]
        return f"Start with {start}, then {', then '.join(moves)}. What is the result?"
    words = {"name": rng.choice(NAMES), "things": rng.choice(THINGS)}
    parts = [rng.choice(STARTS).format(number=start, **words)]
    parts += [rng.choice(STORY_MOVES[step.operation]).format(number=step.right, **words) for step in steps]
    return " ".join([*parts, rng.choice(END_QUESTIONS).format(**words)])
