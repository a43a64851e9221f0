"""Reading what language models answer: JSON objects and tagged passages inside free text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from papertrial.errors import BadInputError

_TAG_NAME = re.compile(r"^[A-Za-z][\w-]*$")
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|#[^\n]*')


def find_json_object(text: str, *, strict: bool = True) -> dict[str, Any] | None:
    """Return the first JSON object inside `text`, or None where there is none.

    Text around it (prose, code fences) is passed over. Braces inside strings count as text.

    Args:
        text: what the model wrote.
        strict: take JSON as the standard has it. Otherwise `// …` and `# …` comments, which models like
            to add, are removed first (but never from inside a string).
    """
    for candidate in (text,) if strict else (text, _COMMENT.sub(lambda match: match[1] or "", text)):
        for found in _objects(candidate):
            return found
    return None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at != -1:
        try:
            value, end = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            at = text.find("{", at + 1)
            continue
        if isinstance(value, dict):
            yield value
        at = text.find("{", end)


def find_tag(text: str, tag: str, *, strict: bool = True) -> str | None:
    """Return what stands between `<tag>` and `</tag>`, without surrounding white space, or None.

    Args:
        text: what the model wrote.
        tag: the name between the angle brackets; upper and lower case differ.
        strict: accept exactly one pair of tags, opened once and closed once. Otherwise the last complete
            pair is taken, as graders do that want a model's final answer.

    Raises:
        BadInputError: a tag name that is none.
    """
    if not _TAG_NAME.match(tag):
        raise BadInputError(f"tag must be a name such as 'answer', without angle brackets; got {tag!r}")
    opening, closing = f"<{tag}>", f"</{tag}>"
    if strict and (text.count(opening) != 1 or text.count(closing) != 1):
        return None
    end = text.rfind(closing)
    start = text.rfind(opening, 0, end) if end != -1 else -1
    return text[start + len(opening) : end].strip() if start != -1 else None
