"""Finding rooms: this package's, plug-ins, and what is said where there is none."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from papertrial.errors import BadInputError
from papertrial.trial.rooms import discover, find_room


def plug_in(monkeypatch, name, package):
    entry = metadata.EntryPoint(name, package, "papertrial.papers")
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: [entry] if group == "papertrial.papers" else []
    )


def test_a_package_plugs_in_through_its_entry_point(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "lab"))

    plug_in(monkeypatch, "efficient.lab_paper", "lab_paper")
    room = discover()["lab_paper"]
    assert room.card.title.startswith("A Paper")
    assert set(room.trials()) == {"noise", "timing"}


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("lab_paper", "lab_paper"),
        ("nofield.lab_paper", "lab_paper"),
        ("efficient.x", "no.such.package"),
        ("efficient.x", "json"),
    ],
)
def test_a_plug_in_that_is_no_room_is_left_out_with_a_warning(monkeypatch, name, package):
    plug_in(monkeypatch, name, package)
    with pytest.warns(UserWarning, match="is no room"):
        found = discover()
    assert "x" not in found


def test_a_paper_is_found_by_name_and_by_arxiv_id(lab):
    rooms = {"lab_paper": lab}
    assert find_room("lab_paper", rooms) is lab
    assert find_room("lab-paper", rooms) is lab
    assert find_room("2501.00001v2", rooms) is lab
    with pytest.raises(BadInputError, match=r"unknown paper '2501\.99999'"):
        find_room("2501.99999", rooms)
