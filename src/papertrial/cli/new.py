"""`papertrial new`: make a room for a paper, from a digest entry or an arXiv id."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from papertrial.cli.options import help_text, parse_known, refuse_unknown, split_names, wants_help
from papertrial.digest.reading import read_days
from papertrial.errors import BadInputError, unknown
from papertrial.trial.card import FIELDS
from papertrial.trial.rooms import discover
from papertrial.trial.skeleton import Entry, write_room

_ARXIV = re.compile(r"^(\d{4}\.\d{4,5})(v\d+)?$")
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


@dataclass(frozen=True)
class NewOptions:
    """Make a room for a paper: its card, a trial to fill in, and a test.

    Inside a checkout of papertrial the room is put where it belongs; elsewhere it becomes a package of its
    own, which plugs in through an entry point.

    Attributes:
        field: the paper's field.
        name: the room's name; made from the title where none is given.
        title: the paper's title.
        day: the digest day, YYYY-MM-DD.
        digest: a digest file (English table or Korean entries) whose entry for this paper gives title, day
            and summary.
        into: the folder to put the room in.
    """

    field: str
    name: str | None = None
    title: str | None = None
    day: str | None = None
    digest: Path | None = None
    into: Path | None = None


def run(words: Sequence[str]) -> int:
    """Run `papertrial new ARXIV_ID --field FIELD …`."""
    names, rest = split_names(words)
    if wants_help(rest):
        sys.stdout.write(help_text(NewOptions, "papertrial new ARXIV_ID"))
        return 0
    if len(names) != 1 or not (found := _ARXIV.match(names[0])):
        raise BadInputError(f"give one arXiv id such as 2412.05270, got {' '.join(names) or 'nothing'}")
    options, left = parse_known(NewOptions, rest, "papertrial new ARXIV_ID")
    refuse_unknown(left, [NewOptions], "papertrial new")
    if options.field not in FIELDS:
        raise unknown("field", options.field, FIELDS)
    entry = _entry(found[1], options)
    name = options.name or re.sub(r"[^a-z0-9]+", "_", entry.title.split(":")[0].lower()).strip("_")
    if not _NAME.match(name):
        raise BadInputError(f"a room's name is lower-case letters, digits and '_', got {name!r}; give --name")
    if name in discover():
        raise BadInputError(f"there is a room named {name} already; give another --name")
    for path in write_room(entry, options.field, name, options.into or _place(options.field)):
        sys.stdout.write(f"  {path}\n")
    sys.stdout.write(
        "Fill in the card, then the mechanism, its oracle tests and the trial: docs/add-a-paper.md\n"
    )
    return 0


def _entry(arxiv: str, options: NewOptions) -> Entry:
    """Return what is known of the paper: what the user says, else what the digest says."""
    found = _listed(options.digest, arxiv) if options.digest is not None else None
    title = options.title or (found.title if found else None)
    if title is None:
        raise BadInputError(
            f"give the title of {arxiv} with --title, or a digest that lists it with --digest FILE"
        )
    day = found.day if found else date.today()
    if options.day is not None:
        try:
            day = date.fromisoformat(options.day)
        except ValueError as error:
            raise BadInputError(f"--day must be a date such as 2025-05-07, got {options.day!r}") from error
    return Entry(arxiv, title, day, found.summary if found else "")


def _listed(file: Path, arxiv: str) -> Entry:
    """Return a paper's entry in a digest file.

    Raises:
        BadInputError: the file is no digest, or has no entry for this paper.
    """
    days = read_days(file)
    for day in days:
        if (found := day.entry(arxiv)) is not None:
            return Entry(arxiv, _plain(found.paper.title), day.date, _plain(found.summary))
    ids = ", ".join(entry.paper.id for day in days for entry in day)
    raise BadInputError(f"{file} has no entry for {arxiv}; it has {ids or 'none'}")


def _plain(text: str) -> str:
    """Return the text on one line, without what would end a docstring."""
    return " ".join(text.replace("\\", "/").replace('"""', "''").split())


def _place(field: str) -> Path:
    """Return where a room goes: its field's folder inside a checkout, else the current folder."""
    checkout = Path.cwd() / "src" / "papertrial"
    return checkout / field if checkout.is_dir() else Path.cwd()
