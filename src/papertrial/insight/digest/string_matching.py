"""The baseline of grounding: does the paper hold the number's string?"""

from __future__ import annotations

import re
from collections.abc import Iterable

_STRING = re.compile(r"(?<![\w.,])[-−$]?\d[\d,]*(?:\.\d+)?(?:\s?(?:%|x|×|[KMBT]))?(?![\w])")
_AT = re.compile(r"[-−$]?\d[\d,]*(?:\.\d+)?(?:\s?(?:%|x|×|[KMBT])(?!\w))?")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


class StringMatcher:
    """Finds a number by its string: as it is written, or with its spelling normalised.

    Args:
        text: the paper.
        normalised: whether thousands separators, signs, units and trailing zeros after the point are taken
            off on both sides first, so that "1,389" meets "1389" and "87.50 %" meets "87.5".
    """

    def __init__(self, text: str, *, normalised: bool = False) -> None:
        self.normalised = normalised
        self._known = frozenset(self._keys(text))

    def has_number_at(self, text: str, at: int) -> bool:
        """Say whether the paper holds the number that stands at a place of a text."""
        written = _AT.match(text, at)
        keys = list(self._keys(written[0])) if written else []
        return bool(keys) and all(key in self._known for key in keys)

    def _keys(self, text: str) -> Iterable[str]:
        if not self.normalised:
            return [re.sub(r"\s", "", found) for found in _STRING.findall(text)]
        return [_plain(found) for found in _NUMBER.findall(text)]


def _plain(number: str) -> str:
    digits = number.replace(",", "").rstrip(".")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
