"""What is compared: the letters and digits of a text, in any script, in composed form (NFC).

Source: arXiv 2412.04862, figure 4 and appendix C, after the GPT-4 report (arXiv 2303.08774, appendix C).
"""

from __future__ import annotations

import string
import sys
import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

from papertrial.efficient.exaone_3_5.kernels import keep_characters
from papertrial.errors import BadInputError

Characters = NDArray[np.uint8] | NDArray[np.uint32]
"""Normalised characters: one byte each for ASCII texts, one code point (four bytes) each for others."""

_DROPPED_BYTES = bytes(code for code in range(128) if not chr(code).isalnum())
_UNCHANGED = bytes(range(256))
_LOWERED = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())


def normalise(text: object, *, lower_case: bool = False) -> Characters:
    """Return the letters and digits of `text`; white space, punctuation, marks and symbols are dropped.

    What counts is `str.isalnum`: the Unicode letters and numbers of every script, Hangul among them. Both
    forms of a Hangul syllable (NFC and NFD) become the same characters. Letter case is kept unless
    `lower_case`: the report does not mention it.

    Returns:
        Code points, uint8 where the text is ASCII and uint32 elsewhere.

    Raises:
        BadInputError: `text` is not a `str`.
    """
    if not isinstance(text, str):
        hint = "; decode it first, as UTF-8 for instance" if isinstance(text, bytes | bytearray) else ""
        raise BadInputError(f"a text must be str, got {type(text).__name__}{hint}")
    if text.isascii():
        kept = text.encode("ascii").translate(_LOWERED if lower_case else _UNCHANGED, _DROPPED_BYTES)
        return np.frombuffer(kept, dtype=np.uint8)
    if lower_case:
        text = text.lower()
    composed = unicodedata.normalize("NFC", text)  # answers at once where the text is composed already
    codes = np.frombuffer(composed.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return keep_characters(codes, _letters_and_digits())


def as_text(characters: Characters) -> str:
    """Return normalised characters as a string."""
    return characters.astype(np.uint32).tobytes().decode("utf-32-le", "surrogatepass")


@cache
def _letters_and_digits() -> NDArray[np.bool_]:
    """Return a table over all code points: whether each is a letter or a number."""
    return np.fromiter((chr(code).isalnum() for code in range(sys.maxunicode + 1)), dtype=np.bool_)
