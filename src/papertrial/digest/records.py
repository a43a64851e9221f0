"""What a digest is made of: papers, entries, days. `None` means unknown, never zero."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Literal

ARXIV_ID = re.compile(r"[0-9]{4}\.[0-9]{4,5}")

# The roles of an English summary and of a Korean one, in the order in which they are read.
ROLES = ("headline", "objective", "method", "results", "implication")
THREE_PARTS = ("whats_new", "technical", "performance")
LABELS = {
    "whats_new": "What's New",
    "technical": "Technical Details",
    "performance": "Performance Highlights",
}

GroundingWord = Literal["exact", "rounded", "derived", "context differs", "absent", "unverifiable"]


@dataclass(frozen=True)
class Votes:
    """How many votes a paper had, and when that was seen; `when` is None where a file does not say."""

    count: int | None
    when: datetime | None = None


@dataclass(frozen=True)
class Paper:
    """One paper as a source lists it.

    Attributes:
        id: the arXiv id without version.
        title: on one line.
        raw_title: the title as the file has it, where it breaks over lines.
        authors: as listed.
        authors_complete: whether that is the paper's whole author list in its order.
        listed_on: the day of the listing, which is not the day of publication.
        vote_history: earlier votes, oldest first.
        media: address of the picture or video shown with the entry.
    """

    id: str
    title: str
    version: int | None = None
    raw_title: str | None = field(default=None, compare=False)
    authors: tuple[str, ...] = ()
    authors_complete: bool = False
    abstract: str | None = None
    published: datetime | None = None
    listed_on: date | None = None
    upvotes: int | None = None
    vote_history: tuple[Votes, ...] = ()
    comments: int | None = None
    media: str | None = None
    media_type: Literal["image", "video"] | None = None
    submitter: str | None = None
    organisation: str | None = None
    github: str | None = None
    project: str | None = None
    categories: tuple[str, ...] = ()
    source: str = "unknown"
    fetched_at: datetime | None = None

    @property
    def links(self) -> dict[str, str]:
        """The paper's addresses, made from its id."""
        return {
            "arxiv": f"https://arxiv.org/abs/{self.id}",
            "hf": f"https://huggingface.co/papers/{self.id}",
            "pdf": f"https://arxiv.org/pdf/{self.id}",
            "html": f"https://arxiv.org/html/{self.id}",
        }


@dataclass(frozen=True)
class Field:
    """One labelled part of an entry as a file has it.

    Attributes:
        label: such as "What's New"; None for text without a label (a table's cell, a plain bullet).
        text: the text, spaces kept.
        stars: how many asterisks stand on each side of the label.
    """

    label: str | None
    text: str
    stars: int = 3


@dataclass(frozen=True)
class GroundedNumber:
    """One number of a summary, and where the paper has it.

    Attributes:
        text: as the summary writes it.
        section: the section it stands in; start, end: its place in that section's text.
        value, unit: normalised; a unit is "" (plain), "%", "pp", "x", "s", "B" (bytes) or another name.
        word: the verdict.
        source: the sentence or table row of the paper that bears it out, or that has the value only.
        operands: the two numbers from which a derived one follows, as the paper writes them.
    """

    text: str
    section: str
    start: int
    end: int
    value: float
    unit: str
    word: GroundingWord
    source: str | None = None
    operands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grounding:
    """What became of a summary's numbers.

    Attributes:
        numbers: in the order of the sections.
        text: which text they were looked up in: "full text", "abstract", …
        topic_overlap: the share of the title's distinctive words that the summary has; None where unknown.
    """

    numbers: tuple[GroundedNumber, ...]
    text: str
    topic_overlap: float | None = None

    @property
    def grounded_fraction(self) -> float | None:
        """The share of numbers found as exact, rounded or derived; None where there is no number to judge."""
        judged = [one for one in self.numbers if one.word != "unverifiable"]
        if not judged:
            return None
        return sum(one.word in ("exact", "rounded", "derived") for one in judged) / len(judged)


@dataclass(frozen=True)
class OnTrial:
    """What papertrial has found of a paper.

    Attributes:
        name: the paper's name here, as in `papertrial try NAME`.
        field: its field.
        status: "built", or "docket" where its trial is still to be built.
        verdicts: how many claims came out how: "holds", "fails", "undecided", "untested", …
        source: whose verdicts they are: "measured here", "reference run, 2026-11-21", "not measured".
    """

    name: str
    field: str
    status: Literal["built", "docket"]
    verdicts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    source: str = "not measured"


@dataclass(frozen=True)
class Entry:
    """One paper of a day, with its summary.

    Attributes:
        fields: what a digest file has, in file order. Empty for an entry that was made here.
        sections: the summary by role: ROLES, or THREE_PARTS. Empty where the text could not be told apart.
        style: how the summary was written: "prose", "roman", "letters", "labelled", "bullets", "sections".
        evidence: for each section the sentences of the paper that it was made from, where that is known.
        trial: what papertrial has found of the paper; None where it has no card.
        text: which text of the paper the summary was made from; None where unknown.
        model, prompt: who wrote the summary, with which instructions.
        notes: what a reader must be told of how the entry came about, in plain sentences.
        layout: oddities of the file that rendering it again needs, by name.
    """

    paper: Paper
    lang: str = "en"
    fields: tuple[Field, ...] = ()
    sections: Mapping[str, str] = field(default_factory=dict)
    style: str = "sections"
    evidence: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    grounding: Grounding | None = None
    trial: OnTrial | None = None
    text: str | None = None
    model: str | None = None
    prompt: str | None = None
    created_at: datetime | None = None
    notes: tuple[str, ...] = ()
    layout: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def summary(self) -> str:
        """The whole summary as one text."""
        parts = list(self.sections.values()) or [one.text for one in self.fields]
        return " ".join(part.strip() for part in parts if part.strip())

    def with_paper(self, **changes: object) -> Entry:
        """Return the entry with fields of its paper replaced."""
        return replace(self, paper=replace(self.paper, **changes))  # type: ignore[arg-type]


WarningKind = Literal[
    "older generation",
    "broken title",
    "pipe in a cell",
    "no authors",
    "author list in brackets",
    "truncated authors",
    "missing field",
    "extra field",
    "unlabelled field",
    "label style",
    "media",
    "no votes",
    "unreadable votes",
    "missing blank line",
    "second header",
    "repeated entry",
    "trailer",
    "text outside an entry",
    "unreadable entry",
    "empty day",
    "odd layout",
]


@dataclass(frozen=True)
class DayWarning:
    """Something irregular in a digest file.

    Attributes:
        line: of the file, from 1.
        kind: what is irregular.
        done: what was done about it.
    """

    line: int
    kind: WarningKind
    done: str


@dataclass(frozen=True)
class Day:
    """One day's papers.

    Attributes:
        date: the day of the listing.
        entries: in the order listed.
        source: where it came from: "hf", "arxiv", "cards", or a file's name.
        warnings: what was irregular.
        complete: whether nothing can be added to it any more.
        reason: why it is empty or incomplete, where it is.
        layout: oddities of the file that rendering it again needs, by name.
    """

    date: date
    entries: tuple[Entry, ...]
    source: str
    warnings: tuple[DayWarning, ...] = ()
    complete: bool = True
    reason: str | None = None
    layout: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def entry(self, arxiv: str) -> Entry | None:
        """Return the entry of a paper, or None where the day has none."""
        return next((entry for entry in self.entries if entry.paper.id == arxiv), None)
