"""The relation that a claim states: `ratio < 0.5`, `difference > 0`, `value >= 50`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

Quantity = Literal["ratio", "difference", "value"]
Operator = Literal["<", "<=", ">", ">="]

_FORM = re.compile(r"^\s*(ratio|difference|value)\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*$")


@dataclass(frozen=True)
class Relation:
    """What a quantity must satisfy for a claim to hold.

    Attributes:
        quantity: `ratio` is arm over against, `difference` arm minus against, `value` the arm alone.
        operator: one of `<`, `<=`, `>`, `>=`.
        threshold: the number on the right-hand side.
    """

    quantity: Quantity
    operator: Operator
    threshold: float

    @classmethod
    def parse(cls, text: str) -> Relation:
        """Read a relation from a card.

        Raises:
            ValueError: the text is no relation, or a ratio is held against a number that is not positive.
        """
        found = _FORM.match(text)
        if not found:
            raise ValueError(
                f"{text!r} is no relation; write 'ratio < 0.5', 'difference > 0' or 'value >= 50' "
                "(operators < <= > >=)"
            )
        threshold = float(found[3])
        if found[1] == "ratio" and threshold <= 0:
            raise ValueError(f"a ratio is held against a positive number, got {threshold:g}")
        return cls(cast("Quantity", found[1]), cast("Operator", found[2]), threshold)

    def allows(self, value: float) -> bool:
        """Say whether one number satisfies the relation (NaN never does)."""
        if math.isnan(value):
            return False
        match self.operator:
            case "<":
                return value < self.threshold
            case "<=":
                return value <= self.threshold
            case ">":
                return value > self.threshold
            case ">=":
                return value >= self.threshold

    def __str__(self) -> str:
        return f"{self.quantity} {self.operator} {self.threshold:g}"
