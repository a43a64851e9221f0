"""`papertrial papers`: all papers with their latest verdicts, or one paper's card."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from papertrial.cli.options import help_text, parse_known, refuse_unknown, split_names, wants_help
from papertrial.home import home
from papertrial.trial.files import to_json
from papertrial.trial.reference import latest_verdicts
from papertrial.trial.rooms import Room, discover, find_room
from papertrial.trial.verdict import SIGNS, Verdict, tally


@dataclass(frozen=True)
class PapersOptions:
    """List all papers with their latest verdicts, or show the card of one.

    Attributes:
        json: print as JSON.
        lang: the language of the summary.
    """

    json: bool = False
    lang: Literal["en", "ko"] = "en"


def run(words: Sequence[str]) -> int:
    """Run `papertrial papers [NAME]`."""
    names, rest = split_names(words)
    if wants_help(rest):
        sys.stdout.write(help_text(PapersOptions, "papertrial papers [NAME]"))
        return 0
    options, left = parse_known(PapersOptions, rest, "papertrial papers")
    refuse_unknown(left, [PapersOptions], "papertrial papers")
    rooms = [find_room(name) for name in names] or list(discover().values())
    if options.json:
        sys.stdout.write(to_json([_as_json(room) for room in rooms], indent=1).decode() + "\n")
    elif names:
        for room in rooms:
            _show(room, options.lang)
    else:
        _list(rooms)
    return 0


def _list(rooms: Sequence[Room]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("day", "field", "name", "paper", "claims", "from"):
        table.add_column(title, overflow="fold")
    for room in sorted(rooms, key=lambda room: room.card.order):
        table.add_row(str(room.card.day or ""), room.field, room.name, room.card.title, *_state(room))
    Console().print(table)


def _state(room: Room) -> tuple[str, str]:
    if room.card.status == "docket":
        return f"{len(room.card.claims)} claims", "on the docket"
    latest, source = latest_verdicts(room, home())
    verdicts = [
        latest[claim.name].verdict if claim.name in latest else Verdict(claim.name, "not measured")
        for claim in room.card.tested
    ]
    untested = len(room.card.claims) - len(room.card.tested)
    counts = [f"{SIGNS[word]} {count} {word}" for word, count in tally(verdicts).items()]
    return " · ".join([*counts, f"{SIGNS['untested']} {untested} untested"]), source


def _show(room: Room, language: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    card, out = room.card, Console()
    latest, source = latest_verdicts(room, home())
    out.print(f"[bold]{escape(card.title)}[/]  {card.origin} · {card.field}")
    out.print(Padding(escape(card.purpose), (0, 0, 1, 2)))
    summary = card.summary[language]
    for text in (summary.whats_new, summary.details, summary.results):
        out.print(Padding(escape(text), (0, 0, 1, 2)))
    out.print(f"[bold]claims[/] ({source})")
    for claim in card.claims:
        found = latest.get(claim.name)
        word = found.verdict.word if found else "untested" if claim.untested else "not measured"
        out.print(f"  {SIGNS[word]} {word:<12} {escape(claim.says)}", soft_wrap=True)
        asked = f"{claim.metric} of {claim.arm}" + (f" against {claim.against}" if claim.against else "")
        detail = claim.untested or f"{asked}: {claim.relation}" + (f"; at {found.scale}" if found else "")
        out.print(
            f"      [dim]paper: {escape(claim.paper.value)} ({escape(claim.paper.source)}); {escape(detail)}[/]"
        )
        if claim.command:
            out.print(f"      [dim]{escape(claim.command)}[/]", soft_wrap=True)
    if card.findings:
        out.print("[bold]what to know[/]")
    for finding in card.findings:
        out.print(
            f"  · {escape(finding.says)} [dim]({escape(finding.where)}; check: {escape(finding.check)})[/]"
        )
    if card.code is not None:
        out.print(f"[bold]official code[/] {escape(card.code.repository)} ({escape(card.code.licence)})")
    if card.use.python:
        out.print("[bold]use it[/]")
        out.print(Padding(escape(card.use.python.strip()), (0, 0, 0, 2)))
    if card.use.apply:
        out.print(Padding(escape(card.use.apply.strip()), (0, 0, 0, 2)))


def _as_json(room: Room) -> dict[str, Any]:
    card, (latest, source) = room.card, latest_verdicts(room, home())
    raw = asdict(card) | {"day": card.day and str(card.day), "verdicts_from": source}
    for claim, made in zip(raw["claims"], card.claims, strict=True):
        claim["relation"] = str(made.relation) if made.relation else None
        claim["latest"] = asdict(latest[made.name]) if made.name in latest else None
    return raw
