"""The rules of the house that concern single rooms; the rest are import-linter contracts in pyproject.toml."""

from __future__ import annotations

import grimp
import pytest

from papertrial.trial.rooms import discover

ROOMS = discover()


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("papertrial", cache_dir=None)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_no_other_room(graph, name):
    room = ROOMS[name]
    others = {other.package for other in ROOMS.values()} - {room.package}
    inside = {room.package} | graph.find_descendants(room.package)
    for module in inside:
        for imported in graph.find_modules_directly_imported_by(module):
            owner = next((other for other in others if f"{imported}.".startswith(f"{other}.")), None)
            assert owner is None, f"{module} imports {imported}: what two rooms need belongs in the corridor"


def test_a_corridor_imports_no_room(graph):
    rooms = {room.package for room in ROOMS.values()}
    fields = {room.package.rpartition(".")[0] for room in ROOMS.values()}
    for field in fields:
        # the field's own package may export the rooms' public names; its modules may not use them
        for module in graph.find_descendants(field):
            if any(f"{module}.".startswith(f"{room}.") for room in rooms):
                continue
            for imported in graph.find_modules_directly_imported_by(module):
                assert not any(f"{imported}.".startswith(f"{room}.") for room in rooms), (
                    f"{module} -> {imported}"
                )


def test_a_mechanism_stands_alone(graph):
    """Only `trial.py` and files ending in `_trial.py` know what a trial is; nothing knows the command line."""
    for field in {room.package.rpartition(".")[0] for room in ROOMS.values()}:
        for module in {field} | graph.find_descendants(field):
            for imported in graph.find_modules_directly_imported_by(module):
                assert not imported.startswith("papertrial.cli"), f"{module} imports {imported}"
                if imported.startswith("papertrial.trial"):
                    name = module.rpartition(".")[2]
                    assert name == "trial" or name.endswith("_trial"), f"{module} imports {imported}"
