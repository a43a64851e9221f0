"""The card of a paper: what it is, what it claims, what was found. Data, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from papertrial.errors import BadInputError
from papertrial.trial.relation import Relation

FIELDS = (
    "efficient",
    "posttrain",
    "serving",
    "perception",
    "generation",
    "scenes",
    "benchmarks",
    "agents",
    "insight",
)
LANGUAGES = ("en", "ko")
Status = Literal["built", "docket"]


class CardError(BadInputError):
    """A card that does not hold together. Every problem is named with its file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class PaperNumber:
    """What the paper itself reports for a claim, as it prints it, and where."""

    value: str
    source: str


@dataclass(frozen=True)
class Claim:
    """One claim of a paper: either tested by a trial, or untested with the command that would test it.

    Attributes:
        name: the claim's name, unique on its card.
        says: the claim in one sentence of our own.
        paper: the paper's own number and where it stands.
        trial, metric, arm, relation: what tests it. None where it is untested.
        against: the arm it is held against; None where the relation speaks of a value alone.
        margin_reason: why the threshold is where it is ("as good as" claims need one).
        untested: why it cannot be tested here. None where it is tested.
        command: the command that would test an untested claim; None where none could (a study with people).
    """

    name: str
    says: str
    paper: PaperNumber
    trial: str | None = None
    metric: str | None = None
    arm: str | None = None
    against: str | None = None
    relation: Relation | None = None
    margin_reason: str | None = None
    untested: str | None = None
    command: str | None = None


@dataclass(frozen=True)
class Finding:
    """Something a user must know about a paper or its code, with the check that reproduces it here."""

    says: str
    where: str
    check: str


@dataclass(frozen=True)
class Code:
    """The official code: where it is, what was read, and under which licence."""

    repository: str
    licence: str
    commit: str | None = None
    runs_on_cpu: bool | None = None


@dataclass(frozen=True)
class Summary:
    """A paper in our own words, in one language."""

    whats_new: str
    details: str
    results: str


@dataclass(frozen=True)
class Use:
    """How to use the paper's parts: the shortest snippet that works, and the command."""

    python: str | None = None
    apply: str | None = None


@dataclass(frozen=True)
class Card:
    """All that a card says. `name` and `field` come from the folder it lies in.

    `arxiv` and `day` are None together, on the card of a part of papertrial itself that stands on trial.
    """

    name: str
    field: str
    title: str
    arxiv: str | None
    day: date | None
    purpose: str
    summary: Mapping[str, Summary]
    claims: tuple[Claim, ...]
    code: Code | None = None
    checkpoints: tuple[str, ...] = ()
    deeds: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    use: Use = Use()
    status: Status = "built"

    @property
    def origin(self) -> str:
        """Where the paper comes from, in a few words: its arXiv id and its digest day."""
        return "papertrial itself" if self.arxiv is None else f"arXiv {self.arxiv} · {self.day}"

    @property
    def order(self) -> tuple[date, str, str]:
        """What cards are sorted by: day, field, name."""
        return self.day or date.max, self.field, self.name

    @property
    def tested(self) -> tuple[Claim, ...]:
        """The claims that a trial here measures."""
        return tuple(claim for claim in self.claims if claim.untested is None)

    def claim(self, name: str) -> Claim:
        """Return the claim of that name."""
        return next(claim for claim in self.claims if claim.name == name)


def load_card(folder: Path, name: str | None = None, field: str | None = None) -> Card:
    """Read and check the card of a room.

    Args:
        folder: the room's folder, which holds `card.toml`.
        name: the paper's name; the folder's name where none is given.
        field: the paper's field; the name of the folder above where none is given.

    Raises:
        CardError: the file is missing, is not TOML, or does not say what a card must; one line for each
            problem, with file and line number.
    """
    from papertrial.trial.card_reader import read_card

    return read_card(folder / "card.toml", name or folder.name, field or folder.parent.name)
