"""Made-up facts that a toy model can learn by heart, and four-way questions about them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from papertrial.efficient.evaluation.choices import Question

_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u")
_FACTS_A_DOCUMENT = 12
_CHOICES = 4


@dataclass(frozen=True)
class Fact:
    """Who lives where."""

    person: str
    town: str

    @property
    def sentence(self) -> str:
        """The fact as text."""
        return f"{self.person} lives in {self.town}."


def make_facts(count: int, towns: int, seed: int) -> list[Fact]:
    """Return `count` facts about different people; every town has its share of them."""
    draw = random.Random(seed)
    words = [f"{a}{b}{c}{d}" for a in _ONSETS for b in _VOWELS for c in _ONSETS for d in _VOWELS]
    names = [word.capitalize() for word in draw.sample(words, count + towns)]
    places = names[count:]
    return [Fact(person, places[index % towns]) for index, person in enumerate(names[:count])]


def fact_documents(facts: Sequence[Fact], documents: int, seed: int) -> list[str]:
    """Return documents that state facts in random order, every fact about equally often."""
    draw = random.Random(seed)
    order: list[Fact] = []
    while len(order) < documents * _FACTS_A_DOCUMENT:
        order += draw.sample(list(facts), len(facts))
    runs = (order[start : start + _FACTS_A_DOCUMENT] for start in range(0, len(order), _FACTS_A_DOCUMENT))
    return ["\n".join(fact.sentence for fact in run) for run, _ in zip(runs, range(documents), strict=False)]


def fact_questions(facts: Sequence[Fact], seed: int) -> list[Question]:
    """Return a question for each fact: the right town among three others, in random order."""
    draw = random.Random(seed)
    towns = sorted({fact.town for fact in facts})
    questions = []
    for fact in facts:
        choices = [fact.town, *draw.sample([town for town in towns if town != fact.town], _CHOICES - 1)]
        draw.shuffle(choices)
        questions.append(Question(f"{fact.person} lives in", tuple(choices), choices.index(fact.town)))
    return questions
