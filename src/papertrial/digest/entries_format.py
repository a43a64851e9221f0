"""The Korean digest: an entry for each paper, read by the start of each line and written back.

A clean day of the newest generation comes back byte for byte; whatever is irregular is read, warned of, and
written in the clean form.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from papertrial.digest.markdown import escape, one_line, unescape
from papertrial.digest.records import (
    LABELS,
    THREE_PARTS,
    Day,
    DayWarning,
    Entry,
    Field,
    Paper,
    Votes,
    WarningKind,
)
from papertrial.digest.verdicts import trial_sentence
from papertrial.errors import BadInputError

HEADER = re.compile(r"^## Daily Papers \(([0-9]{4}-[0-9]{2}-[0-9]{2})\)[ \t]*$")
# Written above a day whose text is escaped, so that reading it again gives the same text.
ESCAPED = "<!-- papertrial: Markdown in this text is escaped -->"
ON_TRIAL = "On Trial"

_LINK = r"\]\(https://arxiv\.org/abs/(?P<id>[0-9]{4}\.[0-9]{4,5})(?:v(?P<version>[0-9]+))?\)"
_ENTRY = re.compile(r"### \[(?P<title>.*?)" + _LINK)
_ESCAPED_ENTRY = re.compile(r"### \[(?P<title>(?:\\.|[^\\])*?)" + _LINK)
_EARLIER = re.compile(r"<!-- earlier votes: ([\d, -]+) -->")
_LABELLED = re.compile(r"- (?P<stars>\*{2,3})(?P<label>[^*:]+)\*{2,3}: ?(?P<text>.*)")
_IMAGE = re.compile(r"!\[[^\]]*\]\((?P<url>[^)\s]*)\)")
_WATCH = re.compile(r"\[Watch Video\]\(?(?P<url>https?://[^)\s]+)\)?")
_VIDEO = re.compile(r"(?:<div>)?<video[^>]*\ssrc=[\"'](?P<url>[^\"']*)[\"']")
_PARTS = {label: part for part, label in LABELS.items()}


def parse_entries(text: str) -> Day:
    """Read one day of the Korean digest.

    Two headers of one date are one day: the later entry of a paper takes the place of the earlier one, whose
    votes are kept as history. Text before the first header, and from any other `## ` heading on, is left out.

    Raises:
        BadInputError: there is no day, or there are headers of different dates.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    escaped = text.startswith(f"{ESCAPED}\n")
    reader = _Reader(escaped)
    for number, line, broken in _lines(text, reader.pattern):
        if broken:
            reader.warn(number, "missing blank line", "the entry begins in the middle of a line")
        reader.read(number, line)
    return reader.day()


def render_entries(day: Day, *, legacy: bool | None = None) -> str:
    """Write a day as entries.

    Args:
        day: the day, read from any format or made here.
        legacy: write texts as they are. Otherwise Markdown in them is escaped, and a line above the day says
            so. By default a day read from this format is written as it was.
    """
    if legacy is None:
        legacy = day.layout.get("format") == "entries" and "escaped" not in day.layout
    head = f"## Daily Papers ({day.date})\n\n"
    body = "".join(_render_entry(entry, legacy) for entry in day)
    return head + body if legacy else f"{ESCAPED}\n\n{head}{body}"


def _lines(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, str, bool]]:
    """Yield each line with its number; a line in whose middle an entry begins is yielded as two."""
    for number, line in enumerate(text.split("\n"), 1):
        start = next((found.start() for found in pattern.finditer(line) if found.start() > 0), None)
        if start is None or not line[:start].strip():
            yield number, line if start is None else line[start:], False
        else:
            yield number, line[:start], False
            yield number, line[start:], True


@dataclass
class _Draft:
    """An entry while its lines are read."""

    found: re.Match[str]
    line: int
    media: str | None = None
    video: bool = False
    votes: int | None = None
    earlier: tuple[Votes, ...] = ()
    vote_line: str | None = None
    authors: tuple[str, ...] = ()
    author_layout: str | None = None
    author_line: bool = False
    complete: bool = True
    fields: list[Field] = field(default_factory=list)


class _Reader:
    """Reads line by line; what a line is follows from how it begins."""

    def __init__(self, escaped: bool) -> None:
        self.escaped = escaped
        self.pattern = _ESCAPED_ENTRY if escaped else _ENTRY
        self.warnings: list[DayWarning] = []
        self.entries: dict[str, Entry] = {}
        self.dates: list[date] = []
        self.draft: _Draft | None = None
        self.outside = False
        self.blank = True
        self.last = ""

    def warn(self, line: int, kind: WarningKind, done: str) -> None:
        self.warnings.append(DayWarning(line, kind, done))

    def read(self, number: int, line: str) -> None:
        """Take in one line."""
        if not line.strip():
            self.blank = True
            return
        if found := HEADER.match(line):
            self._header(number, found[1])
        elif not self.dates:
            self._before(number, line)
        elif line.startswith("## "):
            self._close()
            self.outside = True
            self.warn(number, "trailer", f"the day ends at {line.strip()!r}")
        elif not self.outside:
            self._inside(number, line)
        self.blank = False

    def day(self) -> Day:
        """Return what was read."""
        self._close()
        if not self.dates:
            raise BadInputError("there is no day '## Daily Papers (YYYY-MM-DD)' in the text")
        if not self.entries:
            self.warn(1, "empty day", "kept as a day without papers")
        layout = {"format": "entries"} | ({"escaped": "yes"} if self.escaped else {})
        reason = None if self.entries else "the file lists no papers for this day"
        return Day(
            self.dates[0],
            tuple(self.entries.values()),
            "entries",
            tuple(sorted(self.warnings, key=lambda one: one.line)),
            reason=reason,
            layout=layout,
        )

    def _header(self, number: int, text: str) -> None:
        self._close()
        self.outside = False
        try:
            self.dates.append(date.fromisoformat(text))
        except ValueError:
            raise BadInputError(
                f"line {number}: the day's heading says {text!r}, which is no date YYYY-MM-DD"
            ) from None
        if len(self.dates) > 1:
            if self.dates[-1] != self.dates[0]:
                raise BadInputError(
                    f"line {number}: a second day {text} begins in a file of {self.dates[0]}; "
                    "give each day a file of its own"
                )
            self.warn(number, "second header", "merged with the first: the same date")

    def _before(self, number: int, line: str) -> None:
        if line.strip() != ESCAPED and not any(one.kind == "text outside an entry" for one in self.warnings):
            self.warn(number, "text outside an entry", "the text before the first day is left out")

    def _inside(self, number: int, line: str) -> None:
        if found := self.pattern.match(line):
            if not self.blank and self.last == "field":
                self._once(number, "missing blank line", "entries follow each other without one")
            self._close()
            self.draft = _Draft(found, number)
            self.last = "title"
        elif line.startswith("### "):
            self._close()
            self.warn(number, "unreadable entry", f"left out: {line[:60]}")
        elif self.draft is None:
            self.warn(number, "text outside an entry", f"left out: {line[:60]}")
        else:
            kind = self._line(self.draft, number, line)
            if not self.blank and kind != self.last:
                self._once(number, "missing blank line", f"the {kind} line follows the {self.last} line")
            self.last = kind

    def _line(self, draft: _Draft, number: int, line: str) -> str:
        """Take in a line of an entry and say what it was."""
        if draft.fields and (line[0] in " \t" or not line.startswith("- ")):
            last = draft.fields[-1]
            draft.fields[-1] = replace(last, text=f"{last.text}\n{line}")
            return "field"
        if line.startswith("Vote:") and draft.vote_line is None:
            return self._votes(draft, number, line)
        if line.startswith("Authors:") and not draft.author_line:
            return self._authors(draft, number, line)
        if line.startswith("- "):
            return self._field(draft, number, line)
        return self._media(draft, number, line)

    def _votes(self, draft: _Draft, number: int, line: str) -> str:
        draft.vote_line = line.removeprefix("Vote:").strip()
        if draft.vote_line.isdecimal():
            draft.votes = int(draft.vote_line)
        else:
            self.warn(number, "unreadable votes", f"{draft.vote_line!r} is read as unknown")
        return "votes"

    def _authors(self, draft: _Draft, number: int, line: str) -> str:
        text = line.removeprefix("Authors:").strip()
        draft.author_line = True
        names = text.split(", ") if text else []
        if text.startswith("["):
            try:
                listed = ast.literal_eval(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                listed = None
            if isinstance(listed, list) and all(isinstance(name, str) for name in listed):
                names = listed
                self.warn(number, "author list in brackets", "read as the names it holds")
        names = [unescape(name) if self.escaped else name for name in names]
        if "+" in names:
            draft.complete = False
            draft.author_layout = str(names.index("+"))
            self.warn(number, "truncated authors", "the '+' is no name; the list is not complete")
        elif not names:
            draft.complete = False
            self.warn(number, "no authors", "the author list is unknown")
        draft.authors = tuple(name for name in names if name and name != "+")
        return "authors"

    def _field(self, draft: _Draft, number: int, line: str) -> str:
        found = _LABELLED.fullmatch(line)
        if found is None:
            self._once(number, "unlabelled field", "kept without a label")
            draft.fields.append(Field(None, self._text(line[2:]), 0))
            return "field"
        stars = len(found["stars"])
        if stars != 3:
            self._once(number, "label style", "labels with two stars are kept")
        draft.fields.append(Field(found["label"], self._text(found["text"]), stars))
        return "field"

    def _media(self, draft: _Draft, number: int, line: str) -> str:
        if found := _EARLIER.fullmatch(line):
            counts = found[1].split(", ")
            draft.earlier = tuple(Votes(int(one) if one.isdecimal() else None) for one in counts)
            return "votes"
        for pattern, video in ((_IMAGE, False), (_WATCH, True), (_VIDEO, True)):
            if found := pattern.match(line):
                if draft.media is None or (video and not draft.video):
                    draft.media, draft.video = found["url"], video
                if pattern is _WATCH and not line.startswith("[Watch Video]("):
                    self.warn(number, "media", "a video's address without brackets was read")
                return "media"
        if line.startswith("</"):
            return "media"
        self.warn(number, "text outside an entry", f"left out: {line[:60]}")
        return "other"

    def _text(self, text: str) -> str:
        return unescape(text) if self.escaped else text

    def _once(self, number: int, kind: WarningKind, done: str) -> None:
        """Warn once for each entry and kind."""
        start = self.draft.line if self.draft else 0
        if not any(one.kind == kind and one.line >= start for one in self.warnings):
            self.warn(number, kind, done)

    def _close(self) -> None:
        draft, self.draft = self.draft, None
        if draft is None:
            return
        entry = self._entry(draft)
        earlier = self.entries.get(entry.paper.id)
        if earlier is not None:
            history = (*earlier.paper.vote_history, Votes(earlier.paper.upvotes), *entry.paper.vote_history)
            entry = entry.with_paper(vote_history=history)
            self.warn(
                draft.line, "repeated entry", f"{entry.paper.id}: the later entry takes the earlier's place"
            )
        self.entries[entry.paper.id] = entry

    def _entry(self, draft: _Draft) -> Entry:
        self._check(draft)
        title = self._text(draft.found["title"])
        layout = {"votes": "none" if draft.vote_line is None else "-"} if draft.votes is None else {}
        if draft.author_layout is not None:
            layout["plus"] = draft.author_layout
        paper = Paper(
            id=draft.found["id"],
            title=title,
            version=int(draft.found["version"]) if draft.found["version"] else None,
            authors=draft.authors,
            authors_complete=draft.complete and bool(draft.authors),
            listed_on=self.dates[-1],
            upvotes=draft.votes,
            vote_history=draft.earlier,
            media=draft.media,
            media_type=None if draft.media is None else "video" if draft.video else "image",
            source="entries",
        )
        fields = tuple(one for one in draft.fields if one.label != ON_TRIAL)
        text = " ".join(one.text for one in fields)
        return Entry(
            paper=paper,
            lang="ko" if re.search("[가-힣]", text) else "en",
            fields=fields,
            sections=_sections(fields),
            style="labelled" if any(one.label for one in fields) else "bullets",
            layout=layout,
        )

    def _check(self, draft: _Draft) -> None:
        labels = [one.label for one in draft.fields if one.label and one.label != ON_TRIAL]
        if labels:
            for label in LABELS.values():
                if label not in labels:
                    self.warn(draft.line, "missing field", f"the entry has no {label!r}")
            for label in labels:
                if label not in LABELS.values():
                    self.warn(draft.line, "extra field", f"{label!r} is kept")
        if draft.vote_line is None:
            self.warn(draft.line, "no votes", "the entry has no vote line; its votes are unknown")
        if draft.media is None:
            self.warn(draft.line, "media", "the entry has no picture and no video")
        if not draft.author_line:
            self.warn(draft.line, "no authors", "the entry has no author line")


def _sections(fields: Sequence[Field]) -> dict[str, str]:
    """Return the three parts that are there, by role; empty where no label is known."""
    found = {_PARTS[one.label]: one.text for one in fields if one.label in _PARTS}
    return {part: found[part] for part in THREE_PARTS if part in found}


def _render_entry(entry: Entry, legacy: bool) -> str:
    paper = entry.paper
    write: Callable[[str], str] = str if legacy else escape
    version = f"v{paper.version}" if paper.version else ""
    title = one_line(paper.title) if legacy else escape(paper.title)
    blocks = [f"### [{title}](https://arxiv.org/abs/{paper.id}{version})"]
    if paper.media:
        blocks.append(_render_media(paper))
    if entry.layout.get("votes") != "none":
        blocks.append(f"Vote: {'-' if paper.upvotes is None else paper.upvotes}{_earlier(paper)}")
    names = list(paper.authors)
    if "plus" in entry.layout:
        names.insert(int(entry.layout["plus"]), "+")
    blocks.append(f"Authors: {', '.join(write(name) for name in names)}")
    blocks.append("\n".join(_render_field(one, write) for one in _fields(entry, legacy)))
    return "\n\n".join(blocks) + "\n\n"


def _earlier(paper: Paper) -> str:
    """Return earlier votes as a line that no reader sees; empty where there are none."""
    if not paper.vote_history:
        return ""
    counts = ("-" if votes.count is None else str(votes.count) for votes in paper.vote_history)
    return f"\n<!-- earlier votes: {', '.join(counts)} -->"


def _render_media(paper: Paper) -> str:
    url = one_line(paper.media or "").replace(")", "%29").replace('"', "%22").replace(" ", "%20")
    if paper.media_type == "video":
        return f'[Watch Video]({url})\n<div><video controls src="{url}" muted="false"></video></div>'
    return f"![]({url})"


def _render_field(one: Field, write: Callable[[str], str]) -> str:
    text = "\n".join(write(line) for line in one.text.split("\n"))
    if one.label is None:
        return f"- {text}"
    stars = "*" * one.stars
    return f"- {stars}{one.label}{stars}: {text}"


def _fields(entry: Entry, legacy: bool) -> list[Field]:
    """Return what stands under an entry: the file's own fields, or the three parts of a summary made here."""
    if entry.fields and (entry.fields[0].label or entry.layout or not entry.sections):
        fields = list(entry.fields)
    else:
        fields = [Field(LABELS[part], one_line(text)) for part, text in three_parts(entry).items()]
    if entry.trial is not None and not legacy:
        fields.append(Field(ON_TRIAL, trial_sentence(entry, entry.lang).partition(": ")[2]))
    return fields


def three_parts(entry: Entry) -> dict[str, str]:
    """Return a summary in the three parts of this format; five roles are put together, prose is the first."""
    sections = entry.sections
    if not sections:
        return {"whats_new": entry.summary}
    if any(part in sections for part in THREE_PARTS):
        return {part: sections[part] for part in THREE_PARTS if part in sections}
    joined = {
        "whats_new": ("headline", "objective"),
        "technical": ("method",),
        "performance": ("results", "implication"),
    }
    parts = {
        part: " ".join(sections[role] for role in roles if role in sections) for part, roles in joined.items()
    }
    return {part: text for part, text in parts.items() if text}
