"""Which sentences of a text matter: TextRank, by power iteration."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from papertrial.digest.sentences import content_terms
from papertrial.errors import BadInputError, unknown

Similarity = Literal["tfidf", "overlap"]
DAMPING = 0.85
TOLERANCE = 1e-4
_MOST_STEPS = 1000
_NO_DIVISION_BY_ZERO = 1e-7  # sumy adds it to every row's sum, and its ranking must come out here too
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['-])*")

Matrix = NDArray[np.float64]


def rank_sentences(sentences: Sequence[str], *, similarity: Similarity = "tfidf", lang: str = "en") -> Matrix:
    """Return a score for every sentence; the scores add up to about one.

    Args:
        sentences: the text's sentences, in order.
        similarity: "tfidf": the cosine of their content words weighted by rarity. "overlap": the TextRank
            paper's count of common words over the sum of the logarithms of the lengths, as sumy has it.
        lang: the sentences' language, for the content words.

    Raises:
        BadInputError: an unknown similarity.

    Source: Mihalcea and Tarau, TextRank: Bringing Order into Texts (EMNLP 2004)
    """
    if similarity not in ("tfidf", "overlap"):
        raise unknown("similarity", similarity, ("tfidf", "overlap"))
    if not sentences:
        return np.zeros(0)
    if similarity == "overlap":
        return power_iteration(overlap_edges([words_of(sentence) for sentence in sentences]))
    edges = tfidf_edges([sorted(content_terms(sentence, lang)) for sentence in sentences])
    edges[~edges.any(axis=1)] = 1.0  # from a sentence without any edge the walk goes on anywhere
    return power_iteration(edges)


def overlap_edges(sentences: Sequence[Sequence[str]]) -> Matrix:
    """Return the overlap of every two sentences, given as words: a symmetric (n, n) matrix.

    The edge of A and B is the number of B's words that each of A's words finds, over ln|A| + ln|B|. A
    sentence's edge to itself is included. Two one-word sentences have the edge 1 or 0.
    """
    counts = [Counter(words) for words in sentences]
    edges = np.zeros((len(sentences), len(sentences)))
    for i, first in enumerate(counts):
        for j in range(i, len(counts)):
            common = sum(count * counts[j][word] for word, count in first.items())
            if common:
                norm = math.log(len(sentences[i])) + math.log(len(sentences[j]))
                edges[i, j] = edges[j, i] = common / norm if norm > 1e-8 else float(common)
    return edges


def tfidf_edges(sentences: Sequence[Sequence[str]]) -> Matrix:
    """Return the cosine of every two sentences' TF-IDF vectors, given as terms: a symmetric (n, n) matrix.

    The weight of a term is its count in the sentence times ln((1 + n) / (1 + sentences with it)) + 1. A
    sentence has no edge to itself; one without terms has none at all.
    """
    counts = [Counter(terms) for terms in sentences]
    spread = Counter(term for count in counts for term in count)
    columns = {term: number for number, term in enumerate(sorted(spread))}
    weights = np.zeros((len(sentences), max(len(columns), 1)))
    for row, count in enumerate(counts):
        for term, times in count.items():
            rarity = math.log((1 + len(sentences)) / (1 + spread[term])) + 1
            weights[row, columns[term]] = times * rarity
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    weights /= np.where(lengths > 0, lengths, 1.0)
    edges: Matrix = weights @ weights.T
    np.fill_diagonal(edges, 0.0)
    return edges


def power_iteration(edges: Matrix, damping: float = DAMPING, tolerance: float = TOLERANCE) -> Matrix:
    """Return the stationary scores of a walk along the edges.

    The walk follows an edge with probability `damping`, and jumps to any of the n sentences otherwise. It
    starts even, and ends when a step changes the scores by less than `tolerance` (L2).

    Args:
        edges: (n, n), not negative.
        damping: between 0 and 1.
        tolerance: above 0.

    Raises:
        BadInputError: edges that are not square or negative, or a damping or tolerance out of range.
    """
    if edges.ndim != 2 or edges.shape[0] != edges.shape[1] or bool((edges < 0).any()):
        raise BadInputError(f"edges must be a square matrix without negative entries, got {edges.shape}")
    if not 0 <= damping < 1 or tolerance <= 0:
        raise BadInputError(f"damping must be in [0, 1) and tolerance above 0, got {damping} and {tolerance}")
    count = len(edges)
    steps: Any = edges / (edges.sum(axis=1, keepdims=True) + _NO_DIVISION_BY_ZERO)
    walk = ((1.0 - damping) / count + damping * steps).T
    scores = np.full(count, 1.0 / count)
    for _ in range(_MOST_STEPS):
        following = walk @ scores
        change = float(np.linalg.norm(following - scores))
        scores = following
        if change <= tolerance:
            break
    return scores


def words_of(sentence: str) -> list[str]:
    """Return a sentence's words in lower case: letters, with inner apostrophes and hyphens."""
    return [word.lower() for word in _WORD.findall(sentence)]
