"""The text of a paper in sections, and how much of it is kept: whole sections, never a blind cut."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from papertrial.digest.records import Paper
from papertrial.digest.sentences import split_sentences

Kind = Literal[
    "abstract",
    "introduction",
    "method",
    "results",
    "conclusion",
    "related",
    "other",
    "appendix",
    "references",
]
Origin = Literal["hub", "arxiv html", "pdf", "abstract"]

MOST_CHARACTERS = 240_000
"""About 60,000 tokens: what most long-context models take, and more than most papers have."""

_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))  # type: ignore[misc]
    for kind, pattern in (
        ("references", r"^(references?|bibliography|literature|참고 ?문헌)\b"),
        ("appendix", r"^(appendix|appendices|supplement|[a-z]\.?\d* appendix|부록)"),
        ("abstract", r"^(abstract|summary|초록|요약)\b"),
        ("introduction", r"\b(introduction|motivation|서론)\b"),
        ("related", r"\b(related work|background|preliminar|prior work|관련 ?연구)"),
        ("conclusion", r"\b(conclu|discussion|limitation|future work|broader impact|결론)"),
        (
            "results",
            r"\b(experiment|result|evaluation|ablation|analysis|benchmark|performance|finding|실험|결과)",
        ),
        ("method", r"\b(method|approach|model|architecture|framework|algorithm|training|design|data|방법)"),
    )
)
_NUMBERING = re.compile(
    r"^\s*(?:[Ss]ection\s+|[Cc]hapter\s+)?(?:\d+(?:\.\d+)*|[IVXLC]+|[A-Z](?:\.\d+)*(?=[.):])|[A-Z](?:\.\d+)+)[.):]?\s+"
)
_LEFT_OUT_FIRST: tuple[Kind, ...] = ("appendix", "other", "related")


@dataclass(frozen=True)
class Section:
    """One section of a paper.

    Attributes:
        heading: as the paper has it, without its number; "" for text before any heading.
        kind: what it is for.
        paragraphs: its prose, each on one line.
        rows: the rows of its tables, "a | b | c", each table's caption before them and "" between two tables.
    """

    heading: str
    kind: Kind
    paragraphs: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The section as one text: heading, paragraphs, table rows a line each."""
        parts = [f"## {self.heading}"] if self.heading else []
        parts += self.paragraphs
        if self.rows:
            parts.append("\n".join(self.rows))
        return "\n\n".join(parts)


@dataclass(frozen=True)
class PaperText:
    """What could be read of a paper.

    Attributes:
        source: where it came from: the Hub's page, arXiv's HTML, the PDF, or the abstract alone.
        sections: in the paper's order; references and acknowledgements are left out.
        left_out: headings of sections that were left out or shortened because the text was too long.
        notes: what went wrong on the way to it, in plain sentences.
    """

    source: Origin
    sections: tuple[Section, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_abstract(cls, paper: Paper, notes: tuple[str, ...] = ()) -> PaperText:
        """Return the text of a paper of which only the abstract is known; empty where not even that is."""
        said = " ".join((paper.abstract or "").split())
        sections = (Section("Abstract", "abstract", (said,)),) if said else ()
        return cls("abstract", sections, notes=notes)

    @property
    def text(self) -> str:
        """The whole text, sections parted by blank lines."""
        return "\n\n".join(text for section in self.sections if (text := section.text))

    @property
    def kind(self) -> str:
        """What a grounding says it looked numbers up in: "full text" or "abstract"."""
        return "abstract" if self.source == "abstract" else "full text"

    def of_kind(self, *kinds: Kind) -> tuple[Section, ...]:
        """Return the sections of these kinds, in the paper's order."""
        return tuple(section for section in self.sections if section.kind in kinds)

    def __bool__(self) -> bool:
        return any(section.paragraphs or section.rows for section in self.sections)


def kind_of(heading: str, before: Kind = "other") -> Kind:
    """Return what a section is for by its heading; after the references everything is appendix.

    Args:
        heading: as the paper has it, numbered or not.
        before: the kind of the section before it.
    """
    plain = without_number(heading).lower()
    if re.match(r"(acknowledge?ment|author contribution|funding|ethic)", plain):
        return "references"  # like them, it says nothing about the work
    found: Kind = next((kind for kind, pattern in _KINDS if pattern.search(plain)), "other")
    if before in ("references", "appendix") and found not in ("references",):
        return "appendix"
    return found


def without_number(heading: str) -> str:
    """Return a heading without its number ("3.1 Data" → "Data")."""
    return _NUMBERING.sub("", " ".join(heading.split())) or heading.strip()


def kept_within(text: PaperText, most: int = MOST_CHARACTERS) -> PaperText:
    """Return the text with whole sections left out until it has `most` characters at most.

    References always go. Then, while it is too long: appendices, sections of unknown use and related work,
    the last first; the others are then shortened to their first paragraphs and all their tables, the longest
    first. What went is named in `left_out`.
    """
    sections = [section for section in text.sections if section.kind != "references"]
    gone: list[str] = []
    for kind in _LEFT_OUT_FIRST:
        for section in reversed([one for one in sections if one.kind == kind]):
            if _length(sections) > most:
                sections.remove(section)
                gone.append(section.heading or "(untitled)")
    while _length(sections) > most:
        longest = max(sections, key=lambda one: len(one.text))
        sections[sections.index(longest)] = _shortened(longest, _length(sections) - most)
        gone.append(f"{longest.heading or '(untitled)'} (shortened)")
        if not longest.paragraphs and not longest.rows:
            break  # only headings are left
    kept = tuple(one for one in sections if one.paragraphs or one.rows)
    return replace(text, sections=kept, left_out=tuple(dict.fromkeys(gone)))


def _shortened(section: Section, by: int) -> Section:
    """Return a section without its last paragraphs, or else without its last table rows, or else sentences.

    At least `by` characters go where there are so many, and something goes always.
    """
    paragraphs, rows = list(section.paragraphs), list(section.rows)
    freed = 0
    while freed < by and len(paragraphs) > 1:
        freed += len(paragraphs.pop()) + 2
    while freed < by and rows:
        freed += len(rows.pop()) + 1
    if freed < by and paragraphs:
        paragraphs = [begun] if (begun := _first_sentences(paragraphs[0], len(paragraphs[0]) - by)) else []
    return replace(section, paragraphs=tuple(paragraphs), rows=tuple(rows))


def _first_sentences(paragraph: str, most: int) -> str:
    ends = [sentence.end for sentence in split_sentences(paragraph) if sentence.end <= most]
    return paragraph[: ends[-1]] if ends else ""


def _length(sections: list[Section]) -> int:
    return sum(len(one.text) + 2 for one in sections)


class SectionBuilder:
    """Puts headings, paragraphs and table rows, as a reader meets them, together to sections."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, str, list[str], list[str]]] = [(0, "", [], [])]

    def heading(self, text: str, level: int) -> None:
        """Begin a section; a lower level is higher up."""
        said = " ".join(text.split())
        if said:
            self._parts.append((level, said, [], []))

    def paragraph(self, text: str) -> None:
        """Add a paragraph to the section that is open."""
        said = " ".join(text.split())
        if said:
            self._parts[-1][2].append(said)

    def rows(self, rows: list[str]) -> None:
        """Add a table's rows to the section that is open."""
        held = self._parts[-1][3]
        filled = [row for row in rows if row.strip(" |")]
        held.extend(["", *filled] if held and filled else filled)

    def sections(self) -> tuple[Section, ...]:
        """Return the sections that hold anything.

        The paper's own title is no section. A subsection is of its section's kind, where that is known.
        """
        parts = [part for part in self._parts if part[0] or part[2] or part[3]]
        levels = [level for level, *_ in parts if level]
        is_title = bool(levels) and levels.count(min(levels)) == 1 and len(levels) > 1
        top = sorted(levels)[1] if is_title else min(levels, default=1)
        title = min(levels) if is_title else None
        built: list[Section] = []
        parent: Kind = "other"
        before: Kind = "other"
        for level, heading, paragraphs, rows in parts:
            own = level not in (0, title)
            kind = kind_of(heading, before) if own else "other"
            if own and level > top and parent != "other":
                kind = parent
            elif own and level <= top:
                parent = kind
            before = kind
            if paragraphs or rows:
                said = without_number(heading) if own else ""
                built.append(Section(said, kind, tuple(paragraphs), tuple(rows)))
        return tuple(built)
