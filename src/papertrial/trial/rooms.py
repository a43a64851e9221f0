"""Every paper's room: those of this package and those that plug in, found without importing them."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from types import ModuleType

from papertrial.deeds import Deed
from papertrial.errors import BadInputError, unknown
from papertrial.trial.card import FIELDS, Card, load_card
from papertrial.trial.contract import Trial

ENTRY_POINT_GROUP = "papertrial.papers"


@dataclass(frozen=True)
class Room:
    """One paper's room: its folder, its package, and what it offers."""

    name: str
    field: str
    folder: Path
    package: str

    @cached_property
    def card(self) -> Card:
        """The card, read and checked."""
        return load_card(self.folder, self.name, self.field)

    def trials(self) -> dict[str, type[Trial]]:
        """Import the room's trials, by name.

        Raises:
            BadInputError: the paper is on the docket: it has a card and no trial yet.
        """
        if self.card.status == "docket":
            raise BadInputError(
                f"{self.name} is on the docket: its card is written, its trial is not built yet"
            )
        trials: dict[str, type[Trial]] = self._module("trial").trials
        return trials

    def deeds(self) -> dict[str, type[Deed]]:
        """Import what the room offers to `papertrial apply`, by deed."""
        if not self.card.deeds:
            return {}
        deeds: dict[str, type[Deed]] = self._module("apply").deeds
        return deeds

    def _module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.package}.{name}")


def discover() -> dict[str, Room]:
    """Find every room, by paper name, in the order of their fields. Imports none of them."""
    return {**_own_rooms(), **_plugged_in_rooms()}


def find_room(name: str, rooms: Mapping[str, Room] | None = None) -> Room:
    """Return the room of a paper, by its name or its arXiv id.

    Raises:
        BadInputError: no paper has that name; the nearest ones are named.
    """
    rooms = discover() if rooms is None else rooms
    plain = name.lower().replace("-", "_")
    if plain in rooms:
        return rooms[plain]
    if name[:1].isdigit():
        for room in rooms.values():
            if room.card.arxiv == name.split("v")[0]:
                return room
    raise unknown("paper", name, rooms)


def _own_rooms() -> dict[str, Room]:
    package = Path(__file__).resolve().parents[1]
    return {
        card.parent.name: Room(
            name=card.parent.name,
            field=field,
            folder=card.parent,
            package=f"papertrial.{field}.{card.parent.name}",
        )
        for field in FIELDS
        for card in sorted((package / field).glob("*/card.toml"))
    }


def _plugged_in_rooms() -> dict[str, Room]:
    """Find rooms of other packages: the entry point's name is `field.paper`, its value the package.

    A plug-in that is no room is warned of and left out, so that it cannot take the others down.
    """
    rooms = {}
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        field, _, name = entry.name.partition(".")
        folder = _package_folder(entry.value)
        if name and field in FIELDS and folder is not None and (folder / "card.toml").is_file():
            rooms[name] = Room(name=name, field=field, folder=folder, package=entry.value)
        else:
            warnings.warn(
                f"the plug-in {entry.name!r} -> {entry.value!r} is no room: its name must be FIELD.PAPER "
                f"(fields: {', '.join(FIELDS)}) and its value an importable package with a card.toml",
                stacklevel=2,
            )
    return rooms


def _package_folder(package: str) -> Path | None:
    try:
        spec = util.find_spec(package)
    except ImportError:
        return None
    return (
        Path(next(iter(spec.submodule_search_locations)))
        if spec and spec.submodule_search_locations
        else None
    )
