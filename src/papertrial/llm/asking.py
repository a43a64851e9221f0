"""Asking a chat model for JSON: find it in the answer, check it, and have it repaired once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from papertrial.errors import BadInputError
from papertrial.llm.chat import ChatModel, InvalidAnswerError, Message, Schema

_FENCE = re.compile(r"```[a-zA-Z0-9_-]*[ \t]*\n(.*?)```", re.DOTALL)
_THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_MOST_STARTS = 64
"""How many brackets are tried as the start of the JSON: an answer of brackets only must not take for ever."""

_NOTHING = object()


def complete_json(model: ChatModel, messages: Sequence[Message], schema: Schema, *, repair: int = 1) -> Any:
    """Return the model's answer as a JSON value that fits `schema`.

    An answer that does not fit is shown to the model again with what was wrong, `repair` times.

    Raises:
        BadInputError: the schema is none, `repair` is negative, or the request cannot work.
        InvalidAnswerError: the last answer does not fit either; the message says why.
        ChatModelError: the model gave no answer.
    """
    check_schema(schema)
    if repair < 0:
        raise BadInputError(f"repair must be 0 or more rounds, got {repair}")
    asked = [dict(one) for one in messages]
    problem = ""
    for _ in range(repair + 1):
        answer = model.complete(asked, schema)
        try:
            value = find_json(answer)
        except InvalidAnswerError as nothing:
            problem = str(nothing)
        else:
            problem = schema_problem(value, schema) or ""
            if not problem:
                return value
        asked = [
            *asked,
            {"role": "assistant", "content": answer},
            {
                "role": "user",
                "content": f"That answer cannot be used: {problem}. "
                "Answer again with the corrected JSON only.",
            },
        ]
    raise InvalidAnswerError(f"{model.name} did not give the JSON asked for: {problem}")


def find_json(text: str) -> Any:
    """Return the JSON object or list that a model's answer holds.

    Fences, words before and after, a thinking block, trailing commas and raw line breaks in strings are
    forgiven. Of several values the longest one is taken, an object before a list.

    Raises:
        InvalidAnswerError: there is none; the message says what stands there instead.
    """
    said = _THINKING.sub("", text).strip()
    if not said:
        raise InvalidAnswerError("the answer is empty")
    for candidate in (said, *(match.group(1).strip() for match in _FENCE.finditer(said))):
        value = _parsed(candidate)
        if isinstance(value, dict | list):
            return value
    found = sorted(_embedded(said), key=lambda one: (isinstance(one[0], dict), one[1]))
    if found:
        return found[-1][0]
    kind = "is cut off or broken JSON" if "{" in said or "[" in said else "holds no JSON"
    raise InvalidAnswerError(f"the answer {kind}: {_start_of(said)!r}")


def schema_problem(value: Any, schema: Schema) -> str | None:
    """Return in one line what keeps `value` from fitting `schema`, or None where it fits."""
    import jsonschema

    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)(schema)
    problem = jsonschema.exceptions.best_match(validator.iter_errors(value))
    if problem is None:
        return None
    where = ".".join(str(step) for step in problem.absolute_path)
    return f"{f'at {where}: ' if where else ''}{_start_of(problem.message, 200)}"


def check_schema(schema: Schema) -> None:
    """Check that `schema` is a JSON schema.

    Raises:
        BadInputError: it is none.
    """
    import jsonschema

    try:
        jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(
            schema
        )
    except jsonschema.SchemaError as problem:
        raise BadInputError(f"not a JSON schema: {problem.message}") from problem


def _embedded(text: str) -> Iterator[tuple[Any, int]]:
    """Yield the JSON values that stand somewhere in `text`, each with its length."""
    decoder = json.JSONDecoder(strict=False, parse_constant=_refuse)
    for said in dict.fromkeys((text, _without_trailing_commas(text))):
        position, tried = 0, 0
        while tried < _MOST_STARTS and (start := re.compile(r"[{\[]").search(said, position)):
            tried += 1
            try:
                value, end = decoder.raw_decode(said, start.start())
            except (ValueError, RecursionError):
                position = start.end()
                continue
            yield value, end - start.start()
            position = end


def _parsed(text: str) -> Any:
    for candidate in (text, _without_trailing_commas(text)):
        try:
            return json.loads(candidate, strict=False, parse_constant=_refuse)
        except (ValueError, RecursionError):
            continue
    return _NOTHING


def _without_trailing_commas(text: str) -> str:
    """Drop commas before a closing bracket, leaving strings as they are."""
    pattern = re.compile(r'("(?:[^"\\]|\\.)*")|,(\s*[}\]])', re.DOTALL)
    return pattern.sub(lambda match: match.group(1) or match.group(2), text)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _start_of(text: str, length: int = 80) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[:length]}…"
