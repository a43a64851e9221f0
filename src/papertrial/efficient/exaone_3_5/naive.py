"""The same rules in the plainest Python: strings, a set of substrings, loops. What the fast path is held to.

Source: arXiv 2412.04862, figure 4.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


def normalise_text(text: str, *, lower_case: bool = False) -> str:
    """Return the letters and digits of a text, composed."""
    text = text.lower() if lower_case else text
    return "".join(character for character in unicodedata.normalize("NFC", text) if character.isalnum())


def substring_pool(items: Iterable[str], window: int) -> set[str]:
    """Return all substrings of `window` characters of normalised items; a shorter item is in it whole."""
    pool = set()
    for item in items:
        if 0 < len(item) < window:
            pool.add(item)
        pool.update(item[start : start + window] for start in range(len(item) - window + 1))
    return pool


def has_sampled_window(document: str, starts: Sequence[int], pool: set[str], window: int) -> bool:
    """Return whether one of the windows at `starts` is in the pool; a shorter document is compared whole."""
    if len(document) < window:
        return document in pool
    return any(document[start : start + window] in pool for start in starts)


def has_any_window(document: str, items: Sequence[str], window: int) -> bool:
    """Return whether the document holds `window` characters of an item in a row, or a short item whole."""
    pool = substring_pool(items, window)
    if any(document[start : start + window] in pool for start in range(len(document) - window + 1)):
        return True
    return any(item in document for item in items if 0 < len(item) < window)
