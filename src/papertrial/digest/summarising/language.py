"""Whether a text is in the language that was asked for, by its script."""

from __future__ import annotations

import re
from collections.abc import Mapping

from papertrial.errors import unknown

LANGUAGES: Mapping[str, str] = {
    "en": "English",
    "ko": "Korean",
    "ja": "Japanese",
    "zh": "Chinese",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "pt": "Portuguese",
    "it": "Italian",
    "ru": "Russian",
    "vi": "Vietnamese",
}
"""The languages a model may be asked for."""

_SCRIPTS = {
    "ko": re.compile("[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]"),
    "ja": re.compile("[\u3040-\u30ff\u4e00-\u9fff]"),
    "zh": re.compile("[\u4e00-\u9fff]"),
    "ru": re.compile("[\u0400-\u04ff]"),
}
_KANA = re.compile("[\u3040-\u30ff]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_ENOUGH = 0.2  # of the letters: technical terms stay English, so a right text is far from all in its script
_FOREIGN = 0.2


def language_name(lang: str) -> str:
    """Return the English name of a language.

    Raises:
        BadInputError: it is not one of `LANGUAGES`.
    """
    if lang not in LANGUAGES:
        raise unknown("language", lang, LANGUAGES)
    return LANGUAGES[lang]


def language_problem(text: str, lang: str) -> str | None:
    """Return what shows that a text is in another language than `lang`, or None where nothing does.

    Goes by script: Korean, Japanese, Chinese and Russian are told from the rest and from each other;
    languages in Latin letters are not told from one another.

    Raises:
        BadInputError: an unknown language.
    """
    wanted = language_name(lang)
    counts = {name: len(script.findall(text)) for name, script in _SCRIPTS.items()}
    latin = len(_LATIN.findall(text))
    letters = latin + counts["ko"] + counts["ja"] + counts["ru"]  # Japanese's script includes Chinese's
    if letters == 0:
        return None
    if lang in _SCRIPTS:
        share = counts[lang] / letters
        if share < _ENOUGH:
            return f"only {share:.0%} of its letters are {wanted}"
        if lang == "zh" and _KANA.search(text):
            return "it is Japanese, not Chinese"
        return None
    foreign = (letters - latin) / letters
    return (
        f"{foreign:.0%} of its letters are not Latin, so it is not {wanted}" if foreign > _FOREIGN else None
    )
