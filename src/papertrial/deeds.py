"""What `papertrial apply` runs: a method of a paper, used on the user's own model, data or document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Fact = str | int | float | bool | None


@runtime_checkable
class Progress(Protocol):
    """Told by a deed while it works."""

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """Report `done` of `total` steps of `what`."""


@dataclass(frozen=True)
class Deed:
    """One paper's way of doing a deed (`train`, `generate`, `quantize`, …).

    A subclass is a frozen dataclass whose fields are the command's options and whose docstring is its
    help. A room offers its deeds as `deeds = {"train": TrainWithApollo}` in `apply.py` and names them in
    its card.
    """

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Do the work and return what the user wants to know (paths written, figures measured)."""
        raise NotImplementedError
