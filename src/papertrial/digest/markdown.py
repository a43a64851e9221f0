"""Text that nobody vouches for, written into Markdown so that it stays text, and read back."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[\\|<\[\]`*_]")
_ESCAPED = re.compile(r"\\([\\|<\[\]`*_])")


def escape(text: str) -> str:
    """Return the text on one line, with a backslash before what Markdown would take as markup.

    A link, a tag, emphasis, code or a new cell cannot begin in it; `unescape` gives the text back.
    """
    return _SPECIAL.sub(r"\\\g<0>", one_line(text))


def unescape(text: str) -> str:
    """Undo `escape`."""
    return _ESCAPED.sub(r"\1", text)


def one_line(text: str) -> str:
    """Return the text with every line break, and the spaces round it, as one space."""
    return re.sub(r"[ \t]*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+[ \t]*", " ", text)
