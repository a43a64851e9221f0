"""The days of the papers that have a card here: summaries in our own words, with what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path

from papertrial.digest.records import Day, Entry, OnTrial, Paper
from papertrial.trial.reference import latest_verdicts
from papertrial.trial.rooms import Room, discover
from papertrial.trial.verdict import SIGNS


def card_days() -> list[date]:
    """Return the days that have cards, oldest first."""
    return sorted({room.card.day for room in discover().values() if room.card.day is not None})


def day_of_cards(when: date, lang: str, home: Path) -> Day | None:
    """Return a day made from the cards, in their order of arXiv ids; None where no card is of that day.

    Args:
        when: the digest day.
        lang: "en" or "ko".
        home: where the user's own evidence lies; its verdicts count before those of the reference run.
    """
    rooms = [room for room in discover().values() if room.card.day == when]
    if not rooms:
        return None
    entries = [
        _entry(room, when, lang, home) for room in sorted(rooms, key=lambda room: room.card.arxiv or "")
    ]
    return Day(when, tuple(entries), "cards")


def with_trials(day: Day, home: Path) -> Day:
    """Return the day with what papertrial has found of each of its papers that has a card."""
    rooms = {room.card.arxiv: room for room in discover().values()}
    entries = [
        replace(entry, trial=on_trial(rooms[entry.paper.id], home)) if entry.paper.id in rooms else entry
        for entry in day
    ]
    return replace(day, entries=tuple(entries))


def on_trial(room: Room, home: Path) -> OnTrial:
    """Return what was found of a paper: how many of its claims came out how."""
    if room.card.status == "docket":
        return OnTrial(room.name, room.field, "docket", source="on the docket")
    latest, source = latest_verdicts(room, home)
    words = Counter(
        "untested"
        if claim.untested
        else latest[claim.name].verdict.word
        if claim.name in latest
        else "not measured"
        for claim in room.card.claims
    )
    return OnTrial(
        room.name, room.field, "built", {word: words[word] for word in SIGNS if words[word]}, source
    )


def total(states: Iterable[OnTrial]) -> dict[str, int]:
    """Add up the verdicts of several papers."""
    counts: Counter[str] = Counter()
    for state in states:
        counts.update(state.verdicts)
    return {word: counts[word] for word in SIGNS if counts[word]}


def _entry(room: Room, when: date, lang: str, home: Path) -> Entry:
    card = room.card
    if card.arxiv is None:
        raise ValueError(f"{card.name} has a day and no arXiv id")
    summary = card.summary[lang]
    repository = card.code.repository if card.code else None
    paper = Paper(
        id=card.arxiv,
        title=card.title,
        listed_on=when,
        github=repository,
        source="cards",
        categories=(room.field,),
    )
    sections = {
        "whats_new": summary.whats_new,
        "technical": summary.details,
        "performance": summary.results,
    }
    return Entry(
        paper=paper, lang=lang, sections=sections, trial=on_trial(room, home), model="papertrial's card"
    )
