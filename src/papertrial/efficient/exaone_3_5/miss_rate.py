"""How often a rule finds a leak, worked out before any corpus is read.

Source: arXiv 2412.04862, figure 4, whose rule this is the arithmetic of; the report gives no such figure.
"""

from __future__ import annotations

from papertrial.efficient.exaone_3_5.pool import WINDOW
from papertrial.errors import BadInputError


def catch_probability(
    characters: int,
    copied: int,
    *,
    samples: int = 10,
    window: int = WINDOW,
) -> float:
    """Return how likely a document with one copied span is dropped: 1 − (1 − (c−S+1)/(n−S+1))^N.

    Args:
        characters: n, normalised characters of the document.
        copied: c, characters of the copied span.
        samples: N, substrings drawn with replacement. As many as there are windows, or more, look at all.
        window: S, characters of a substring.

    Raises:
        BadInputError: more copied than there are characters, or a count below 1.
    """
    _check(characters, copied, samples, window)
    if copied < window:
        return 0.0
    windows = characters - window + 1
    if samples >= windows:
        return 1.0
    return 1.0 - (1.0 - (copied - window + 1) / windows) ** samples


def chunked_catch_probability(
    characters: int, copied: int, start: int, *, samples: int = 10, chunk: int = 2000, window: int = WINDOW
) -> float:
    """Return the same where N substrings are drawn from every `chunk` characters.

    Args:
        characters: n, normalised characters of the document.
        copied: c, characters of the copied span.
        start: its first character: a span on two chunks is looked for in both.
        samples: N, drawn from each chunk.
        chunk: characters of a chunk.
        window: S, characters of a substring.

    Raises:
        BadInputError: the span lies outside the document, or a count below 1.
    """
    _check(characters, copied, samples, window)
    if not 0 <= start <= characters - copied:
        raise BadInputError(
            f"a span of {copied} in {characters} characters begins at 0 to {characters - copied}, got {start}"
        )
    if copied < window:
        return 0.0
    windows, first, end = characters - window + 1, start, start + copied - window + 1
    chunks = min(-(-characters // chunk), windows)
    missed = 1.0
    for number in range(chunks):
        low, high = number * windows // chunks, (number + 1) * windows // chunks
        inside = max(0, min(high, end) - max(low, first))
        missed *= (1.0 - inside / (high - low)) ** samples if samples < high - low else float(inside == 0)
    return 1.0 - missed


def gpt4_catch_probability(item: int, copied: int, *, samples: int = 3, window: int = WINDOW) -> float:
    """Return how likely a document is dropped that holds `copied` characters in a row of an item of `item`.

    1 − (1 − (c−S+1)/(m−S+1))^N: the document's length does not enter, and a whole copy is always found.

    Raises:
        BadInputError: more copied than the item has, or a count below 1.
    """
    if item < window:
        _check(item, copied, samples, min(window, item))
        return float(copied == item)
    return catch_probability(item, copied, samples=samples, window=window)


def _check(characters: int, copied: int, samples: int, window: int) -> None:
    for name, value in (
        ("characters", characters),
        ("copied", copied),
        ("samples", samples),
        ("window", window),
    ):
        if value < 1:
            raise BadInputError(f"{name} must be at least 1, got {value}")
    if copied > characters:
        raise BadInputError(f"a document of {characters} characters cannot hold a copy of {copied}")
