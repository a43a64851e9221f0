"""Needles and periodic texts as token ids, for models trained in place.

A fact is one token, a key with a value; its near miss, another token, says something else of the same key.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from papertrial.errors import BadInputError

_IGNORED = -100


@dataclass(frozen=True)
class NeedleVocabulary:
    """How ids are used: facts, near misses, questions, answers, fillers.

    Attributes:
        keys: needles in a context; each is there once, and so is its near miss.
        values: what a key may have.
        fillers: ids that mean nothing.
    """

    keys: int = 8
    values: int = 8
    fillers: int = 24

    @property
    def size(self) -> int:
        """Return the number of ids."""
        return self.first_filler + self.fillers

    @property
    def first_question(self) -> int:
        """Return the id that asks for key 0."""
        return 2 * self.keys * self.values

    @property
    def first_answer(self) -> int:
        """Return the id that answers value 0."""
        return self.first_question + self.keys

    @property
    def first_filler(self) -> int:
        """Return the lowest id that means nothing."""
        return self.first_answer + self.values


@dataclass(frozen=True)
class Labelled:
    """A batch whose labels are -100 where no loss counts.

    Attributes:
        tokens: ids (batch, length).
        labels: (batch, length).
    """

    tokens: Int64[Tensor, "batch length"]
    labels: Int64[Tensor, "batch length"]

    def arguments(self) -> dict[str, Tensor]:
        """Return what a causal language model takes."""
        return {"input_ids": self.tokens, "labels": self.labels}


def needle_batch(
    vocabulary: NeedleVocabulary, rows: int, length: int, questions: int, generator: torch.Generator
) -> Labelled:
    """Make contexts with every key's fact and near miss at random places, then questions with their answers.

    Raises:
        BadInputError: no room for the facts, or more questions than keys.
    """
    body = length - 2 * questions
    if body < 2 * vocabulary.keys or not 1 <= questions <= vocabulary.keys:
        raise BadInputError(
            f"{length} tokens and {questions} questions leave {body} for {2 * vocabulary.keys} facts and near "
            f"misses; ask 1 to {vocabulary.keys} questions in a longer context"
        )
    places = torch.rand(rows, body, generator=generator).argsort(1)[:, : 2 * vocabulary.keys]
    asked = torch.rand(rows, vocabulary.keys, generator=generator).argsort(1)[:, :questions]
    return _needles(vocabulary, body, places, asked, generator)


def needle_at_depth(
    vocabulary: NeedleVocabulary, rows: int, length: int, depth: float, generator: torch.Generator
) -> Labelled:
    """Make contexts that end in one question, whose fact stands at `depth` (0 to 1) of the text before it.

    Raises:
        BadInputError: a depth outside 0 … 1, or no room for the facts.
    """
    body = length - 2
    if not 0.0 <= depth <= 1.0:
        raise BadInputError(f"a depth lies between 0 and 1, got {depth}")
    if body < 2 * vocabulary.keys:
        raise BadInputError(f"{length} tokens have no room for {2 * vocabulary.keys} facts and near misses")
    wanted = round(depth * (body - 1))
    noise = torch.rand(rows, body, generator=generator)
    noise[:, wanted] = 2.0  # last in the order: no other fact stands there
    places = noise.argsort(1)[:, : 2 * vocabulary.keys]
    asked = torch.randint(vocabulary.keys, (rows, 1), generator=generator)
    places.scatter_(1, asked, wanted)
    return _needles(vocabulary, body, places, asked, generator)


def periodic_batch(
    vocabulary: NeedleVocabulary, rows: int, length: int, generator: torch.Generator, longest: int = 8
) -> Labelled:
    """Make texts of fillers that repeat with a period of 2 to `longest`; the first period is not counted.

    Raises:
        BadInputError: a text no longer than `longest`.
    """
    if length <= longest:
        raise BadInputError(f"a periodic text needs more than {longest} tokens, got {length}")
    periods = torch.randint(2, longest + 1, (rows, 1), generator=generator)
    pattern = torch.randint(vocabulary.first_filler, vocabulary.size, (rows, longest), generator=generator)
    tokens = pattern.gather(1, torch.arange(length).expand(rows, -1) % periods)
    labels = tokens.clone()
    labels[:, :longest] = _IGNORED
    return Labelled(tokens, labels)


def answer_accuracy(logits: Float[Tensor, "batch length vocabulary"], batch: Labelled) -> float:
    """Return the share of counted positions that the logits get right."""
    counted = batch.labels[:, 1:] != _IGNORED
    right = logits[:, :-1].argmax(-1) == batch.labels[:, 1:]
    return float(right[counted].double().mean())


def _needles(
    vocabulary: NeedleVocabulary, body: int, places: Tensor, asked: Tensor, generator: torch.Generator
) -> Labelled:
    rows, facts = places.shape
    values = torch.randint(vocabulary.values, (rows, facts), generator=generator)
    context = torch.randint(vocabulary.first_filler, vocabulary.size, (rows, body), generator=generator)
    context.scatter_(1, places, torch.arange(facts) * vocabulary.values + values)
    answers = vocabulary.first_answer + values.gather(1, asked)
    tail = torch.stack([vocabulary.first_question + asked, answers], -1).flatten(1)
    tokens = torch.cat([context, tail], 1)
    labels = torch.full_like(tokens, _IGNORED)
    labels[:, body + 1 :: 2] = tokens[:, body + 1 :: 2]
    return Labelled(tokens, labels)
