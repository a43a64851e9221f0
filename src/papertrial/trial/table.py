"""README's table of papers and verdicts, written from the reference evidence and never by hand."""

from __future__ import annotations

from pathlib import Path

from papertrial.errors import BadInputError
from papertrial.trial.reference import load_reference, reference_verdicts
from papertrial.trial.rooms import Room, discover
from papertrial.trial.verdict import SIGNS, tally

BEGIN, END = "<!-- verdicts: made by `make reference` -->", "<!-- /verdicts -->"


def verdict_table() -> str:
    """Return the Markdown table of all papers with the verdicts of their reference runs."""
    rows = ["| paper | name | field | verdicts of the reference run |", "|---|---|---|---|"]
    for room in sorted(discover().values(), key=lambda room: room.card.order):
        card = room.card
        link = f"[{card.title}](https://arxiv.org/abs/{card.arxiv})" if card.arxiv else card.title
        link = link.replace("|", "\\|")
        rows.append(f"| {link} | `{room.name}` | {room.field} | {_verdicts(room)} |")
    return "\n".join(rows)


def write_readme_table(readme: Path) -> None:
    """Replace the table between the two markers.

    Raises:
        BadInputError: the file lacks a marker.
    """
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise BadInputError(f"{readme} lacks the markers {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    readme.write_text(f"{before}{BEGIN}\n{verdict_table()}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def _verdicts(room: Room) -> str:
    if room.card.status == "docket":
        return "on the docket"
    reference = load_reference(room)
    if reference is None:
        return "not measured"
    counts = tally(one.verdict for one in reference_verdicts(room).values())
    words = [f"{SIGNS[word]} {count} {word}" for word, count in counts.items()]
    untested = len(room.card.claims) - len(room.card.tested)
    words += [f"{SIGNS['untested']} {untested} untested"] if untested else []
    return " · ".join(words) + f" ({reference['made'][:10]})"
