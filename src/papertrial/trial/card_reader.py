"""Reading `card.toml`: every problem is reported with its file and line, all of them at once."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from papertrial.errors import unknown
from papertrial.trial import card as cards
from papertrial.trial.relation import Relation
from papertrial.trial.toml_lines import Path as KeyPath
from papertrial.trial.toml_lines import key_lines, nearest_line

T = TypeVar("T", cards.PaperNumber, cards.Finding, cards.Summary)

_ARXIV = re.compile(r"^\d{4}\.\d{4,5}$")
_NAME = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")
_TESTED_KEYS = ("trial", "metric", "arm", "relation")


class _Reader:
    """Walks a parsed card, keeps what is wrong with it, and knows the line of every key."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self.source = text
        self.problems: list[str] = []

    def blame(self, path: KeyPath, message: str) -> None:
        self.problems.append(f"{self.file}:{nearest_line(key_lines(self.source), path)}: {message}")

    def keys(
        self, table: dict[str, Any], path: KeyPath, required: tuple[str, ...], optional: tuple[str, ...]
    ) -> None:
        """Blame keys that are unknown and name those that are missing."""
        for key in table:
            if key not in required + optional:
                self.blame((*path, key), str(unknown("key", key, required + optional)))
        for key in required:
            if key not in table:
                where = ".".join(str(part) for part in path) or "the card"
                self.blame(path, f"{where} lacks {key!r}")

    def text(self, table: dict[str, Any], path: KeyPath, key: str) -> str:
        """Return a non-empty string, or blame and return an empty one."""
        value = table.get(key, "")
        if key in table and not (isinstance(value, str) and value.strip()):
            self.blame((*path, key), f"{key!r} must be a non-empty string, got {value!r}")
            return ""
        return value if isinstance(value, str) else ""

    def maybe(self, table: dict[str, Any], path: KeyPath, key: str) -> str | None:
        return self.text(table, path, key) if key in table else None

    def texts(self, table: dict[str, Any], path: KeyPath, key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not (isinstance(value, list) and all(isinstance(one, str) and one for one in value)):
            self.blame((*path, key), f"{key!r} must be a list of strings, got {value!r}")
            return ()
        return tuple(value)

    def table(self, parent: dict[str, Any], path: KeyPath, key: str) -> dict[str, Any]:
        value = parent.get(key, {})
        if not isinstance(value, dict):
            self.blame((*path, key), f"{key!r} must be a table, got {value!r}")
            return {}
        return value

    def tables(self, parent: dict[str, Any], key: str) -> list[dict[str, Any]]:
        value = parent.get(key, [])
        if not (isinstance(value, list) and all(isinstance(one, dict) for one in value)):
            self.blame((key,), f"write {key!r} as [[{key}]] tables, got {value!r}")
            return []
        return value


def read_card(file: Path, name: str, field: str) -> cards.Card:
    """Read one card file; see `papertrial.trial.card.load_card`."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise cards.CardError([f"{file}:1: cannot be read: {error}"]) from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise cards.CardError([f"{file}:{line[1] if line else 1}: is not TOML: {error}"]) from error
    reader = _Reader(file, text)
    made = _card(reader, raw, name, field)
    if reader.problems:
        raise cards.CardError(reader.problems)
    return made


def _card(reader: _Reader, raw: dict[str, Any], name: str, field: str) -> cards.Card:
    reader.keys(
        raw,
        (),
        ("title", "purpose", "summary", "claims"),
        ("arxiv", "day", "code", "checkpoints", "deeds", "findings", "use", "status"),
    )
    if field not in cards.FIELDS:
        reader.blame((), str(unknown("field", field, cards.FIELDS)))
    if ("arxiv" in raw) != ("day" in raw):
        reader.blame(
            (), "a paper's card has both 'arxiv' and 'day'; that of papertrial's own parts has neither"
        )
    arxiv = reader.maybe(raw, (), "arxiv")
    if arxiv and not _ARXIV.match(arxiv):
        reader.blame(("arxiv",), f"{arxiv!r} is no arXiv id; write it as '2412.05270'")
    day = raw.get("day")
    if "day" in raw and type(day) is not date:
        reader.blame(("day",), f"'day' must be a date such as 2024-12-09 (no quotes), got {day!r}")
    status = raw.get("status", "built")
    if status not in ("built", "docket"):
        reader.blame(("status",), f"'status' must be 'built' or 'docket', got {status!r}")
    claims = tuple(_claim(reader, one, ("claims", at)) for at, one in enumerate(reader.tables(raw, "claims")))
    for at, claim in enumerate(claims):
        if claim.name in [earlier.name for earlier in claims[:at]]:
            reader.blame(("claims", at, "name"), f"a second claim named {claim.name!r}")
    if "claims" in raw and not claims:
        reader.blame(("claims",), "a card needs at least one claim")
    return cards.Card(
        name=name,
        field=field,
        title=reader.text(raw, (), "title"),
        arxiv=arxiv,
        day=day if isinstance(day, date) else None,
        purpose=reader.text(raw, (), "purpose"),
        summary=_summaries(reader, reader.table(raw, (), "summary")),
        claims=claims,
        code=_code(reader, reader.table(raw, (), "code")) if "code" in raw else None,
        checkpoints=reader.texts(raw, (), "checkpoints"),
        deeds=reader.texts(raw, (), "deeds"),
        findings=tuple(
            _strings(reader, one, ("findings", at), cards.Finding)
            for at, one in enumerate(reader.tables(raw, "findings"))
        ),
        use=_use(reader, reader.table(raw, (), "use")),
        status=status if status == "docket" else "built",
    )


def _strings(reader: _Reader, table: dict[str, Any], path: KeyPath, make: type[T]) -> T:
    """Make a dataclass whose fields are all required strings."""
    names = tuple(one.name for one in fields(make))
    reader.keys(table, path, names, ())
    return make(**{name: reader.text(table, path, name) for name in names})


def _summaries(reader: _Reader, table: dict[str, Any]) -> dict[str, cards.Summary]:
    reader.keys(table, ("summary",), cards.LANGUAGES, ())
    return {
        language: _strings(
            reader, reader.table(table, ("summary",), language), ("summary", language), cards.Summary
        )
        for language in cards.LANGUAGES
        if language in table
    }


def _code(reader: _Reader, table: dict[str, Any]) -> cards.Code:
    path = ("code",)
    reader.keys(table, path, ("repository", "licence"), ("commit", "runs_on_cpu"))
    runs = table.get("runs_on_cpu")
    if runs is not None and not isinstance(runs, bool):
        reader.blame((*path, "runs_on_cpu"), f"'runs_on_cpu' must be true or false, got {runs!r}")
    return cards.Code(
        repository=reader.text(table, path, "repository"),
        licence=reader.text(table, path, "licence"),
        commit=reader.maybe(table, path, "commit"),
        runs_on_cpu=runs if isinstance(runs, bool) else None,
    )


def _use(reader: _Reader, table: dict[str, Any]) -> cards.Use:
    reader.keys(table, ("use",), (), ("python", "apply"))
    return cards.Use(
        python=reader.maybe(table, ("use",), "python"),
        apply=reader.maybe(table, ("use",), "apply"),
    )


def _claim(reader: _Reader, table: dict[str, Any], path: KeyPath) -> cards.Claim:
    reader.keys(
        table,
        path,
        ("name", "says", "paper"),
        (*_TESTED_KEYS, "against", "margin_reason", "untested", "command"),
    )
    name = reader.text(table, path, "name")
    if name and not _NAME.match(name):
        reader.blame((*path, "name"), f"a claim's name is lower-case words joined by '-', got {name!r}")
    number = _strings(reader, reader.table(table, path, "paper"), (*path, "paper"), cards.PaperNumber)
    common: dict[str, Any] = {"name": name, "says": reader.text(table, path, "says"), "paper": number}
    if "untested" in table:
        _untested_only(reader, table, path, name)
        return cards.Claim(
            **common,
            untested=reader.text(table, path, "untested"),
            command=reader.maybe(table, path, "command"),
        )
    if "command" in table:
        reader.blame((*path, "command"), f"claim {name!r} has a command but is not 'untested'")
    missing = [key for key in _TESTED_KEYS if key not in table]
    if missing:
        reader.blame(path, f"claim {name!r} lacks {', '.join(missing)} (or say why it is 'untested')")
    return cards.Claim(
        **common,
        trial=reader.maybe(table, path, "trial"),
        metric=reader.maybe(table, path, "metric"),
        arm=reader.maybe(table, path, "arm"),
        against=reader.maybe(table, path, "against"),
        relation=_relation(reader, table, path, name),
        margin_reason=reader.maybe(table, path, "margin_reason"),
    )


def _untested_only(reader: _Reader, table: dict[str, Any], path: KeyPath, name: str) -> None:
    for key in (*_TESTED_KEYS, "against", "margin_reason"):
        if key in table:
            reader.blame((*path, key), f"claim {name!r} is untested, so it has no {key!r}")


def _relation(reader: _Reader, table: dict[str, Any], path: KeyPath, name: str) -> Relation | None:
    text = reader.maybe(table, path, "relation")
    if not text:
        return None
    try:
        relation = Relation.parse(text)
    except ValueError as error:
        reader.blame((*path, "relation"), str(error))
        return None
    if relation.quantity == "value" and "against" in table:
        reader.blame((*path, "against"), f"claim {name!r} speaks of a value alone, so it has no 'against'")
    if relation.quantity != "value" and "against" not in table:
        reader.blame(path, f"claim {name!r} speaks of a {relation.quantity}, so it needs 'against'")
    return relation
