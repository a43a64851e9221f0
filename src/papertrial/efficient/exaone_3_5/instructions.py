"""Instruction data from documents: knowledge, its place in a taxonomy, an instruction, and evolved ones.

Source: arXiv 2412.04862, figure 1 and section 2.3.1; evolving: arXiv 2304.12244. The report's extractor and
generator are language models: here each step takes any function, and templates serve where none is given.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from papertrial.errors import BadInputError

_SENTENCE = re.compile(r"(?<=[.!?。])\s+")


@dataclass(frozen=True)
class Knowledge:
    """One piece of core knowledge.

    Attributes:
        text: a sentence or a passage.
        source: number of the document it is from.
        field: its place in the taxonomy.
    """

    text: str
    source: int
    field: str


@dataclass(frozen=True)
class Instruction:
    """One example of instruction data.

    Attributes:
        prompt: what is asked.
        knowledge: what it rests on.
        depth: how many times it was evolved: its difficulty.
        moves: which ways of evolving were taken, in order.
    """

    prompt: str
    knowledge: Knowledge
    depth: int
    moves: tuple[str, ...]


Extractor = Callable[[str], Sequence[str]]
"""Gives the core knowledge in a document."""
Classifier = Callable[[str, Sequence[str]], str]
"""Gives the field of a piece of knowledge, one of those offered."""
Generator = Callable[[Knowledge], str]
"""Gives an instruction that rests on a piece of knowledge."""
Evolver = Callable[[str, str], str]
"""Gives a harder or broader form of an instruction, by the move named."""

TAXONOMY: Mapping[str, tuple[str, ...]] = {
    "science": ("energy", "cell", "planet", "theory", "experiment", "chemical", "과학", "세포", "에너지"),
    "society": ("law", "government", "market", "history", "company", "사회", "역사", "정부", "경제"),
    "computing": ("python", "function", "class", "object", "string", "program", "컴퓨터", "함수", "코드"),
    "other": (),
}
"""Fields with the words that speak for them; the last takes what no word speaks for."""
MOVES = ("constrain", "deepen", "concretise", "reason", "broaden")
"""Ways of evolving: four that deepen, one that broadens."""

_QUESTIONS = (
    "Explain in your own words: {text}",
    "What follows from this statement, and why? {text}",
    "Write a question whose answer is the following, and answer it: {text}",
)
_EVOLVED = {
    "constrain": "{prompt}\nUse at most {number} sentences.",
    "deepen": "{prompt}\nName {number} assumptions that your answer rests on.",
    "concretise": "{prompt}\nGive an example with concrete figures.",
    "reason": "{prompt}\nReason step by step, in at least {number} steps, before you conclude.",
    "broaden": "Take a topic close to this one, but rarer, and answer the same request about it: {prompt}",
}


def build_instructions(
    documents: Iterable[str],
    *,
    depth: int = 2,
    seed: int = 0,
    taxonomy: Mapping[str, Sequence[str]] = TAXONOMY,
    extract: Extractor | None = None,
    classify: Classifier | None = None,
    generate: Generator | None = None,
    evolve: Evolver | None = None,
) -> list[Instruction]:
    """Go from documents to instructions of every difficulty from 0 to `depth`.

    Equal pieces of knowledge count once. An evolved instruction that is empty, or that is what it was before,
    failed, and its line ends there.

    Args:
        documents: web pages, say.
        depth: how many times each instruction is evolved.
        seed: of templates and moves.
        taxonomy: fields with the words that speak for them, for the built-in classifier.
        extract: in place of sentences of 40 to 400 characters.
        classify: in place of counting the taxonomy's words.
        generate: in place of templates.
        evolve: in place of templates.

    Raises:
        BadInputError: a negative depth, an empty taxonomy, or a field that is not in it.
    """
    if depth < 0:
        raise BadInputError(f"depth must be 0 or above, got {depth}")
    if not taxonomy:
        raise BadInputError("the taxonomy has no field")
    draw = random.Random(seed)
    by_words: Classifier = lambda text, fields: _field_by_words(text, taxonomy)  # noqa: E731
    by_template: Generator = lambda knowledge: draw.choice(_QUESTIONS).format(text=knowledge.text)  # noqa: E731
    made: list[Instruction] = []
    for knowledge in _core_knowledge(documents, extract or sentences, classify or by_words, tuple(taxonomy)):
        one = Instruction((generate or by_template)(knowledge), knowledge, 0, ())
        made.append(one)
        for _ in range(depth):
            move = draw.choice(MOVES)
            prompt = evolve(one.prompt, move) if evolve else _evolve_by_template(one.prompt, move, draw)
            if not prompt.strip() or prompt == one.prompt:
                break
            one = Instruction(prompt, knowledge, one.depth + 1, (*one.moves, move))
            made.append(one)
    return made


def sentences(document: str) -> list[str]:
    """Return the sentences of 40 to 400 characters of a document: the plainest extractor."""
    parts = (" ".join(part.split()) for part in _SENTENCE.split(document))
    return [part for part in parts if 40 <= len(part) <= 400]


def _core_knowledge(
    documents: Iterable[str], extract: Extractor, classify: Classifier, fields: tuple[str, ...]
) -> Iterable[Knowledge]:
    seen: set[str] = set()
    for number, document in enumerate(documents):
        for text in extract(document):
            if text in seen:
                continue
            seen.add(text)
            field = classify(text, fields)
            if field not in fields:
                raise BadInputError(
                    f"the classifier gave {field!r}, which is no field; known: {', '.join(fields)}"
                )
            yield Knowledge(text, number, field)


def _field_by_words(text: str, taxonomy: Mapping[str, Sequence[str]]) -> str:
    lowered = text.lower()
    counts = {field: sum(word in lowered for word in words) for field, words in taxonomy.items()}
    best = max(counts, key=lambda field: counts[field])
    return best if counts[best] else list(taxonomy)[-1]


def _evolve_by_template(prompt: str, move: str, draw: random.Random) -> str:
    return _EVOLVED[move].format(prompt=prompt, number=draw.randint(2, 5))
