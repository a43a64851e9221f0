"""A day's papers from a file: either public Markdown format, our JSON, the Hub's answer, or an Atom feed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from papertrial.digest.collecting import arxiv, hub
from papertrial.digest.collecting.politeness import RemoteError
from papertrial.digest.reading import read_day
from papertrial.digest.records import Day, Entry
from papertrial.errors import BadInputError

_DATE = re.compile(r"(?<!\d)(\d{4}-\d{2}-\d{2})(?!\d)")
KINDS = (".md", ".json", ".jsonl", ".xml", ".atom")


def read_file(path: Path, when: date | None = None) -> Day:
    """Return the day that a file holds.

    Read: `.md` (either public format), `.json` and `.jsonl` (ours, or what the Hub's interface answers, whole
    or an item a line), `.xml` and `.atom` (an Atom feed: arXiv's answer, or one whose entries link to arXiv).
    A feed and the Hub's answer do not say their day: it is `when`, else the date in the file's name, else the
    day on which all the papers were listed.

    Args:
        path: the file.
        when: which day; needed where a file holds several, and must agree with one that says its day.

    Raises:
        BadInputError: another kind of file, one that cannot be read or holds no day, or another day.
    """
    if path.suffix.lower() not in KINDS:
        raise BadInputError(f"{path} is none of the kinds that are read: {', '.join(KINDS)}")
    if path.suffix.lower() == ".md":
        return read_day(path, when)
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise BadInputError(f"the digest {path} cannot be read: {problem.strerror or problem}") from problem
    if path.suffix.lower() in (".xml", ".atom"):
        return _of_feed(path, content, when)
    items = _hub_items(content)
    return read_day(path, when) if items is None else _of_hub(path, items, when)


def _of_feed(path: Path, content: bytes, when: date | None) -> Day:
    try:
        page = arxiv.parse_atom(content, path.name, None)
    except RemoteError as problem:
        raise BadInputError(f"{path}: {problem}") from problem
    return _day(path, list(page.entries), when, page.skipped)


def _of_hub(path: Path, items: list[Any], when: date | None) -> Day:
    entries = []
    for number, item in enumerate(items, start=1):
        if not isinstance(item, Mapping):
            raise BadInputError(f"{path}: item {number} is no paper: {str(item)[:60]!r}")
        try:
            entries.append(Entry(hub.paper_of(item, None, None, source=path.name)))
        except RemoteError as problem:
            raise BadInputError(f"{path}: item {number}: {problem}") from problem
    return _day(path, entries, when, ())


def _day(path: Path, entries: list[Entry], when: date | None, skipped: tuple[str, ...]) -> Day:
    named = _DATE.search(path.stem)
    listed = {entry.paper.listed_on for entry in entries}
    day = (
        when
        or (date.fromisoformat(named[1]) if named else None)
        or (listed.pop() if len(listed) == 1 else None)
    )
    if day is None:
        raise BadInputError(f"{path} does not say its day; name it with the date (2025-05-07{path.suffix})")
    if named and named[1] != day.isoformat():
        raise BadInputError(f"{path} is named for {named[1]}, and {day} was asked for")
    unique = {entry.paper.id: entry for entry in reversed(entries)}
    kept = [unique.pop(entry.paper.id) for entry in entries if entry.paper.id in unique]
    reasons = [f"{len(skipped)} entries without an arXiv id were skipped ({skipped[0]})"] if skipped else []
    reasons += [] if kept else [f"{path.name} holds no papers"]
    return Day(
        day,
        tuple(entry.with_paper(listed_on=day) for entry in kept),
        path.name,
        reason="; ".join(reasons) or None,
    )


def _hub_items(content: bytes) -> list[Any] | None:
    """Return the items of an answer of the Hub's interface; None where it is something else."""
    try:
        text = content.decode("utf-8-sig").strip()
        if text.startswith("["):
            value = json.loads(text)
        else:
            value = [json.loads(line) for line in text.splitlines()]
    except (UnicodeDecodeError, ValueError, RecursionError):
        return None  # what is wrong with it is said by the reader of our own format
    is_hub = isinstance(value, list) and all(isinstance(one, dict) and "schema" not in one for one in value)
    return value if is_hub else None
