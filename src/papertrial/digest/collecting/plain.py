"""Text from outside made harmless: one line, no control characters, nothing that turns text round."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from papertrial.digest.records import ARXIV_ID

_HARMFUL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f"  # control characters
    "\ud800-\udfff\ufeff\ufffe\uffff"  # no characters
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they turn the direction of writing
    "\ue000-\uf8ff\U000f0000-\U0010ffff]"  # private: glyphs of one font
)


def without_controls(text: str) -> str:
    """Return a text without control characters other than line breaks, lone surrogates and turning marks."""
    return _HARMFUL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " "))


def one_line(value: Any) -> str | None:
    """Return a text on one line; None where `value` is no text or holds none."""
    if not isinstance(value, str):
        return None
    return " ".join(without_controls(value).split()) or None


def web_address(value: Any) -> str | None:
    """Return a web address; anything else (`javascript:`, a relative path) is none."""
    said = one_line(value)
    return said if said and said.startswith(("https://", "http://")) and " " not in said else None


def arxiv_id(value: Any) -> tuple[str, int | None] | None:
    """Return id and version of an arXiv id or address ("2505.03335v2"); None where it is none."""
    if not isinstance(value, str):
        return None
    last = value.strip().rstrip("/").rpartition("/")[2].removesuffix(".pdf").rpartition(":")[2]
    arxiv, _, version = last.partition("v")
    if not ARXIV_ID.fullmatch(arxiv) or (version and not (version.isascii() and version.isdigit())):
        return None
    return arxiv, int(version[:4]) if version else None


def moment(value: Any) -> datetime | None:
    """Return a time in UTC; None where `value` is none. A time without a zone is taken as UTC."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
