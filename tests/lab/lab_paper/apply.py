"""A deed that greets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from papertrial.deeds import Deed, Fact, Progress


@dataclass(frozen=True)
class Greet(Deed):
    """Greet somebody.

    Attributes:
        name: whom.
        algorithm: how.
    """

    name: str = "world"
    algorithm: Literal["hello", "good day"] = "hello"

    methods: ClassVar[tuple[str, ...]] = ("hello", "good day")

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Greet."""
        progress(1, 1, "greeting")
        return {"greeting": f"{self.algorithm} {self.name}"}


deeds: dict[str, type[Deed]] = {"greet": Greet}
