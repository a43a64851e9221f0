"""The English digest: a table for each day. Read and written, byte for byte where a file is left as it was.

Three generations are read: the four-column table of September 2024 (the link in a cell of its own), the one
day whose titles end in " - read more on …", and today's. What is written is either that of the file
(`legacy=True`) or our own clean flavour, which Markdown renderers and line-based programs can read: titles on
one line, markup escaped, and a space before the pipe after the links, which tells the two apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from papertrial.digest.markdown import escape, one_line, unescape
from papertrial.digest.records import Day, DayWarning, Entry, Field, Paper, WarningKind
from papertrial.digest.styles import read_style
from papertrial.digest.verdicts import trial_sentence
from papertrial.errors import BadInputError

HEADER = re.compile(r"^## Papers for ([0-9]{4}-[0-9]{2}-[0-9]{2})[ \t]*$", re.MULTILINE)

_COLUMNS = {
    "three": "| Title | Authors | Summary |\n|-------|---------|---------|\n",
    "four": "| Title | Authors | Summary | Link |\n|-------|---------|---------|------|\n",
}
_ID = r"(?P<id>[0-9]{4}\.[0-9]{4,5})(?:v(?P<version>[0-9]+))?"
_LINKS = rf"\[arXiv\]\(https://arxiv\.org/abs/{_ID}\) or \[HuggingFace\]\((?P<hf>[^)\s]*)\)"
_ROW_NOW = re.compile(
    rf"(?P<title>.*?) \(Read more on {_LINKS}\)(?P<joint> ?)\| (?P<authors>.*?) \| (?P<summary>.*)", re.DOTALL
)
_ROW_READ_MORE = re.compile(
    rf"(?P<title>.*?) - read more on {_LINKS} \| (?P<authors>.*?) \| (?P<summary>.*)", re.DOTALL
)
_ROW_FOUR = re.compile(
    rf"(?P<title>.*?) \| (?P<authors>.*?) \| (?P<summary>.*) \| "
    rf"(?P<link>\[[^\]]*\]\(https://arxiv\.org/abs/{_ID}\))",
    re.DOTALL,
)
_ROW_END = re.compile(r" \|(?=\n\| |\n*\Z)")


def parse_table(text: str) -> Day:
    """Read one day of the English digest.

    Raises:
        BadInputError: there is no day in the text, or more than one.
    """
    days = parse_tables(text)
    if len(days) != 1:
        dates = ", ".join(str(day.date) for day in days) or "none"
        raise BadInputError(f"one day '## Papers for YYYY-MM-DD' was expected, the text has {dates}")
    return days[0]


def parse_tables(text: str) -> list[Day]:
    """Read every day of a text, such as a README into which many days were put one after the other."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    headers = list(HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    days = []
    for index, (header, end) in enumerate(zip(headers, ends, strict=True)):
        body = text[header.end() : end]
        lead = text[: header.start()] if index == 0 else "\n\n"
        days.append(_Reader(text, header, body, lead).day())
    return days


def render_table(day: Day, *, legacy: bool = False) -> str:
    """Write a day as a table.

    Args:
        day: the day, read from any format or made here.
        legacy: write it as the public digest does, byte for byte where it was read from there; a title or a
            cell with line breaks or pipes then breaks other readers.
    """
    if not legacy:
        rows = [_clean_row(entry) for entry in day]
        return f"\n\n## Papers for {day.date}\n\n{_COLUMNS['three']}" + "".join(
            f"| {row} |\n" for row in rows
        )
    layout = day.layout if day.layout.get("format") == "table" else {}
    generation = layout.get("generation", "now")
    head = f"{layout.get('lead', _lead(generation))}## Papers for {day.date}\n\n"
    columns = _COLUMNS["four" if generation == "four" else "three"]
    rows = [f"| {_legacy_row(entry, generation)} |" for entry in day]
    end = layout.get("tail", "\n")
    return head + columns.rstrip("\n") + "".join(f"\n{row}" for row in rows) + end


@dataclass
class _Reader:
    """Reads the body of one day and keeps what is irregular."""

    text: str
    header: re.Match[str]
    body: str
    lead: str

    def __post_init__(self) -> None:
        self.warnings: list[DayWarning] = []

    def day(self) -> Day:
        """Return the day with its entries and warnings."""
        when = _date(self.header[1])
        generation, offset = self._columns()
        entries = list(self._entries(generation, offset))
        if generation != "now":
            self.warn(self.header.start(), "older generation", f"read as the {generation}-column layout")
        if not entries:
            self.warn(self.header.start(), "empty day", "kept as a day without papers")
        self._repeats(entries)
        kept = self.body[: len(self.body.rstrip("\n"))]
        layout = {"format": "table", "generation": generation, "lead": self.lead}
        layout["tail"] = self.body[len(kept) :]
        reason = None if entries else "the file lists no papers for this day"
        return Day(when, tuple(entries), "table", tuple(self.warnings), reason=reason, layout=layout)

    def warn(self, position: int, kind: WarningKind, done: str) -> None:
        """Keep a warning about a place in the whole text."""
        self.warnings.append(DayWarning(self.text.count("\n", 0, position) + 1, kind, done))

    def _columns(self) -> tuple[str, int]:
        """Return the generation and where the rows begin in the body."""
        start = len(self.body) - len(self.body.lstrip("\n"))
        for name, columns in _COLUMNS.items():
            if self.body.startswith(columns.rstrip("\n"), start):
                at = start + len(columns.rstrip("\n"))
                if (
                    name == "three"
                    and " - read more on [arXiv](" in self.body[at : at + 2000].split("|\n")[0]
                ):
                    return "read more", at
                return ("four" if name == "four" else "now"), at
        self.warn(
            self.header.start(), "odd layout", "no table header follows the day; rows are read without it"
        )
        return "now", start - 1 if start else 0

    def _entries(self, generation: str, offset: int) -> Iterator[Entry]:
        position, body = offset, self.body
        pattern = {"now": _ROW_NOW, "read more": _ROW_READ_MORE, "four": _ROW_FOUR}[generation]
        while True:
            start = body.find("\n| ", position)
            skipped = body[position : start if start >= 0 else len(body)]
            if skipped.strip():
                self.warn(self._at(position), "text outside an entry", f"left out: {_short(skipped)}")
            if start < 0:
                return
            end = _ROW_END.search(body, start + 2)
            stop = end.start() if end else len(body)
            row = body[start + 3 : stop]
            position = end.end() if end else len(body)
            found = pattern.fullmatch(row) if end else None
            if found is None:
                self.warn(self._at(start + 1), "unreadable entry", f"left out: {_short(row)}")
            else:
                yield self._entry(found, self._at(start + 1))

    def _entry(self, found: re.Match[str], at: int) -> Entry:
        cells = found.groupdict()
        escaped = cells.get("joint") == " "
        raw, authors, summary = (
            unescape(cells[name]) if escaped else cells[name] for name in ("title", "authors", "summary")
        )
        layout = {name: cells[name] for name in ("link", "joint") if cells.get(name)}
        if cells.get("hf") and cells["hf"] != f"https://huggingface.co/papers/{cells['id']}":
            self.warn(at, "odd layout", f"the second link leads to {_short(cells['hf'])}; kept for writing")
            layout["hf"] = cells["hf"]
        if "\n" in raw:
            self.warn(at, "broken title", "joined to one line")
        if not authors:
            self.warn(at, "no authors", "the author list is unknown")
        if not escaped and "|" in summary:
            self.warn(at, "pipe in a cell", "kept as part of the summary")
        title = " ".join(raw.split())
        style, sections = read_style(summary)
        paper = Paper(
            id=cells["id"],
            title=title,
            version=int(cells["version"]) if cells["version"] else None,
            raw_title=raw if raw != title else None,
            authors=tuple(authors.split(", ")) if authors else (),
            listed_on=_date(self.header[1]),
            source="table",
        )
        return Entry(
            paper=paper,
            fields=(Field(None, summary),),
            sections=sections,
            style=style,
            layout=layout,
        )

    def _at(self, position: int) -> int:
        return self.header.end() + position

    def _repeats(self, entries: list[Entry]) -> None:
        seen: set[str] = set()
        for entry in entries:
            if entry.paper.id in seen:
                at = self.text.rfind(f"abs/{entry.paper.id}")
                self.warn(at, "repeated entry", f"{entry.paper.id} stands here twice; both rows are kept")
            seen.add(entry.paper.id)


def _legacy_row(entry: Entry, generation: str) -> str:
    paper = entry.paper
    title, authors = paper.raw_title or paper.title, ", ".join(paper.authors)
    summary = entry.fields[0].text if len(entry.fields) == 1 else one_line(entry.summary)
    version = f"v{paper.version}" if paper.version else ""
    abstract = f"https://arxiv.org/abs/{paper.id}{version}"
    if generation == "four":
        link = entry.layout.get("link", f"[Read more]({abstract})")
        return f"{title} | {authors} | {summary} | {link}"
    page = entry.layout.get("hf", paper.links["hf"])
    links = f"[arXiv]({abstract}) or [HuggingFace]({page})"
    if generation == "read more":
        return f"{title} - read more on {links} | {authors} | {summary}"
    if entry.layout.get("joint") == " ":
        return f"{escape(title)} (Read more on {links}) | {escape(authors)} | {escape(summary)}"
    return f"{title} (Read more on {links})| {authors} | {summary}"


def _clean_row(entry: Entry) -> str:
    paper = entry.paper
    version = f"v{paper.version}" if paper.version else ""
    links = f"[arXiv](https://arxiv.org/abs/{paper.id}{version}) or [HuggingFace]({paper.links['hf']})"
    text = entry.fields[0].text if len(entry.fields) == 1 and entry.fields[0].label is None else entry.summary
    summary = " ".join(part for part in (text, trial_sentence(entry, entry.lang)) if part)
    return f"{escape(paper.title)} (Read more on {links}) | {escape(', '.join(paper.authors))} | {escape(summary)}"


def _lead(generation: str) -> str:
    return "" if generation == "four" else "\n\n"


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInputError(f"the day's heading says {text!r}, which is no date YYYY-MM-DD") from None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "…"


def with_source(day: Day, source: str) -> Day:
    """Return the day with where it came from, on itself and its papers."""
    entries = tuple(entry.with_paper(source=source) for entry in day)
    return replace(day, entries=entries, source=source)
