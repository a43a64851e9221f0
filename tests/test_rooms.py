"""Every room, present and future, is whole: the same files, a card that its trials bear out, a quick trial."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import math
import re
import time
import warnings
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from papertrial.trial.card import LANGUAGES
from papertrial.trial.contract import Metric, Trial
from papertrial.trial.reference import staleness
from papertrial.trial.rooms import Room, discover
from papertrial.trial.runner import Options, run_trial
from papertrial.trial.summary import summarise

ROOT = Path(__file__).resolve().parents[1]
ROOMS = discover()
BUILT = {name: room for name, room in ROOMS.items() if room.card.status == "built"}
# Of processor time, and only what has grown out of all proportion is caught. A user's quick() takes under 20 s; here
# the types of every call are checked, which takes two or three times as long, and other tests share the cores.
QUICK_SECONDS = 120

every_room = pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
built_rooms = pytest.mark.parametrize("room", BUILT.values(), ids=BUILT)
built_trials = pytest.mark.parametrize(
    ("room", "trial"),
    [pytest.param(room, name, id=f"{room.name}.{name}") for room in BUILT.values() for name in room.trials()],
)


@every_room
def test_the_card_is_valid_in_both_languages(room: Room):
    card = room.card
    assert set(card.summary) == set(LANGUAGES)
    assert re.search(r"[가-힣]", card.summary["ko"].whats_new), "the Korean summary is in no Korean"
    assert card.code is None or card.code.licence


@built_rooms
def test_the_files_are_there(room: Room):
    for name in ("card.toml", "trial.py", "__init__.py", "reference.json"):
        assert (room.folder / name).is_file(), f"{room.name} lacks {name}"
    mechanism = {file.name for file in room.folder.glob("*.py")} - {"trial.py", "__init__.py", "apply.py"}
    assert mechanism, f"{room.name} has no mechanism file"
    assert list((ROOT / "tests" / room.field / room.name).glob("test_*.py")), f"{room.name} has no tests"


@built_rooms
def test_every_claim_can_be_measured(room: Room):
    trials = room.trials()
    for claim in room.card.tested:
        assert claim.trial in trials, f"{claim.name}: no trial {claim.trial}"
        trial = trials[claim.trial]
        assert claim.metric in trial.metrics, f"{claim.name}: {claim.trial} has no metric {claim.metric}"
        assert claim.arm in trial.arms, f"{claim.name}: {claim.trial} has no arm {claim.arm}"
        assert claim.against is None or claim.against in trial.arms, f"{claim.name}: no arm {claim.against}"
        if trial.metrics[claim.metric].kind == "timed":
            assert trial.timed, f"{claim.name}: {claim.metric} is timed and its trial is not"


@built_rooms
def test_every_finding_has_its_check(room: Room):
    for finding in room.card.findings:
        if found := re.match(r"trial ([\w-]+): .+", finding.check):
            assert found[1] in room.trials(), f"{finding.check}: no such trial"
            continue
        file, _, name = finding.check.partition("::")
        tree = ast.parse((ROOT / file).read_text())
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name.split("::")[-1] in names, f"{finding.check}: no such test"


@built_rooms
def test_the_public_names_are_documented(room: Room):
    module = importlib.import_module(room.package)
    assert module.__all__, f"{room.name} exports nothing"
    if room.card.arxiv is not None:
        assert re.search(rf"arXiv[: ]{re.escape(room.card.arxiv)}", module.__doc__ or ""), (
            "the paper is not named"
        )
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{name} is not documented"


@built_rooms
def test_the_deeds_are_those_of_the_card(room: Room):
    deeds = room.deeds()
    assert set(deeds) == set(room.card.deeds)
    assert (room.folder / "apply.py").is_file() == bool(deeds)
    for deed in deeds.values():
        assert is_dataclass(deed)
        assert inspect.getdoc(deed)


@built_trials
def test_a_trial_keeps_the_contract(room: Room, trial: str):
    kind = room.trials()[trial]
    assert issubclass(kind, Trial)
    assert is_dataclass(kind)
    assert kind.__doc__ is not None
    assert not kind.__doc__.startswith(f"{kind.__name__}("), "the docstring is the help"
    assert len(kind.arms) == len(set(kind.arms)) >= 1
    assert all(isinstance(metric, Metric) for metric in kind.metrics.values())
    assert kind.seeds >= (10 if kind.timed else 3)
    names = {field.name: field for field in fields(kind)}
    for arm, axes in kind.grid.items():
        assert arm in kind.arms
        for field in axes:
            assert names[field].default is None, f"{field} is tuned, so its default is None"
    effort = {math.prod(len(values) for values in axes.values()) for axes in kind.grid.values()}
    assert len(effort) <= 1, "every tuned arm gets the same number of points"
    assert not kind.grid or kind.tuned_on in kind.metrics
    assert set(kind.prepared_by) <= set(names)
    explained = " ".join(base.__doc__ or "" for base in kind.__mro__)
    for name in names:
        assert re.search(rf"\b{name}\b", explained), f"the setting {name} is not explained"
    kind().check()
    assert kind().scale()


def import_what_is_used(room: Room) -> None:
    """Import every module of a room and its corridor, and what they name at their heads and in their functions.

    The limit is on what a trial computes. Its imports (torch, transformers, numba: up to 14 s of processor time)
    are paid by whichever trial comes first, so a test run alone would be held to less than in the whole run.
    """
    for file in (*sorted(room.folder.glob("*.py")), *sorted(room.folder.parent.glob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else names
            for name in filter(None, names):
                with warnings.catch_warnings(), contextlib.suppress(ImportError):  # an extra not installed
                    warnings.simplefilter("ignore")
                    importlib.import_module(name)


@built_trials
def test_the_quick_trial_ends_in_verdicts(room: Room, trial: str, tmp_path: Path):
    kind = room.trials()[trial]
    import_what_is_used(room)
    start = time.process_time()
    result = run_trial(room.name, trial, kind.quick(), Options(tmp_path, workers=1))
    seconds = time.process_time() - start
    assert result.failures == []
    assert {one.arm for one in result.measurements} == set(kind.arms)
    summary = summarise(room.card, room.trials(), {trial: (kind.quick(), result)})
    for claim in room.card.tested:
        if claim.trial == trial:
            assert summary.verdicts[claim.name].word in ("holds", "fails", "undecided")
    assert seconds < QUICK_SECONDS, f"quick() took {seconds:.0f} s"


@built_rooms
def test_the_reference_evidence_is_of_the_room_as_it_is(room: Room):
    assert staleness(room) == []


@every_room
def test_readme_lists_the_paper(room: Room):
    assert f"`{room.name}`" in (ROOT / "README.md").read_text()
