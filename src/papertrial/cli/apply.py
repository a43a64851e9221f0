"""`papertrial apply`: a paper's method on the user's own model, data or document."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from papertrial.cli.options import help_text, parse_known, refuse_unknown, split_names, wants_help
from papertrial.errors import BadInputError, unknown
from papertrial.trial.files import to_json
from papertrial.trial.rooms import Room, discover


@dataclass(frozen=True)
class ApplyOptions:
    """Use a paper's method on your own model, data or document.

    Attributes:
        method: the paper whose method is used, or one of the methods that it has; may be left out where only
            one paper offers the deed.
        json: print the result as JSON.
    """

    method: str | None = None
    json: bool = False


def run(words: Sequence[str]) -> int:
    """Run `papertrial apply [DEED --method PAPER …]`."""
    names, rest = split_names(words)
    offers = _offers()
    if not names:
        _list(offers)
        return 0
    deed = names[0]
    if deed not in offers:
        raise unknown("deed", deed, offers)
    if names[1:]:
        raise BadInputError(f"apply takes one deed, got {' '.join(names)}; options begin with --")
    if wants_help(rest):
        sys.stdout.write(_help(deed, offers[deed], rest))
        return 0
    options, words = parse_known(ApplyOptions, rest, f"papertrial apply {deed}")
    room = _choose(deed, offers[deed], options.method)
    kind = room.deeds()[deed]
    if options.method is not None and options.method != room.name:
        words = [*words, "--" + kind.method_field.replace("_", "-"), options.method]
    made, left = parse_known(kind, words, f"papertrial apply {deed} --method {room.name}")
    refuse_unknown(left, [kind, ApplyOptions], f"apply {deed} --method {room.name}")
    out = Console(stderr=options.json)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(deed, total=None)

        def progress(done: int, total: int, what: str = "") -> None:
            bar.update(task, completed=done, total=total, description=what or deed)

        facts = made.run(progress)
    if options.json:
        sys.stdout.write(to_json(facts, indent=1).decode() + "\n")
    else:
        for name, value in facts.items():
            out.print(f"  {name:<20} {value}", soft_wrap=True, markup=False)
    return 0


def _offers() -> dict[str, list[Room]]:
    """Return every deed with the rooms that offer it. Reads cards only."""
    offers: dict[str, list[Room]] = {}
    for room in discover().values():
        for deed in room.card.deeds:
            offers.setdefault(deed, []).append(room)
    return dict(sorted(offers.items()))


def _choose(deed: str, rooms: Sequence[Room], method: str | None) -> Room:
    names = {room.name: room for room in rooms}
    if method is None:
        if len(rooms) > 1:
            raise BadInputError(f"{deed} is offered by {', '.join(names)}; choose one with --method")
        return rooms[0]
    if method in names:
        return names[method]
    offered = {one: room for room in rooms for one in room.deeds()[deed].methods}
    if method not in offered:
        raise unknown(f"method for {deed}", method, sorted({*names, *offered}))
    return offered[method]


def _list(offers: dict[str, list[Room]]) -> None:
    out = Console()
    for deed, rooms in offers.items():
        for room in rooms:
            out.print(
                f"  papertrial apply {deed} --method {room.name}   [dim]{room.card.title}[/]", soft_wrap=True
            )
    out.print("papertrial apply DEED -h lists the options.")


def _help(deed: str, rooms: Sequence[Room], words: Sequence[str]) -> str:
    parts = [help_text(ApplyOptions, f"papertrial apply {deed}")]
    for room in rooms:
        named = {room.name, *room.deeds()[deed].methods}
        if "--method" not in words or named & set(words):
            parts.append(help_text(room.deeds()[deed], f"papertrial apply {deed} --method {room.name}"))
    return "\n".join(parts)
