"""Log-likelihood of a continuation after a context: what multiple choice and rolling likelihood stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from papertrial.efficient.evaluation.forward import check_at_least, evaluating, next_token_logits
from papertrial.errors import BadInputError

Ids = Sequence[int]


@dataclass(frozen=True)
class Continuation:
    """What a model thinks of one continuation.

    Attributes:
        log_likelihood: sum over its tokens, in nats.
        greedy: whether each of its tokens is the model's first choice.
        tokens: how many they are.
    """

    log_likelihood: float
    greedy: bool
    tokens: int


def continuation_likelihoods(
    model: nn.Module, pairs: Sequence[tuple[Ids, Ids]], *, length: int | None = None, batch_size: int = 8
) -> list[Continuation]:
    """Return what the model thinks of each continuation after its context, in the given order.

    Continuations that differ in their last token only share one forward pass. What is longer than `length`
    loses tokens from the left, as in lm-eval.

    Args:
        model: gives `.logits`.
        pairs: token ids of (context, continuation), neither empty.
        length: tokens the model may see at once; the configuration's `max_position_embeddings` if not given.
        batch_size: sequences in one forward pass.

    Raises:
        BadInputError: an empty context or continuation, or a continuation longer than `length`.
    """
    length = length or longest_input(model)
    check_at_least(1, length=length, batch_size=batch_size)
    for number, (context, continuation) in enumerate(pairs):
        if not context or not 1 <= len(continuation) <= length:
            raise BadInputError(
                f"pair {number} has {len(context)} tokens of context and {len(continuation)} of continuation; "
                f"at least one of each and at most {length} of continuation are needed"
            )
    users: dict[tuple[int, ...], list[int]] = {}  # which pairs each distinct input serves
    for number, (context, continuation) in enumerate(pairs):
        seen = (*context, *continuation)[-(length + 1) : -1]
        users.setdefault(seen, []).append(number)
    inputs = sorted(users, key=len, reverse=True)  # equal lengths together: little padding
    results: list[Continuation | None] = [None] * len(pairs)
    with evaluating(model):
        for first in range(0, len(inputs), batch_size):
            group = inputs[first : first + batch_size]
            batch = torch.nn.utils.rnn.pad_sequence([torch.tensor(one) for one in group], batch_first=True)
            logits = next_token_logits(model, batch)
            for row, seen in enumerate(group):
                for number in users[seen]:
                    results[number] = _score(logits[row, : len(seen)], pairs[number][1])
    return [result for result in results if result is not None]


def longest_input(model: nn.Module) -> int:
    """Return how many tokens the model's configuration allows at once.

    Raises:
        BadInputError: the configuration does not say.
    """
    config = getattr(model, "config", None)
    for name in ("max_position_embeddings", "n_positions"):
        found = getattr(config, name, None)
        if isinstance(found, int):
            return found
    raise BadInputError(f"{type(model).__name__}'s configuration names no greatest length; give `length`")


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """Return the token ids of a context and of its continuation, cut where lm-eval cuts.

    Trailing white space of the context goes to the continuation; both are encoded together, and what follows
    the context's own length is the continuation. An empty context is the beginning-of-text token.

    Raises:
        BadInputError: an empty continuation, or an empty context and a tokenizer without a token that could
            begin a text.
    """
    bare = context.rstrip()
    continuation = context[len(bare) :] + continuation
    if not continuation:
        raise BadInputError("a continuation must not be empty")
    if not bare:
        prefix, ids = prefix_token(tokenizer), encode(tokenizer, continuation)
        # lm-eval's rule: a continuation that brings the prefix itself is not given a second one
        return (ids[:1], ids[1:]) if ids[:1] == [prefix] else ([prefix], ids)
    whole = encode(tokenizer, bare + continuation, specials=True)
    begin = encode(tokenizer, bare, specials=True)
    return begin, whole[len(begin) :]


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, specials: bool = False) -> list[int]:
    """Return the token ids of one text; `specials` lets the tokenizer add its own (a beginning of text)."""
    ids = tokenizer(text, add_special_tokens=specials, return_attention_mask=False, verbose=False)[
        "input_ids"
    ]
    return [int(one) for one in ids]


def prefix_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id from which a text's first token is predicted: beginning of text, else end of text.

    Raises:
        BadInputError: the tokenizer has neither.
    """
    for found in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(found, int):
            return found
    raise BadInputError(
        f"the tokenizer {type(tokenizer).__name__} has neither bos_token nor eos_token; set one, "
        "so that a text's first token is predicted from something"
    )


def _score(logits: Tensor, continuation: Ids) -> Continuation:
    """Score a continuation whose last token is predicted by the last row of `logits` (length, vocabulary)."""
    targets = torch.tensor(continuation, device=logits.device)
    rows = logits[-len(continuation) :]
    chosen = rows.log_softmax(-1).gather(-1, targets[:, None])
    greedy = bool((rows.argmax(-1) == targets).all())
    return Continuation(float(chosen.sum()), greedy, len(continuation))
