"""The days of the digest: those of the cards, and those that were collected on this machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from papertrial.digest.json_format import parse_json
from papertrial.digest.records import Day, Entry
from papertrial.errors import BadInputError
from papertrial.site.library import Library, Listed

_SOURCES = ("hf", "arxiv")  # where two sources have a day, the first named is shown


@dataclass(frozen=True)
class ShownEntry:
    """One paper of a day: its card, its digest entry, or both."""

    listed: Listed | None = None
    entry: Entry | None = None

    @property
    def title(self) -> str:
        """The paper's title, as its card has it where there is one."""
        if self.listed is not None:
            return self.listed.card.title
        assert self.entry is not None
        return self.entry.paper.title

    @property
    def arxiv(self) -> str | None:
        """The paper's arXiv id."""
        return self.entry.paper.id if self.entry else self.listed.card.arxiv if self.listed else None


@dataclass(frozen=True)
class ShownDay:
    """One day: its papers, those with a card first; `collected` is the digest's own record of it."""

    date: date
    entries: tuple[ShownEntry, ...]
    collected: Day | None = None


class Days:
    """The days of one home. A collected day is read again only where its file has changed."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.folder = library.home / "digest"
        self._read: dict[Path, tuple[object, Day | None]] = {}

    def look(self) -> Calendar:
        """Return the days as they are now: one look at the cards' verdicts and at the folder of each source."""
        cards: dict[date | None, list[Listed]] = defaultdict(list)
        for listed in self.library.papers():
            cards[listed.card.day].append(listed)
        return Calendar(cards, self._files(), self._load)

    def stamp(self) -> object:
        """Return something that changes when the collected days would look different."""
        return tuple((str(file), _mark(file)) for files in self._files().values() for file in files)

    def _files(self) -> dict[date, list[Path]]:
        """Return the files of every day: what was summarised last comes first, then what was only collected."""
        found = defaultdict(list)
        made = sorted(self.folder.glob("made/????-??-??-*.json"), key=_age)
        for file in [*made, *sorted(self.folder.glob("*/????-??-??.json"), key=_rank)]:
            try:
                found[date.fromisoformat(file.stem[:10])].append(file)
            except ValueError:
                continue
        return dict(found)

    def _load(self, file: Path) -> Day | None:
        """Read a collected day; one that cannot be read is not shown, and `papertrial digest` says why."""
        mark = _mark(file)
        kept = self._read.get(file)
        if kept is not None and kept[0] == mark:
            return kept[1]
        try:
            days = parse_json(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, BadInputError):
            days = []
        self._read[file] = (mark, days[0] if len(days) == 1 else None)
        return self._read[file][1]


@dataclass(frozen=True)
class Calendar:
    """The days at one moment; a collected day is read when it is asked for."""

    cards: Mapping[date | None, Sequence[Listed]]
    files: Mapping[date, Sequence[Path]]
    load: Callable[[Path], Day | None]

    @property
    def dates(self) -> list[date]:
        """Every day that has papers, newest first."""
        return sorted({day for day in self.cards if day is not None} | set(self.files), reverse=True)

    @property
    def without_day(self) -> list[ShownEntry]:
        """The cards that belong to no day: parts of papertrial itself that stand on trial."""
        return [ShownEntry(listed) for listed in self.cards.get(None, ())]

    def day(self, when: date) -> ShownDay | None:
        """Return one day, or None where nothing is known of it."""
        cards = self.cards.get(when, ())
        collected = next((day for file in self.files.get(when, ()) if (day := self.load(file))), None)
        if not cards and collected is None:
            return None
        return ShownDay(when, tuple(_together(cards, collected)), collected)


def _together(cards: Sequence[Listed], collected: Day | None) -> list[ShownEntry]:
    """Return the entries of a day: cards with their digest entry, then the papers that have no card."""
    entries = {entry.paper.id: entry for entry in collected or ()}
    shown = [ShownEntry(one, entries.pop(one.card.arxiv or "", None)) for one in cards]
    measured = sorted(shown, key=lambda one: not (one.listed and one.listed.origins))
    return measured + [ShownEntry(None, entry) for entry in entries.values()]


def _rank(file: Path) -> tuple[int, str]:
    source = file.parent.name
    return (_SOURCES.index(source) if source in _SOURCES else len(_SOURCES), source)


def _age(file: Path) -> tuple[float, str]:
    """Return what puts the file that was written last first."""
    try:
        return -file.stat().st_mtime, file.name
    except OSError:
        return 0.0, file.name


def _mark(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
