"""Days as JSON and JSON lines, with the version of their schema."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from papertrial.digest.records import Day, Entry
from papertrial.errors import BadInputError

SCHEMA = "papertrial.digest/1"

_NAMES = {str: "a text", int: "a whole number", float: "a number"}


def render_json(days: Sequence[Day]) -> str:
    """Write days as one JSON document: `{"schema": …, "days": […]}`."""
    return _dump({"schema": SCHEMA, "days": [encode(day) for day in days]}, indent=1)


def render_jsonl(days: Sequence[Day]) -> str:
    """Write an entry a line, each with its day's facts, so that lines may be cut, joined and filtered."""
    lines = []
    for day in days:
        about = {name: value for name, value in encode(day).items() if name != "entries"}
        if not day.entries:
            lines.append(_dump({"schema": SCHEMA, "day": about, "entry": None}))
        lines += [_dump({"schema": SCHEMA, "day": about, "entry": encode(entry)}) for entry in day]
    return "".join(lines)


def parse_json(text: str) -> list[Day]:
    """Read what `render_json` or `render_jsonl` wrote.

    Raises:
        BadInputError: it is no JSON, of another schema, or lacks something a day needs.
    """
    text = text.removeprefix("\ufeff")
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        if len(lines) > 1 and all(line.startswith("{") and line.rstrip().endswith("}") for line in lines):
            return _join([_checked(json.loads(line)) for line in lines])
        raw = _checked(json.loads(text))
    except ValueError as error:
        raise BadInputError(f"the digest is no JSON: {error}") from error
    if "entry" in raw:
        return _join([raw])
    if not isinstance(raw.get("days"), list):
        raise BadInputError(
            f"the digest's JSON has no list 'days'; it has {', '.join(map(str, raw)) or 'nothing'}"
        )
    return [decode(Day, day, "days") for day in raw["days"]]


def encode(value: Any) -> Any:
    """Return a record as plain JSON values; what is unknown or empty is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        return {name: encode(one) for name, one in named.items() if one is not None and one not in ((), {})}
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): encode(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(one) for one in value]
    return value


def decode(kind: Any, raw: Any, where: str = "the record") -> Any:
    """Return the record of a type from plain JSON values.

    Raises:
        BadInputError: a value is of another type, or a required one is missing; `where` says where.
    """
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, raw, where)
    if origin in (Union, types.UnionType):
        inner = [one for one in get_args(kind) if one is not type(None)]
        return None if raw is None else decode(inner[0], raw, where)
    if origin is Literal:
        return _expect(raw in get_args(kind), raw, where, f"one of {', '.join(get_args(kind))}")
    if origin is tuple:
        _expect(isinstance(raw, list), raw, where, "a list")
        return tuple(decode(get_args(kind)[0], one, f"{where}[{at}]") for at, one in enumerate(raw))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(raw, dict), raw, where, "an object")
        return {name: decode(get_args(kind)[1], one, f"{where}.{name}") for name, one in raw.items()}
    if kind in (date, datetime):
        try:
            return kind.fromisoformat(raw)
        except (TypeError, ValueError):
            raise BadInputError(f"{where} must be a date, got {raw!r}") from None
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    is_right = isinstance(raw, kind) and (kind is bool or not isinstance(raw, bool))
    return _expect(is_right, raw, where, _NAMES.get(kind, "true or false"))


def _decode_record(kind: Any, raw: Any, where: str) -> Any:
    _expect(isinstance(raw, dict), raw, where, "an object")
    hints, given = _hints(kind), {}
    for one in dataclasses.fields(kind):
        if one.name in raw:
            given[one.name] = decode(hints[one.name], raw[one.name], f"{where}.{one.name}")
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            if get_origin(hints[one.name]) is tuple:
                given[one.name] = ()
            elif type(None) in get_args(hints[one.name]):
                given[one.name] = None
            else:
                raise BadInputError(f"{where} lacks {one.name!r}")
    return kind(**given)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _expect(holds: bool, raw: Any, where: str, what: str) -> Any:
    if not holds:
        raise BadInputError(f"{where} must be {what}, got {str(raw)[:60]!r}")
    return raw


def _checked(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        given = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
        raise BadInputError(f"the digest's JSON must be of schema {SCHEMA!r}, got {given!r}")
    return raw


def _join(lines: Sequence[Mapping[str, Any]]) -> list[Day]:
    """Put the entries of JSON lines back into their days, in the order of the file."""
    days: dict[date, Day] = {}
    for number, line in enumerate(lines, 1):
        day = decode(Day, line.get("day"), f"line {number}: day")
        entries = (
            () if line.get("entry") is None else (decode(Entry, line["entry"], f"line {number}: entry"),)
        )
        earlier = days.get(day.date, day)
        days[day.date] = dataclasses.replace(earlier, entries=(*earlier.entries, *entries))
    return list(days.values())


def _dump(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent) + "\n"
