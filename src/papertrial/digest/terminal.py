"""A day in the terminal: title, two lines, verdicts."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from papertrial.digest.marking import MARKS
from papertrial.digest.records import Day, Entry
from papertrial.digest.verdicts import chips

_COLOURS = {"holds": "green", "fails": "red", "undecided": "yellow"}
_LINES = 2
_NARROWEST = 20


def show_day(day: Day, out: Console | None = None) -> None:
    """Print a day: each paper's title, the first lines of its summary, and its verdicts."""
    out = out or Console()
    papers = f"{len(day.entries)} paper{'' if len(day.entries) == 1 else 's'}"
    out.print(Text.assemble((str(day.date), "bold"), f"  {papers}", (f"  from {day.source}", "dim")))
    if day.reason:
        _say(Text(day.reason, "dim"), out, 0)
    for entry in day:
        out.print()
        _show_entry(entry, out)
    if any(entry.trial for entry in day):
        out.print()
        what = "papertrial papers NAME shows the claims, papertrial try NAME puts them on trial"
        _say(Text(what, "dim"), out, 0)


def _show_entry(entry: Entry, out: Console) -> None:
    paper = entry.paper
    facts = [paper.id, *paper.categories[:2]]
    facts += [f"{paper.upvotes} votes"] if paper.upvotes is not None else []
    if entry.trial is not None and entry.trial.name not in facts:
        facts.append(entry.trial.name)
    _say(Text(_plain(paper.title), "bold"), out, 0)
    _say(Text(" · ".join(map(_plain, facts)), "dim"), out)
    for line in _first_lines(entry, out):
        _say(line, out)
    for note in entry.notes:
        _say(Text(_plain(note), "dim"), out)
    found = chips(entry, entry.lang)
    if found:
        pieces = [(text, _COLOURS.get(word, "dim")) for word, text in found]
        joined = [part for piece in pieces for part in (piece, " · ")][:-1]
        _say(Text.assemble(*joined), out)


def _say(text: Text, out: Console, indent: int = 2) -> None:
    """Print a text, its lines indented and without spaces at their ends."""
    for line in text.wrap(out, max(_NARROWEST, out.width - indent)):
        line.rstrip()
        out.print(Text.assemble(" " * indent, line), soft_wrap=True)


def _first_lines(entry: Entry, out: Console) -> list[Text]:
    """Return the first lines of the summary, doubtful numbers marked."""
    text, width = Text(_marked(entry)), max(_NARROWEST, out.width - 2)
    lines = list(text.wrap(out, width))
    if len(lines) > _LINES:
        last = lines[_LINES - 1].plain.rstrip()
        if len(last) > width - 2:
            last = last[: width - 2].rpartition(" ")[0] or last[: width - 2]
        lines = [*lines[: _LINES - 1], Text(f"{last} …")]
    return lines


def _marked(entry: Entry) -> str:
    """Return the summary's first section with a sign after each number that the paper does not bear out."""
    if not entry.sections:
        return _plain(entry.summary)
    name, text = next(iter(entry.sections.items()))
    numbers = [one for one in entry.grounding.numbers if one.section == name] if entry.grounding else []
    for one in sorted(numbers, key=lambda one: one.end, reverse=True):
        if one.word in MARKS:
            text = f"{text[: one.end]}[{MARKS[one.word]}]{text[one.end :]}"
    return _plain(text)


def _plain(text: str) -> str:
    """Return the text on one line without what could steer a terminal."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())
