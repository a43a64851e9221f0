"""From a day to its digest: its papers, their texts, summaries, grounded numbers, in the language asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from papertrial.digest.cards import card_days, day_of_cards, with_trials
from papertrial.digest.json_format import parse_json, render_json
from papertrial.digest.reading import read_days
from papertrial.digest.records import Day, Entry
from papertrial.digest.styles import without_lead_in
from papertrial.errors import BadInputError, unknown
from papertrial.trial.card import LANGUAGES
from papertrial.trial.files import write_atomically

if TYPE_CHECKING:
    from papertrial.digest.collecting import PaperText, Web
    from papertrial.digest.summarising import Backend
    from papertrial.llm import ChatModel

SOURCES = ("auto", "cards", "hf", "arxiv")
_WRITTEN_IN = "en"  # the language in which summaries are made before they are translated

Say = Callable[[str], None]


@dataclass(frozen=True)
class Making:
    """How a day's entries are made; see `papertrial digest -h`."""

    lang: str = "en"
    model: str | None = None
    model_name: str | None = None
    key: str | None = None
    ground: Literal["mark", "strict", "off"] = "mark"
    text: Literal["full", "abstract"] = "full"
    keywords: tuple[str, ...] = ()
    prompt: Path | None = None
    refresh: bool = False
    offline: bool = False


def find_days(when: date | None, source: str, how: Making, home: Path, say: Say) -> list[Day]:
    """Return the days that are asked for, each paper with what was found of it here.

    Args:
        when: the day; None where a file is read whole.
        source: one of SOURCES, or a file's path.
        how: how entries are made.
        home: where digests and evidence lie.
        say: told in a line what is being done.

    Raises:
        BadInputError: there is no such day, source or language.
        RemoteError: the source gave nothing, and nothing was collected before.
    """
    if source not in SOURCES:
        path = Path(source).expanduser()
        if when is None or path.suffix or path.is_file():
            return _of_file(path, when, how, home)
        raise unknown("source", source, [*SOURCES, "a file"])
    if when is None:
        raise BadInputError(f"name a day for --source {source}")
    if source == "cards" or (source == "auto" and when in card_days()):
        return [_of_cards(when, how, home)]
    if source != "auto":
        return [_collected(when, source, how, home, say)]
    from papertrial.digest.collecting import RemoteError

    try:
        return [_collected(when, "hf", how, home, say)]
    except RemoteError as error:
        days = ", ".join(map(str, card_days()))
        raise RemoteError(f"{error}; the days with cards need no network: {days}") from error


def made_dates(home: Path) -> list[tuple[date, int, str]]:
    """Return the days made here, newest first: the day, how many papers, and their source."""
    return [(day.date, len(day.entries), day.source) for day in made_days(home)]


def made_days(home: Path) -> list[Day]:
    """Return the days made here, newest first; of a day made several times the one made last."""
    latest: dict[date, tuple[float, Day]] = {}
    for file in (home / "digest" / "made").glob("*.json"):
        day = _read_made(file)
        if day is not None:
            changed = file.stat().st_mtime
            if day.date not in latest or changed > latest[day.date][0]:
                latest[day.date] = (changed, day)
    return [day for _, (_, day) in sorted(latest.items(), reverse=True)]


def _of_file(path: Path, when: date | None, how: Making, home: Path) -> list[Day]:
    days = [day for day in read_days(path) if when is None or day.date == when]
    if not days:
        raise BadInputError(f"{path} has no day {when}")
    translated = [_translated(day, how) if how.model else day for day in days]
    return [with_trials(with_suspicions(day), home) for day in translated]


def _of_cards(when: date, how: Making, home: Path) -> Day:
    own = how.lang in LANGUAGES
    if not own and how.model is None:
        raise BadInputError(
            f"the cards are written in {', '.join(LANGUAGES)}; for {how.lang!r} name a model that translates: --model"
        )
    day = day_of_cards(when, how.lang if own else _WRITTEN_IN, home)
    if day is None:
        raise BadInputError(
            f"no card is of {when}; the days with cards are {', '.join(map(str, card_days()))}"
        )
    return day if own else _translated(day, how)


def _translated(day: Day, how: Making) -> Day:
    from papertrial.digest.translating import translate

    model = _open_translator(how)
    entries = [
        entry if entry.lang == how.lang else translate(_with_sections(entry), how.lang, model)
        for entry in day
    ]
    return replace(day, entries=tuple(entries))


def _with_sections(entry: Entry) -> Entry:
    """Return an entry of a file whose summary is prose with that as its one section."""
    if entry.sections:
        return entry
    return replace(entry, sections={"headline": without_lead_in(entry.summary)}, fields=())


def _collected(when: date, source: str, how: Making, home: Path, say: Say) -> Day:
    """Collect a day and make the entries that are not made yet; each is kept as soon as it is finished."""
    from papertrial.digest.collecting import Web, collect
    from papertrial.digest.collecting.filters import matches_keywords

    web = Web()  # one for the whole day: it counts how often a host has refused
    try:
        day = collect(when, source, refresh=how.refresh, offline=how.offline, web=web, say=say)
        listed = [entry for entry in day if matches_keywords(entry.paper, how.keywords)]
        if how.keywords and len(listed) < len(day.entries):
            say(f"{len(listed)} of {len(day.entries)} papers have one of: {', '.join(how.keywords)}")
        file = home / "digest" / "made" / f"{when}-{source}-{_key(how)}.json"
        kept = _kept(file)
        made = []
        for number, entry in enumerate(_entries(listed, kept, how, web, say), 1):
            made.append(entry)
            if kept.get(entry.paper.id) != entry:
                say(f"{number} of {len(listed)}: {entry.paper.title}")
                kept[entry.paper.id] = entry
                _keep(file, _so_far(day, kept))
        _keep(file, _so_far(day, kept))
    finally:
        web.close()
    return with_trials(with_suspicions(replace(day, entries=tuple(made))), home)


def _so_far(day: Day, kept: Mapping[str, Entry]) -> Day:
    """Return a day with the entries that are made; where some are missing it is not complete, and says so."""
    entries = tuple(kept[entry.paper.id] for entry in day if entry.paper.id in kept)
    if len(entries) == len(day.entries):
        return replace(day, entries=entries)
    reason = f"{len(entries)} of {len(day.entries)} papers are summarised"
    return replace(day, entries=entries, complete=False, reason=reason)


def with_suspicions(day: Day) -> Day:
    """Return the day with a note on each summary that seems to be of another paper.

    Extracted sentences are the paper's own and are not suspected; nor is anything in a day of one paper.
    """
    from papertrial.digest.grounding import wrong_papers

    notes = {one.entry.paper.id: one.suspect for one in wrong_papers(day)} if len(day.entries) > 1 else {}
    entries = [
        replace(
            entry, notes=(*entry.notes, f"This may be the summary of another paper: {notes[entry.paper.id]}.")
        )
        if entry.paper.id in notes and entry.summary and entry.model != "extractive"
        else entry
        for entry in day
    ]
    return replace(day, entries=tuple(entries))


def _entries(
    listed: Sequence[Entry], kept: Mapping[str, Entry], how: Making, web: Web, say: Say
) -> Iterator[Entry]:
    """Yield every paper's entry: the kept one with its newest votes, or one made now."""
    from papertrial.digest.collecting import PaperText, read_text

    model = _open_backend(how)
    for entry in listed:
        earlier = kept.get(entry.paper.id)
        if earlier is not None and not how.refresh and not _worth_another_try(earlier, how):
            yield replace(earlier, paper=entry.paper)
            continue
        if how.text == "full":
            text = read_text(entry.paper, web=web, offline=how.offline, refresh=how.refresh, say=say)
        else:
            text = PaperText.of_abstract(entry.paper)
        made = _make(entry, text, model, how)
        same = earlier is not None and replace(made, created_at=earlier.created_at) == earlier
        yield earlier if same and earlier is not None else made


def _worth_another_try(entry: Entry, how: Making) -> bool:
    """Say whether an entry is only what could be had then: of the abstract, or not by the model asked for."""
    if how.offline:
        return False
    of_abstract = how.text == "full" and entry.text != "full text"
    instead = how.model not in (None, "extractive") and entry.model == "extractive"
    return of_abstract or instead


def _make(listed: Entry, text: PaperText, model: Backend, how: Making) -> Entry:
    """Summarise one paper in English, ground what was written, and translate it where that is asked for."""
    from papertrial.digest.grounding import PaperIndex, apply_policy
    from papertrial.digest.summarising import THREE_PARTS_PROMPT, read_prompt, summarise
    from papertrial.digest.translating import translate
    from papertrial.llm import ChatModel

    chat = model if isinstance(model, ChatModel) else None
    paper = listed.paper
    prompt = read_prompt(how.prompt) if how.prompt else None
    if prompt is None and chat is not None and how.lang == "ko":
        prompt = THREE_PARTS_PROMPT  # the parts in which Korean digests are written
    entry = summarise(listed, text, model, lang=_WRITTEN_IN, prompt=prompt)
    if entry.sections and text:
        index = PaperIndex.of(text.text, title=paper.title, abstract=paper.abstract or "")

        def ask_again(absent: Sequence[str]) -> Mapping[str, str]:
            again = summarise(paper, text, chat, lang=_WRITTEN_IN, prompt=prompt, absent=absent)
            return again.sections

        entry = apply_policy(
            entry, index, how.ground, text=text.kind, ask_again=None if chat is None else ask_again
        )
    if how.lang != entry.lang and entry.sections:
        entry = translate(entry, how.lang, chat)
    return entry


def _open_backend(how: Making) -> Backend:
    """Return who writes the summaries."""
    from papertrial.digest.summarising import open_backend

    return open_backend(how.model, model=how.model_name, key=how.key)


def _open_translator(how: Making) -> ChatModel:
    """Return who translates."""
    from papertrial.llm import open_chat_model

    if how.model is None:
        raise BadInputError("a translation needs a model: --model")
    return open_chat_model(how.model, model=how.model_name, key=how.key)


def _key(how: Making) -> str:
    """Return the hash of what decides how entries are made."""
    prompt = how.prompt.read_text(encoding="utf-8") if how.prompt else ""
    deciding = [how.lang, how.model, how.model_name, how.ground, how.text, prompt]
    return hashlib.sha256(repr(deciding).encode()).hexdigest()[:8]


def _kept(file: Path) -> dict[str, Entry]:
    day = _read_made(file)
    return {} if day is None else {entry.paper.id: entry for entry in day}


def _read_made(file: Path) -> Day | None:
    """Return a day made earlier; None where there is none, or where it cannot be read and is made again."""
    try:
        return parse_json(file.read_text(encoding="utf-8"))[0]
    except (OSError, UnicodeDecodeError, BadInputError, IndexError):
        return None


def _keep(file: Path, day: Day) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = render_json([day]).encode()
    if not file.is_file() or file.read_bytes() != content:
        write_atomically(file, content)
