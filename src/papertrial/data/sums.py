"""Sums and products written out digit by digit: chain-of-thought text that a small model can learn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from papertrial.errors import BadInputError, unknown

_OPERATIONS = ("add", "multiply")
_PLACES = ("ones", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands")


@dataclass(frozen=True)
class WorkedSum:
    """One sum or product.

    Attributes:
        question: "457 + 86 = ?".
        working: the written method, a line each: carries for a sum, partial products for a product.
        answer: the value.
    """

    question: str
    working: tuple[str, ...]
    answer: int

    @property
    def text(self) -> str:
        """Question, working and answer, a line each."""
        return "\n".join([self.question, *self.working, f"Answer: {self.answer}"])


def make_sum(rng: random.Random, digits: int = 3, operation: str = "add") -> WorkedSum:
    """Make one worked sum or product of two numbers of up to `digits` digits.

    Raises:
        BadInputError: `digits` is not between 1 and 6, or the operation is neither "add" nor "multiply".
    """
    if not 1 <= digits <= len(_PLACES):
        raise BadInputError(f"digits must be between 1 and {len(_PLACES)}, got {digits}")
    if operation not in _OPERATIONS:
        raise unknown("operation", operation, _OPERATIONS)
    # The number of digits is drawn first: drawn from all numbers alike, nine in ten would be the longest.
    left, right = (rng.randrange(10 ** rng.randint(1, digits)) for _ in range(2))
    return _addition(left, right) if operation == "add" else _product(left, right)


def sum_documents(
    count: int, seed: int = 0, *, digits: int = 3, operations: Sequence[str] = _OPERATIONS
) -> list[str]:
    """Return `count` worked sums as text, for training a language model.

    Raises:
        BadInputError: `count` below 1, no operations, or as `make_sum`.
    """
    if count < 1 or not operations:
        raise BadInputError(f"count must be at least 1 with an operation, got {count} and {operations!r}")
    rng = random.Random(seed)
    return [make_sum(rng, digits, rng.choice(list(operations))).text for _ in range(count)]


def _addition(left: int, right: int) -> WorkedSum:
    lines = []
    carry = 0
    columns = max(len(str(left)), len(str(right)))
    for place in range(columns):
        a, b = left // 10**place % 10, right // 10**place % 10
        total = a + b + carry
        carried = f" + {carry}" if carry else ""
        lines.append(
            f"{_PLACES[place]}: {a} + {b}{carried} = {total}, write {total % 10}, carry {total // 10}"
        )
        carry = total // 10
    if carry:
        lines.append(f"write {carry}")
    return WorkedSum(f"{left} + {right} = ?", tuple(lines), left + right)


def _product(left: int, right: int) -> WorkedSum:
    lines = []
    total = 0
    for place, digit in enumerate(reversed(str(right))):
        part = left * int(digit) * 10**place
        lines.append(f"{left} * {int(digit) * 10**place} = {part}, {total} + {part} = {total + part}")
        total += part
    return WorkedSum(f"{left} * {right} = ?", tuple(lines), left * right)
