"""Errors that are the user's to mend, and how they are said."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PapertrialError(Exception):
    """Something papertrial can say in one clear line."""


class BadInputError(PapertrialError, ValueError):
    """An input that cannot work. The message says what was given and what would work."""


class MissingExtraError(PapertrialError, ImportError):
    """A library that an extra installs is not there. The message names the extra."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed; it comes with: pip install 'papertrial[{extra}]'")


def unknown(kind: str, given: str, known: Iterable[str]) -> BadInputError:
    """Return the error for a name that is not known, with the nearest known names.

    Args:
        kind: what the name should have been ("paper", "arm").
        given: what was given.
        known: all names that would have worked.
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    return BadInputError(f"unknown {kind} {given!r}; {hint}")
