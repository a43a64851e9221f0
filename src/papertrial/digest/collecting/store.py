"""Days already collected: one JSON file each, written whole, only ever added to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

from filelock import FileLock, Timeout

from papertrial.digest.json_format import parse_json, render_json
from papertrial.digest.records import Day, Entry, Paper, Votes
from papertrial.errors import BadInputError
from papertrial.home import ensure_writable, home
from papertrial.trial.files import write_atomically

_LOCK_SECONDS = 600.0
_SEEN_ANEW = ("fetched_at", "vote_history", "upvotes")


class DayStore:
    """The days of one source, in `<home>/digest/<source>/<date>.json`.

    Args:
        source: the folder's name: "hf", "arxiv", "arxiv-cs.CL+cs.LG".
        folder: where the sources' folders lie; None: `<home>/digest`.
    """

    def __init__(self, source: str, folder: Path | None = None) -> None:
        self.folder = (folder if folder is not None else home() / "digest") / source

    def path(self, day: date) -> Path:
        """Return where a day lies."""
        return self.folder / f"{day.isoformat()}.json"

    def dates(self) -> list[date]:
        """Return the days that there are, the earliest first."""
        found = (file.stem for file in self.folder.glob("????-??-??.json"))
        return sorted(date.fromisoformat(stem) for stem in found)

    def load(self, day: date) -> Day | None:
        """Return a day, or None where it was never collected.

        Raises:
            BadInputError: its file is broken, or holds another day.
        """
        path = self.path(day)
        try:
            text = path.read_bytes().decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as problem:
            raise BadInputError(
                f"the collected day {path} cannot be read ({problem}); remove it"
            ) from problem
        try:
            days = parse_json(text)
        except BadInputError as problem:
            raise BadInputError(
                f"the collected day {path} is broken ({problem}); remove it to collect it anew"
            ) from problem
        if [one.date for one in days] != [day]:
            raise BadInputError(f"{path} does not hold the day {day}; remove it to collect it anew")
        return days[0]

    def save(self, day: Day) -> bool:
        """Keep a day; return whether its file changed.

        Raises:
            BadInputError: the folder cannot be written.
        """
        content = render_json([day]).encode()
        path = self.path(day.date)
        if path.is_file() and path.read_bytes() == content:
            return False
        ensure_writable(self.folder)
        try:
            write_atomically(path, content)
        except OSError as problem:
            raise BadInputError(f"cannot write {path}: {problem.strerror or problem}") from problem
        return True

    @contextmanager
    def held(self, day: date) -> Iterator[None]:
        """Hold a day, so that two processes collect it one after the other.

        Raises:
            BadInputError: another process has held it for ten minutes, or the folder cannot be written.
        """
        ensure_writable(self.folder)
        lock = self.folder / f"{day.isoformat()}.lock"
        try:
            with FileLock(lock, timeout=_LOCK_SECONDS):
                yield
        except Timeout as problem:
            raise BadInputError(f"another process is collecting {day} and does not end ({lock})") from problem


def merged(old: Day | None, new: Day) -> Day:
    """Return `old` with what `new` adds: papers, facts that were unknown, and votes.

    Nothing is taken away: a paper that the source no longer lists stays, and so does a fact it no longer
    says. Where the votes differ, the earlier ones go to the paper's history. A day that gains nothing is
    returned as it was, to the byte.
    """
    if old is None:
        return new
    fresh = {entry.paper.id: entry for entry in new.entries}
    entries = [
        _merged_entry(entry, fresh.pop(entry.paper.id)) if entry.paper.id in fresh else entry
        for entry in old.entries
    ]
    return replace(
        new,
        entries=(*entries, *fresh.values()),
        complete=old.complete or new.complete,
        reason=None if old.complete and entries else new.reason,
    )


def _merged_entry(old: Entry, new: Entry) -> Entry:
    paper = merged_paper(old.paper, new.paper)
    notes = (*old.notes, *(note for note in new.notes if note not in old.notes))
    return old if paper == old.paper and notes == old.notes else replace(old, paper=paper, notes=notes)


def merged_paper(old: Paper, new: Paper) -> Paper:
    """Return a paper with what is new about it; earlier votes go to its history."""
    facts = {
        one.name: getattr(new, one.name)
        for one in fields(Paper)
        if one.name not in _SEEN_ANEW and getattr(new, one.name) not in (None, ())
    }
    facts["authors_complete"] = new.authors_complete if new.authors else old.authors_complete
    if facts.get("media") is None:
        facts["media_type"] = old.media_type
    if new.upvotes is not None and new.upvotes != old.upvotes:
        facts["upvotes"] = new.upvotes
        if old.upvotes is not None:
            facts["vote_history"] = (*old.vote_history, Votes(old.upvotes, old.fetched_at))
    updated = replace(old, **facts)
    return old if updated == old else replace(updated, fetched_at=new.fetched_at or old.fetched_at)
