"""What a sentence of a paper is for: its objective, its method, its results, what follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from papertrial.digest.collecting.paper_text import Kind
from papertrial.digest.records import ROLES

_CUES: Mapping[str, tuple[tuple[float, str], ...]] = {
    "headline": (
        (2.0, r"\b(this (paper|work|report|study|article)|in this (paper|work|report|study))\b"),
        (2.0, r"\bwe (introduce|present|propose|describe|release|develop|build|offer)\b"),
        (1.0, r"\b(novel|new|first)\b"),
        (1.5, r"(본|이) (논문|연구)|(제안|소개)(한다|합니다|했다)"),
    ),
    "objective": (
        (2.0, r"\b(aims?|goal|objective|purpose|seeks?|in order to|motivat\w+)\b"),
        (2.0, r"\b(we (ask|investigate|study|examine|explore)|whether|research questions?)\b"),
        (
            1.5,
            r"\b(however|challeng\w+|limitation|bottleneck|remains?|suffer\w*|problem|difficult\w*|lack\w*)\b",
        ),
        (1.0, r"\b(existing|previous|prior|current) (methods?|approaches|works?|models?|systems?)\b"),
        (1.5, r"목표|목적|하지만|그러나|문제|한계"),
    ),
    "method": (
        (
            1.5,
            r"\bwe (use|train|apply|design|combine|employ|adopt|replace|fine-?tune|formulate|construct|extend)\b",
        ),
        (
            1.5,
            r"\b(consists? of|is based on|based on|by (using|replacing|combining|training|applying)|leverag\w+)\b",
        ),
        (
            1.0,
            r"\b(architecture|algorithm|framework|pipeline|module|objective function|loss|stages?|encoder)\b",
        ),
        (0.5, r"\b(specifically|first|then|finally|during training|at inference)\b"),
        (1.5, r"방법|기법|구조|활용(한다|합니다)|사용(한다|합니다)"),
    ),
    "results": (
        (
            2.0,
            r"\b(achiev\w+|outperform\w*|surpass\w*|improv\w+|reduc\w+|exceed\w*|reach\w*|attain\w*|match\w*)\b",
        ),
        (
            1.5,
            r"\b(results?|experiments?|evaluations?|empirical\w*) (\w+ ){0,3}(show|demonstrate|indicate|reveal)\w*",
        ),
        (
            1.0,
            r"\b(accuracy|score|perplexity|speed-?up|faster|state-of-the-art|sota|compared (to|with)|baseline)\b",
        ),
        (1.5, r"\b\d+(\.\d+)?\s?(%|×|x\b|points?\b|times\b)"),
        (1.5, r"달성|향상|능가|성능|결과"),
    ),
    "implication": (
        (
            2.0,
            r"\b(suggest\w*|impl(y|ies|ication\w*)|enabl\w+|pave\w*|facilitat\w+|practical\w*|practitioners?)\b",
        ),
        (
            1.5,
            r"\b(future (work|research)|open-?sourc\w+|publicly available|code (is|and)|we release|available at)\b",
        ),
        (
            1.0,
            r"\b(conclu\w+|overall|potential\w*|promising|makes? it possible|broadly|in practice|allows?)\b",
        ),
        (1.5, r"시사|가능(하게|성)|공개|향후"),
    ),
}
_COMPILED = {
    role: tuple((weight, re.compile(pattern, re.IGNORECASE)) for weight, pattern in cues)
    for role, cues in _CUES.items()
}
_HOME: Mapping[str, Mapping[Kind, float]] = {
    "headline": {"abstract": 1.5, "introduction": 0.5, "conclusion": 0.5},
    "objective": {"abstract": 1.0, "introduction": 1.0},
    "method": {"abstract": 1.0, "method": 1.0, "introduction": 0.25},
    "results": {"abstract": 1.5, "results": 1.0, "conclusion": 0.5},
    "implication": {"abstract": 0.75, "conclusion": 1.5, "introduction": 0.25},
}
# Where in an abstract a role usually stands, from 0 (its first sentence) to 1 (its last).
_PLACE: Mapping[str, float] = {
    "headline": 0.25,
    "objective": 0.1,
    "method": 0.45,
    "results": 0.8,
    "implication": 1.0,
}
_MOST_CUES = 4.0  # what cues may add: a sentence that names everything is not the best at everything
_FIRST_PERSON = re.compile(r"^(in this (paper|work)|this (paper|work)|we)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Placed:
    """A sentence and where it stands.

    Attributes:
        text: verbatim.
        kind: of its section.
        place: from 0 (the section's first sentence) to 1 (its last).
        order: its number in the paper.
    """

    text: str
    kind: Kind
    place: float
    order: int


def role_scores(sentence: Placed) -> dict[str, float]:
    """Return how well a sentence serves each role: cue phrases, its section, its place in the abstract."""
    scores = {}
    for role in ROLES:
        cues = sum(weight for weight, pattern in _COMPILED[role] if pattern.search(sentence.text))
        home = _HOME[role].get(sentence.kind, 0.0)
        placed = 1.0 - abs(sentence.place - _PLACE[role]) if sentence.kind == "abstract" else 0.0
        scores[role] = min(cues, _MOST_CUES) + home + placed
    if _FIRST_PERSON.search(sentence.text):
        scores["headline"] += 0.5
    return scores
