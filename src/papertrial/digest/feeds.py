"""A digest as a feed: RSS 2.0 and Atom."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from markupsafe import Markup, escape

from papertrial.digest.marking import section_html
from papertrial.digest.records import Day, Entry
from papertrial.digest.verdicts import trial_sentence
from papertrial.trial.files import to_json, write_atomically

HOME = "https://papertrial.invalid"  # a name that can belong to nobody, for feeds that lie on no host
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class FeedMemory:
    """When the content of each entry last changed, kept in a file, so that `updated` changes only then."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def updated(self, entries: Sequence[tuple[str, str, datetime]], now: datetime) -> list[datetime]:
        """Return when each entry last changed.

        Args:
            entries: id, content, and the time that an entry seen for the first time is given.
            now: the time that a changed entry is given.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.file.with_suffix(".lock")):
            known = self._read()
            times = []
            for name, content, first in entries:
                digest = hashlib.sha256(content.encode()).hexdigest()[:16]
                earlier = known.get(name)
                if earlier is None or earlier[0] != digest:
                    known[name] = [digest, (first if earlier is None else now).isoformat()]
                times.append(datetime.fromisoformat(known[name][1]))
            kept = to_json(known)
            if not self.file.is_file() or self.file.read_bytes() != kept:
                write_atomically(self.file, kept)
        return times

    def _read(self) -> dict[str, list[str]]:
        try:
            known: dict[str, list[str]] = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return {}
        return known


def atom(days: Sequence[Day], base: str = HOME, memory: FeedMemory | None = None) -> str:
    """Write days as an Atom feed (RFC 4287), newest first.

    Args:
        days: the days.
        base: the address at which the pages lie.
        memory: keeps `updated` stable between calls; without one it is the entry's own time, or its day's.
    """
    text: str = _feed(days, base, memory).atom_str(pretty=True).decode()
    return text


def rss(days: Sequence[Day], base: str = HOME, memory: FeedMemory | None = None) -> str:
    """Write days as an RSS 2.0 feed, newest first; the arguments are those of `atom`."""
    text: str = _feed(days, base, memory).rss_str(pretty=True).decode()
    return text


def entry_id(day: Day, entry: Entry, base: str = HOME) -> str:
    """Return the entry's stable id, a tag URI (RFC 4151): its host, its day and its arXiv id."""
    return f"tag:{urlsplit(base).hostname or 'papertrial.invalid'},{day.date}:{entry.paper.id}"


def _feed(days: Sequence[Day], base: str, memory: FeedMemory | None) -> Any:
    from feedgen.feed import FeedGenerator

    days = sorted(days, key=lambda day: day.date, reverse=True)
    listed = [(day, entry, _content(entry)) for day in days for entry in day]
    times = _times(listed, base, memory)
    language = listed[0][1].lang if listed else "en"
    feed = FeedGenerator()
    feed.id(f"{base.rstrip('/')}/")
    feed.title("papertrial: the papers of the day, on trial")
    feed.subtitle("Summaries whose numbers were traced to the paper, with the verdicts found here")
    feed.link(href=f"{base.rstrip('/')}/", rel="alternate")
    feed.language(language)
    feed.author(name="papertrial")
    feed.generator("papertrial")
    latest = max(times, default=datetime.fromtimestamp(0, UTC))
    feed.updated(latest)
    feed.lastBuildDate(latest)
    for (day, entry, content), when in zip(listed, times, strict=True):
        item = feed.add_entry(order="append")
        item.id(entry_id(day, entry, base))
        item.guid(entry_id(day, entry, base), permalink=False)
        item.title(legal(entry.paper.title) or entry.paper.id)
        item.link(href=entry.paper.links["arxiv"])
        item.content(content, type="html")
        item.updated(when)
        item.published(_midnight(day))
        for name in entry.paper.authors:
            if legal(name).strip():
                item.author(name=legal(name))
        for category in entry.paper.categories:
            item.category(term=legal(category))
    return feed


def legal(text: str) -> str:
    """Return the text without the characters that XML 1.0 cannot carry."""
    return _ILLEGAL.sub("", text)


def _times(listed: Sequence[tuple[Day, Entry, str]], base: str, memory: FeedMemory | None) -> list[datetime]:
    firsts = [_aware(entry.created_at) if entry.created_at else _midnight(day) for day, entry, _ in listed]
    if memory is None:
        return firsts
    entries = [
        (entry_id(day, entry, base), f"{entry.paper.title}\n{content}", first)
        for (day, entry, content), first in zip(listed, firsts, strict=True)
    ]
    return memory.updated(entries, datetime.now(UTC).replace(microsecond=0))


def _content(entry: Entry) -> str:
    """Return an entry's text as HTML; whatever came from outside is escaped."""
    parts = [section_html(entry, section) for section in entry.sections]
    parts = parts or [escape(one.text) for one in entry.fields]
    paragraphs = [Markup("<p>{}</p>").format(part) for part in parts if str(part).strip()]
    paragraphs += [Markup("<p>{}</p>").format(note) for note in entry.notes]
    if sentence := trial_sentence(entry, entry.lang):
        paragraphs.append(Markup("<p><strong>{}</strong></p>").format(sentence))
    return legal("".join(paragraphs))


def _midnight(day: Day) -> datetime:
    return datetime.combine(day.date, time.min, UTC)


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo else when.replace(tzinfo=UTC)
