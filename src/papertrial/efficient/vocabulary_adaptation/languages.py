"""A made-up pair of languages: one grammar, words of a common stock, other endings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from papertrial.errors import BadInputError

_ONSETS = ("b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "br", "gr", "pl", "st", "tr")
_VOWELS = ("a", "e", "i", "o", "u")
_CODAS = ("", "", "l", "n", "r", "s")
# Endings by word class, in the first language and in the second.
_ENDINGS = (
    (("", ""), ("ness", "ezza")),
    (("tion", "zione"), ("ty", "tà")),
    (("ed", "ato"), ("en", "uto")),
    (("ing", "ando"), ("s", "iamo")),
    (("ly", "mente"), ("ward", "issimo")),
    (("al", "ale"), ("ous", "oso")),
)
_FUNCTION_WORDS = (
    ("the", "il"),
    ("a", "un"),
    ("of", "di"),
    ("and", "e"),
    ("to", "per"),
    ("with", "con"),
    ("in", "in"),
    ("not", "non"),
)
_FUNCTION_CLASS = len(_ENDINGS)


@dataclass(frozen=True)
class LanguagePair:
    """Two languages that share a grammar, some words, and most stems.

    Attributes:
        words: for each word its class, its form in the first language, and its form in the second.
        moves: probability of each word class after each, (classes, classes).
        starts: probability of each class at a sentence's beginning.
    """

    words: tuple[tuple[int, str, str], ...]
    moves: np.ndarray
    starts: np.ndarray

    def documents(self, language: int, count: int, seed: int, sentences: int = 8) -> list[str]:
        """Write `count` documents of about `sentences` sentences in language 0 or 1.

        The same seed gives other documents in the other language. Words of a class follow Zipf's law.
        """
        generator = np.random.default_rng([seed, language])
        classes = len(self.starts)
        forms: list[list[str]] = [[] for _ in range(classes)]
        for kind, *both in self.words:
            forms[kind].append(both[language])
        shares = [_zipf(len(one)) for one in forms]
        steps = np.cumsum(self.moves, axis=1)
        return [
            " ".join(_sentence(generator, forms, shares, self.starts, steps) for _ in range(sentences))
            for _ in range(count)
        ]


def language_pair(seed: int, words: int = 500, kept: float = 0.25) -> LanguagePair:
    """Draw a pair of languages.

    Args:
        seed: another seed, another lexicon and grammar.
        words: content words in the lexicon.
        kept: share of them that are the same in both languages; the others keep their stem and take the
            second language's ending.

    Raises:
        BadInputError: fewer than 20 words, or a share outside 0 … 1.
    """
    if words < 20 or not 0.0 <= kept <= 1.0:
        raise BadInputError(f"at least 20 words and a share kept in 0 … 1 are needed, got {words} and {kept}")
    generator = np.random.default_rng(seed)
    lexicon: list[tuple[int, str, str]] = [(_FUNCTION_CLASS, *pair) for pair in _FUNCTION_WORDS]
    stems: set[str] = set()
    while len(stems) < words:
        stem = "".join(_syllable(generator) for _ in range(int(generator.integers(1, 4))))
        if len(stem) < 3 or stem in stems:
            continue
        kind = len(stems) % len(_ENDINGS)
        first, second = _ENDINGS[kind][int(generator.integers(2))]
        same = generator.random() < kept
        # an Italian-looking vowel where the ending is empty, so that the forms differ
        other = stem + first if same else stem + (second or "o")
        lexicon.append((kind, stem + first, other))
        stems.add(stem)
    classes = len(_ENDINGS) + 1
    moves = generator.dirichlet(np.full(classes, 0.4), size=classes)
    return LanguagePair(tuple(lexicon), moves, generator.dirichlet(np.ones(classes)))


def _syllable(generator: np.random.Generator) -> str:
    return "".join(str(generator.choice(part)) for part in (_ONSETS, _VOWELS, _CODAS))


def _zipf(count: int) -> np.ndarray:
    shares = 1.0 / np.arange(1, count + 1)
    return np.cumsum(shares / shares.sum())


def _sentence(
    generator: np.random.Generator,
    forms: list[list[str]],
    shares: list[np.ndarray],
    starts: np.ndarray,
    steps: np.ndarray,
) -> str:
    length = int(generator.integers(5, 13))
    draws = generator.random((2, length))
    kind = int(np.searchsorted(np.cumsum(starts), draws[0, 0]).clip(max=len(starts) - 1))
    words = []
    for place in range(length):
        if place:
            kind = int(np.searchsorted(steps[kind], draws[0, place]).clip(max=len(starts) - 1))
        chosen = int(np.searchsorted(shares[kind], draws[1, place]).clip(max=len(forms[kind]) - 1))
        words.append(forms[kind][chosen])
    return " ".join(words).capitalize() + "."
