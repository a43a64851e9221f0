"""Settings as a form: every trial's own settings survive it, and what is wrong is said beside its field."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.site.forms import form_fields, parse_words, read_seeds, read_settings, setting_words
from papertrial.site.stored import restore
from papertrial.trial.contract import Trial
from papertrial.trial.rooms import discover
from papertrial.trial.settings import settings_of


@dataclass(frozen=True)
class EveryKind(Trial):
    """Has a setting of every kind.

    Attributes:
        count: how many,
            over two lines.
        share, other: two of one kind.
        word: any text.
        choice: one of two.
        sizes: several.
        names: several words.
        on: a switch that is on.
        off: a switch that is off.
        file: a path.
    """

    count: int = 3
    share: float = 0.5
    other: float | None = None
    word: str = "plain"
    choice: Literal["one", "two"] = "one"
    sizes: tuple[int, ...] = (1, 2)
    names: tuple[str, ...] = ("a",)
    on: bool = True
    off: bool = False
    file: Path | None = None

    grid: ClassVar = {"arm": {"other": (1.0, 2.0)}}

    def check(self) -> None:
        """Refuse a share above one."""
        if self.share > 1:
            raise BadInputError(f"share must be at most 1, got {self.share}")


def answers(trial: Trial) -> dict[str, str]:
    """Return the form that a browser would send for these settings."""
    found = form_fields(type(trial), trial)
    return {one.name: one.value for one in found if one.type is not bool or one.value == "True"}


@pytest.mark.parametrize(
    "room", [room for room in discover().values() if room.card.status == "built"], ids=str
)
def test_every_trials_settings_come_back_from_its_form(room, monkeypatch):
    for kind in room.trials().values():
        monkeypatch.setattr(kind, "check", lambda self: None)  # the trial's own, and some import torch for it
        for trial in (kind(), kind.quick()):
            assert read_settings(kind, kind(), answers(trial)) == (trial, {})


words = st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"), max_size=30)
kinds = st.builds(
    EveryKind,
    count=st.integers(-(10**9), 10**9),
    share=st.floats(-1e6, 1),
    other=st.none() | st.floats(-1e6, 1e6),
    word=words,
    choice=st.sampled_from(["one", "two"]),
    sizes=st.lists(st.integers(-99, 99), min_size=1, max_size=4).map(tuple),
    names=st.lists(st.from_regex(r"[a-z][a-z0-9/.=-]{0,8}", fullmatch=True), min_size=1, max_size=3).map(
        tuple
    ),
    on=st.booleans(),
    off=st.booleans(),
    file=st.none() | st.from_regex(r"[a-z/]{1,9}\.txt", fullmatch=True).map(Path),
)


@settings(max_examples=80, deadline=None)
@given(kinds)
def test_any_settings_come_back_from_form_words_and_json(trial):
    read, errors = read_settings(EveryKind, EveryKind(), answers(trial))
    assert (read, errors) == (trial, {})
    assert parse_words(EveryKind, EveryKind(), setting_words(trial, EveryKind())) == trial
    assert restore(EveryKind, settings_of(trial)) == trial


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("count", "3.5", "count must be a whole number, got '3.5'"),
        ("count", "", "count must be a whole number, got ''"),
        ("share", "nan", "share must be a number, got 'nan'"),
        ("share", "2", "share must be at most 1, got 2.0"),
        ("choice", "three", "choice must be one of one, two, got 'three'"),
        ("sizes", "1 x", "sizes must be whole numbers with spaces between, got '1 x'"),
        ("word", "two\nlines", "word must be a text"),
        ("word", "x" * 2000, "word must be a text"),
        ("names", "a --json", "an item of names must not begin with a dash"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_beside_the_field(name, given, said):
    _, errors = read_settings(EveryKind, EveryKind(), answers(EveryKind()) | {name: given})
    assert len(errors) == 1
    ((where, message),) = errors.items()
    assert where in (name, "")
    assert message.startswith(said)
    assert "\n" not in message


def test_a_value_never_becomes_an_option():
    trial = replace(EveryKind(), word="--ray=evil:1234")
    assert setting_words(trial, EveryKind()) == ["--word=--ray=evil:1234"]
    read, errors = read_settings(EveryKind, EveryKind(), answers(EveryKind()) | {"word": "--ray=evil:1234"})
    assert (read, errors) == (trial, {})


def test_fields_say_what_they_are():
    found = {one.name: one for one in form_fields(EveryKind, EveryKind())}
    assert found["count"].help == "how many, over two lines."
    assert found["share"].help == found["other"].help == "two of one kind."
    assert found["other"].tuned
    assert not found["share"].tuned
    assert found["choice"].choices == ("one", "two")
    assert found["file"].type is Path
    assert found["file"].optional
    assert [one.name for one in fields(EveryKind())] == list(found)


@pytest.mark.parametrize("text", ["0", "-1", "1001", "3.5", "x", "١"])
def test_seeds_are_a_small_whole_number(text):
    with pytest.raises(BadInputError, match="seeds must be a whole number from 1 to 1000"):
        read_seeds(text)


def test_seeds_may_be_left_to_the_trial():
    assert read_seeds("  ") is None
    assert read_seeds(" 7 ") == 7
