"""What `papertrial apply` runs: a method of a paper, used on the user's own model, data or document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from papertrial.errors import BadInputError

Fact = str | int | float | bool | None


@runtime_checkable
class Progress(Protocol):
    """Told by a deed while it works."""

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """Report `done` of `total` steps of `what`."""


def check_new_folder(out: Path) -> None:
    """Raise `BadInputError` where `out` is a file, or a folder that holds something already."""
    if out.is_dir():
        if any(out.iterdir()):
            raise BadInputError(f"out must be an empty or new folder; {out} holds files already")
    elif out.exists():
        raise BadInputError(f"out must be a folder; {out} is a file")


@dataclass(frozen=True)
class Deed:
    """One paper's way of doing a deed (`train`, `generate`, `quantize`, …).

    A subclass is a frozen dataclass whose fields are the command's options and whose docstring is its
    help. A room offers its deeds as `deeds = {"train": TrainWithApollo}` in `apply.py` and names them in
    its card.

    Attributes:
        methods: what `--method` may name besides the paper, where one paper has several ("gptq", "awq").
        method_field: the field that then takes the name.
    """

    methods: ClassVar[tuple[str, ...]] = ()
    method_field: ClassVar[str] = "algorithm"

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Do the work and return what the user wants to know (paths written, figures measured)."""
        raise NotImplementedError
