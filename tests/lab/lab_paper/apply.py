"""A deed that greets."""

from __future__ import annotations

from dataclasses import dataclass

from papertrial.deeds import Deed, Fact, Progress


@dataclass(frozen=True)
class Greet(Deed):
    """Greet somebody.

    Attributes:
        name: whom.
    """

    name: str = "world"

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Greet."""
        progress(1, 1, "greeting")
        return {"greeting": f"hello {self.name}"}


deeds: dict[str, type[Deed]] = {"greet": Greet}
