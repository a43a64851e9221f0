"""A trial's settings as a form: made from its dataclass, and read back as the command line would read it."""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from papertrial.errors import BadInputError
from papertrial.trial.contract import Trial

MOST_TEXT = 1000
MOST_SEEDS = 1000
_STYLE = (tyro.conf.FlagCreatePairsOff,)  # as the command line reads them
_KINDS: Mapping[Any, str] = {int: "a whole number", float: "a number", str: "a text", Path: "a path"}


@dataclass(frozen=True)
class Field:
    """One setting as the form shows it.

    Attributes:
        help: from the docstring's Attributes.
        type: bool, int, float, str or Path; for a list, of its items.
        optional: an empty answer is allowed and means None.
        tuned: None means that the runner tunes it.
        choices: what it may be, where it is one of a few.
        many: a tuple of such values, written with spaces between.
        value: what the form begins with.
    """

    name: str
    help: str
    type: Any
    optional: bool
    tuned: bool
    choices: tuple[str, ...]
    many: bool
    value: str

    @property
    def asks_for(self) -> str:
        """Say what would be right."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        what = _KINDS[self.type]
        return f"{what.removeprefix('a ')}s with spaces between" if self.many else what


def form_fields(kind: type[Trial], trial: Trial) -> list[Field]:
    """Return the settings of a trial as fields, with the values of `trial`."""
    hints, helps = get_type_hints(kind), _helps(kind)
    tuned = {name for axes in kind.grid.values() for name in axes}
    return [
        _field(
            one.name, hints[one.name], helps.get(one.name, ""), one.name in tuned, getattr(trial, one.name)
        )
        for one in fields(kind)
    ]


def read_settings(
    kind: type[Trial], default: Trial, given: Mapping[str, str]
) -> tuple[Trial, dict[str, str]]:
    """Read the answers of a form.

    Args:
        kind: the trial.
        default: settings that the form does not name keep these values.
        given: the answers by setting. An unticked box is not among them.

    Returns:
        The trial, and what is wrong by setting; the trial counts only where nothing is. "" stands for what
        is wrong with the settings together.
    """
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for field in form_fields(kind, default):
        if field.type is not bool and field.name not in given:
            continue
        try:
            values[field.name] = _read(field, given.get(field.name))
        except ValueError:
            errors[field.name] = f"{field.name} must be {field.asks_for}, got {given[field.name][:80]!r}"
    if errors:
        return default, errors
    trial = replace(default, **values)
    try:
        if parse_words(kind, default, setting_words(trial, default)) != trial:
            raise BadInputError("these settings cannot be said on the command line")
        trial.check()
    except BadInputError as error:
        return default, {_blamed(str(error), values): str(error)}
    return trial, {}


def setting_words(trial: Trial, default: Trial) -> list[str]:
    """Return the words that make `trial` from `default` on the command line, each value joined to its name.

    Joined, a value that begins with a dash stays a value.

    Raises:
        BadInputError: an item of a list begins with a dash.
    """
    words: list[str] = []
    for field in fields(trial):
        value = getattr(trial, field.name)
        if value == getattr(default, field.name):
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, tuple):
            if any(isinstance(one, str) and one.startswith("-") for one in value):
                raise BadInputError(f"an item of {field.name} must not begin with a dash")
            words += [f"--{flag}", *map(str, value)]
        else:
            words.append(f"--{flag}={value}")
    return words


def parse_words(kind: type[Trial], default: Trial, words: Sequence[str]) -> Trial:
    """Read settings as `papertrial try` reads them.

    Raises:
        BadInputError: they are none.
    """
    try:
        parsed: Trial = tyro.cli(
            kind, args=list(words), default=default, config=_STYLE, console_outputs=False, add_help=False
        )
    except SystemExit as error:
        raise BadInputError(f"these are no settings of {kind.__name__}: {' '.join(words)[:200]}") from error
    return parsed


def read_seeds(text: str) -> int | None:
    """Read how many seeds; None where the field was left empty.

    Raises:
        BadInputError: it is no such number.
    """
    if not text.strip():
        return None
    if not text.strip().isascii() or not text.strip().isdigit() or not 1 <= int(text) <= MOST_SEEDS:
        raise BadInputError(f"seeds must be a whole number from 1 to {MOST_SEEDS}, got {text[:80]!r}")
    return int(text)


def _field(name: str, hint: Any, help: str, tuned: bool, value: Any) -> Field:
    choices = list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]
    optional = type(None) in choices
    kinds = [one for one in choices if one is not type(None)]
    chosen = kinds[0] if len(kinds) == 1 else Path if set(kinds) == {str, Path} else str
    many = get_origin(chosen) is tuple
    if many:
        chosen = get_args(chosen)[0]
    names = tuple(map(str, get_args(chosen))) if get_origin(chosen) is Literal else ()
    kind = str if names or chosen not in (bool, int, float, str, Path) else chosen
    shown = "" if value is None else " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return Field(name, help, kind, optional, tuned, names, many, shown)


def _read(field: Field, text: str | None) -> Any:
    """Read one answer; ValueError where it is none."""
    if field.type is bool:
        return text is not None
    text = (text or "").strip() if field.type is not str or field.optional or field.many else (text or "")
    if len(text) > MOST_TEXT or any(ord(sign) < 32 for sign in text):
        raise ValueError("too long, or not plain text")
    if text == "" and field.optional:
        return None
    if field.many:
        return tuple(_read_one(field, one) for one in re.split(r"[,\s]+", text) if one)
    return _read_one(field, text)


def _read_one(field: Field, text: str) -> Any:
    if field.choices:
        return field.choices[field.choices.index(text)]
    if field.type is int:
        return int(text)
    if field.type is float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError("not finite")
        return value
    if field.type is Path and not text:
        raise ValueError("empty")
    return field.type(text)


def _helps(kind: type[Trial]) -> dict[str, str]:
    """Read the Attributes of a docstring, of the class and of those it comes from."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if one in (Trial, object) or not one.__doc__:
            continue
        _, _, rest = inspect.cleandoc(one.__doc__).partition("Attributes:\n")
        section = re.split(r"\n(?=\S)", rest)[0]
        for names, text in re.findall(r"^ {4}([\w, ]+): ((?:.|\n {5,})*)", section, flags=re.M):
            for name in names.split(","):
                found[name.strip()] = " ".join(text.split())
    return found


def _blamed(message: str, names: Mapping[str, Any]) -> str:
    """Return the setting that a message begins with, or "" where it is about several."""
    first = message.split()[0].strip("-,:'\"").replace("-", "_") if message.split() else ""
    return first if first in names else ""
