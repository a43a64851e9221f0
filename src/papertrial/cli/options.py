"""Reading options with tyro, part of them by one class and the rest by another."""

from __future__ import annotations

import contextlib
import difflib
import io
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import tyro

from papertrial.errors import BadInputError

T = TypeVar("T")

_STYLE = (tyro.conf.FlagCreatePairsOff,)  # --quick, not --quick/--no-quick


def split_names(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the leading words that are no options, and the rest."""
    for at, word in enumerate(words):
        if word.startswith("-"):
            return list(words[:at]), list(words[at:])
    return list(words), []


def parse_known(
    kind: type[T], words: Sequence[str], prog: str, default: T | None = None
) -> tuple[T, list[str]]:
    """Read the options that a dataclass has, and return it with the words it does not know.

    A wrong value ends the program with code 2 and a message that names the option.
    """
    keywords: dict[str, Any] = {} if default is None else {"default": default}
    parsed, unknown = tyro.cli(
        kind, args=list(words), prog=prog, return_unknown_args=True, config=_STYLE, **keywords
    )
    return parsed, list(unknown)


def help_text(kind: type[Any], prog: str, default: Any = None) -> str:
    """Return the help that tyro makes from a dataclass."""
    keywords: dict[str, Any] = {} if default is None else {"default": default}
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], prog=prog, config=_STYLE, **keywords)
    return text.getvalue()


def wants_help(words: Sequence[str]) -> bool:
    """Say whether help is asked for."""
    return "-h" in words or "--help" in words


def refuse_unknown(words: Sequence[str], kinds: Sequence[type[Any]], where: str) -> None:
    """Raise for the first word that no class knows, with the nearest option.

    Raises:
        BadInputError: there is such a word.
    """
    if not words:
        return
    known = sorted({"--" + one.name.replace("_", "-") for kind in kinds for one in fields(kind)})
    given = words[0].split("=")[0]
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"options: {', '.join(known)}"
    raise BadInputError(f"{where} has no option {given!r}; {hint}")
