"""Long-context tasks as token ids, for models trained in place: recall, tracking, common values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from papertrial.errors import BadInputError


@dataclass(frozen=True)
class TokenVocabulary:
    """How ids are used: one for each (key, value) pair, one to ask for each key, one an answer, fillers.

    A pair is one token, so recall takes one look-up, which a two-layer model learns within seconds; pairs of
    two tokens would need a previous-token head first.
    """

    keys: int = 24
    values: int = 8
    fillers: int = 32

    @property
    def size(self) -> int:
        """Return the number of ids."""
        return self.first_filler + self.fillers

    def pair(self, key: Tensor, value: Tensor) -> Tensor:
        """Return the id that says "`key` has `value`"."""
        return key * self.values + value

    def question(self, key: Tensor) -> Tensor:
        """Return the id that asks for the value of `key`."""
        return self.keys * self.values + key

    def answer(self, value: Tensor) -> Tensor:
        """Return the id that answers `value`."""
        return self.keys * self.values + self.keys + value

    @property
    def first_filler(self) -> int:
        """Return the lowest id that means nothing."""
        return self.keys * self.values + self.keys + self.values


@dataclass(frozen=True)
class TokenTasks:
    """A batch of one kind of task.

    Attributes:
        context: (batch, tokens) what is to be remembered.
        questions: (batch, questions) one token for each question, asked one after the other.
        answers: (batch, questions) the id that answers each.
    """

    context: Int[Tensor, "batch tokens"]
    questions: Int[Tensor, "batch questions"]
    answers: Int[Tensor, "batch questions"]


def recall(
    vocabulary: TokenVocabulary,
    batch: int,
    tokens: int,
    questions: int,
    generator: torch.Generator,
    phrase: int = 1,
) -> TokenTasks:
    """Make contexts of fillers in which every key stands once, at a random place, with a random value.

    `phrase` is how many tokens in a row say it: text says a fact in several tokens, 1 is the bare needle.
    Places are multiples of `phrase`, so phrases never overlap.

    Raises:
        BadInputError: fewer tokens than the phrases need.
    """
    _check(vocabulary, tokens, vocabulary.keys * phrase)
    keys = torch.arange(vocabulary.keys).expand(batch, -1)
    values = torch.randint(vocabulary.values, (batch, vocabulary.keys), generator=generator)
    context = _fillers(vocabulary, batch, tokens, generator)
    places = phrase * _places(batch, tokens // phrase, vocabulary.keys, generator)
    for offset in range(phrase):
        context.scatter_(1, places + offset, vocabulary.pair(keys, values))
    asked = torch.randint(vocabulary.keys, (batch, questions), generator=generator)
    return TokenTasks(context, vocabulary.question(asked), vocabulary.answer(values.gather(1, asked)))


def tracking(
    vocabulary: TokenVocabulary, batch: int, tokens: int, hops: int, generator: torch.Generator
) -> TokenTasks:
    """Make one chain of assignments for each context: k0 gets value v, k1 gets k0, …, in text order.

    A pair whose value is the number of a key assigns that key, so `keys` <= `values` must hold. The last key
    of the chain is asked for, and the answer is v, which lies above all keys' numbers.

    Raises:
        BadInputError: too few values or tokens for the chain.
    """
    _check(vocabulary, tokens, hops + 1)
    if not 1 <= hops < vocabulary.keys < vocabulary.values:
        raise BadInputError(
            f"tracking needs 1 <= hops < keys < values, got hops={hops}, keys={vocabulary.keys}, "
            f"values={vocabulary.values}"
        )
    chain = torch.rand(batch, vocabulary.keys, generator=generator).argsort(1)[:, : hops + 1]
    first = torch.randint(vocabulary.keys, vocabulary.values, (batch, 1), generator=generator)
    assigned = torch.cat([first, chain[:, :-1]], dim=1)
    context = _fillers(vocabulary, batch, tokens, generator)
    places = _places(batch, tokens, hops + 1, generator).sort(1).values
    context.scatter_(1, places, vocabulary.pair(chain, assigned))
    return TokenTasks(context, vocabulary.question(chain[:, -1:]), vocabulary.answer(first))


def common(vocabulary: TokenVocabulary, batch: int, tokens: int, generator: torch.Generator) -> TokenTasks:
    """Make contexts of pairs of one key in which one value stands more often than any other; it is asked for.

    The winner has half the tokens and one more, so its place in the text tells nothing.

    Raises:
        BadInputError: fewer than three tokens.
    """
    _check(vocabulary, tokens, 3)
    winner = torch.randint(vocabulary.values, (batch, 1), generator=generator)
    others = torch.randint(vocabulary.values, (batch, tokens), generator=generator)
    values = others.scatter(
        1, _places(batch, tokens, tokens // 2 + 1, generator), winner.expand(batch, tokens)
    )
    key = torch.randint(vocabulary.keys, (batch, 1), generator=generator)
    return TokenTasks(vocabulary.pair(key, values), vocabulary.question(key), vocabulary.answer(winner))


def _check(vocabulary: TokenVocabulary, tokens: int, needed: int) -> None:
    if tokens < needed:
        raise BadInputError(
            f"a context of {tokens} tokens has no room for {needed} of {vocabulary.keys} keys"
        )


def _fillers(vocabulary: TokenVocabulary, batch: int, tokens: int, generator: torch.Generator) -> Tensor:
    return torch.randint(vocabulary.first_filler, vocabulary.size, (batch, tokens), generator=generator)


def _places(batch: int, tokens: int, number: int, generator: torch.Generator) -> Tensor:
    return torch.rand(batch, tokens, generator=generator).argsort(1)[:, :number]
