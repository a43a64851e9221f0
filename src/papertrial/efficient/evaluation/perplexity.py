"""Perplexity of a token stream: in separate chunks, or through a sliding window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional

from papertrial.efficient.evaluation.forward import check_at_least, device_of, evaluating, next_token_logits
from papertrial.errors import BadInputError
from papertrial.objective import evaluate_loss


@dataclass(frozen=True)
class Perplexity:
    """How well a model predicts a stream of tokens.

    Attributes:
        nats_per_token: mean negative log-likelihood.
        tokens: how many tokens were predicted.
    """

    nats_per_token: float
    tokens: int

    @property
    def value(self) -> float:
        """The perplexity, exp(nats per token); infinite where that overflows."""
        try:
            return math.exp(self.nats_per_token)
        except OverflowError:
            return math.inf


def perplexity(
    model: nn.Module,
    tokens: Int64[Tensor, " tokens"],
    *,
    length: int,
    stride: int | None = None,
    batch_size: int = 8,
) -> Perplexity:
    """Measure the perplexity of `tokens` under a causal language model.

    Without `stride`, the stream is cut into chunks of `length`; the remainder is dropped, and the first token
    of each chunk is not predicted: the rule of the quantisation papers' WikiText-2 and C4 figures. With
    `stride`, a window of `length` moves by `stride`, and each window scores only the tokens that the last one
    did not reach: every token but the first is predicted once, with at least `length - stride` before it.

    transformers' documentation describes the second rule, but weights a window's mean by one token too few
    (after the first window, no scored token is lost to the shift); here every token weighs the same.

    Args:
        model: gives `.logits`.
        tokens: the stream, as the tokenizer gave it; nothing is added.
        length: tokens the model sees at once.
        stride: how far the window moves; None for separate chunks.
        batch_size: windows in one forward pass.

    Raises:
        BadInputError: too few tokens, a length below 2, or a stride outside 1 … length.
    """
    check_at_least(2, length=length)
    check_at_least(1, batch_size=batch_size)
    if stride is None:
        chunks = len(tokens) // length
        if chunks == 0:
            raise BadInputError(f"{len(tokens)} tokens do not fill one chunk of {length}; give more text")
        blocks = tokens[: chunks * length].view(chunks, length)
        return Perplexity(evaluate_loss(model, blocks, batch_size), chunks * (length - 1))
    if not 1 <= stride <= length:
        raise BadInputError(f"stride must be between 1 and length = {length}, got {stride}")
    if len(tokens) < 2:
        raise BadInputError(f"at least 2 tokens are needed, got {len(tokens)}")
    return _sliding(model, tokens, length, stride, batch_size)


def windows(count: int, length: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, first scored token) of each window over `count` tokens.

    A window's first token has nothing before it and is never scored there.
    """
    reached = 0
    for start in range(0, count, stride):
        end = min(start + length, count)
        yield start, end, max(reached, start + 1)
        reached = end
        if end == count:
            return


def _sliding(
    model: nn.Module, tokens: Int64[Tensor, " tokens"], length: int, stride: int, batch_size: int
) -> Perplexity:
    places = list(windows(len(tokens), length, stride))
    nats, count = 0.0, 0
    with evaluating(model):
        for first in range(0, len(places), batch_size):
            group = places[first : first + batch_size]
            rows = [tokens[start:end] for start, end, _ in group]
            batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            logits = next_token_logits(model, batch)
            for row, (start, end, scored) in enumerate(group):
                targets = tokens[scored:end].to(device_of(model))
                seen = logits[row, scored - start - 1 : end - start - 1]
                nats += float(functional.cross_entropy(seen, targets, reduction="sum"))
                count += end - scored
    return Perplexity(nats / count, count)
