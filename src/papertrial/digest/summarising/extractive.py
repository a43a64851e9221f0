"""A summary of the paper's own sentences: no model, no network, and every number is the paper's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from papertrial.digest.collecting.paper_text import Kind, PaperText
from papertrial.digest.grounding.numbers import extract_numbers
from papertrial.digest.records import ROLES
from papertrial.digest.sentences import split_sentences
from papertrial.digest.summarising.roles import Placed, role_scores
from papertrial.digest.summarising.textrank import Similarity, rank_sentences
from papertrial.errors import BadInputError

NAME = "extractive"
_READ: tuple[Kind, ...] = ("abstract", "introduction", "method", "results", "conclusion")
_MOST_SENTENCES = 400  # the first of each section: similarities grow with the square
_FEWEST_WORDS, _MOST_WORDS = 5, 70
_RANK_WEIGHT = 2.0
_NUMBER_BONUS, _MOST_NUMBERS = 0.5, 3
_SCARCE = (
    "headline",
    "results",
    "method",
    "objective",
    "implication",
)  # what a short text is for, first to last
_REFUSED = re.compile(r"(\[\d+\].*){4}|^(figure|fig\.|table|algorithm|proof|lemma)\b", re.IGNORECASE)


def extract_summary(
    text: PaperText, *, length: int = 5, similarity: Similarity = "tfidf", lang: str = "en"
) -> dict[str, tuple[str, ...]]:
    """Return sentences of the paper, verbatim, by role (`records.ROLES`), in the order of the roles.

    Every role gets one sentence where the text has enough; a text of fewer sentences than roles fills the
    headline first, then results, method, objective, implication. A sentence serves one role. The best
    assignment over all sentences is taken, by cue phrases, section, place, TextRank, and, for results, the
    numbers it holds. What `length` allows beyond five goes to the sentences that fit their role best.

    Args:
        text: the paper's text.
        length: sentences in all.
        similarity: what TextRank goes by.
        lang: the language of the paper.

    Raises:
        BadInputError: `length` below 1.
    """
    if length < 1:
        raise BadInputError(f"length must be at least 1 sentence, got {length}")
    sentences = list(_candidates(text))
    if not sentences:
        return {}
    scores = _scores(sentences, similarity, lang)
    chosen = _assign(scores, _roles(min(length, len(sentences))))
    chosen |= _more(scores, chosen, length - len(chosen))
    by_role = {role: sorted(number for number, its in chosen.items() if its == role) for role in ROLES}
    return {
        role: tuple(sentences[number].text for number in numbers)
        for role, numbers in by_role.items()
        if numbers
    }


def _candidates(text: PaperText) -> Iterator[Placed]:
    """Yield the sentences that may stand alone: prose of the body, neither too short nor too long."""
    sections = text.of_kind(*_READ)
    if not sections:
        sections = text.of_kind("other", "related")
    quota = max(_MOST_SENTENCES // max(len(sections), 1), 20)
    seen: set[str] = set()
    order = 0
    for section in sections:
        found = [one.text for paragraph in section.paragraphs for one in split_sentences(paragraph)][:quota]
        for number, sentence in enumerate(found):
            if sentence in seen or not _stands_alone(sentence, is_abstract=section.kind == "abstract"):
                continue
            seen.add(sentence)
            order += 1
            yield Placed(sentence, section.kind, number / max(len(found) - 1, 1), order)


def _stands_alone(sentence: str, *, is_abstract: bool) -> bool:
    words = len(sentence.split())
    letters = sum(one.isalpha() or one.isspace() for one in sentence)
    if is_abstract:
        return letters > 0  # an abstract is written to be quoted
    return (
        _FEWEST_WORDS <= words <= _MOST_WORDS
        and letters >= 0.7 * len(sentence)
        and sentence.rstrip()[-1:] in ".!?。"
        and _REFUSED.search(sentence) is None
    )


def _scores(sentences: Sequence[Placed], similarity: Similarity, lang: str) -> np.ndarray:
    """Return how well each sentence serves each role: (sentences, roles)."""
    ranks = rank_sentences([one.text for one in sentences], similarity=similarity, lang=lang)
    ranks = ranks / max(float(ranks.max()), 1e-12)
    scores = np.array([[role_scores(one)[role] for role in ROLES] for one in sentences])
    scores += _RANK_WEIGHT * ranks[:, None]
    numbers = [min(len(extract_numbers(one.text, lang=lang)), _MOST_NUMBERS) for one in sentences]
    scores[:, ROLES.index("results")] += _NUMBER_BONUS * np.array(numbers)
    return scores


def _roles(count: int) -> tuple[str, ...]:
    """Return the roles that so many sentences can fill, in the order of the summary."""
    filled = _SCARCE[:count]
    return tuple(role for role in ROLES if role in filled)


def _assign(scores: np.ndarray, roles: Sequence[str]) -> dict[int, str]:
    """Return for each role the sentence that serves it, so that the sum of scores is greatest."""
    from scipy.optimize import linear_sum_assignment

    columns = [ROLES.index(role) for role in roles]
    rows, taken = linear_sum_assignment(scores[:, columns], maximize=True)
    return {int(row): roles[int(column)] for row, column in zip(rows, taken, strict=True)}


def _more(scores: np.ndarray, chosen: dict[int, str], count: int) -> dict[int, str]:
    """Return further sentences, each with the role it serves best, the best first."""
    rest = sorted(set(range(len(scores))) - set(chosen), key=lambda number: -scores[number].max())
    return {number: ROLES[int(scores[number].argmax())] for number in rest[: max(count, 0)]}
