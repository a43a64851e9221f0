"""Likelihood of whole documents, by character: the one unit in which models of two tokenizers compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import nn
from transformers import PreTrainedTokenizerBase

from papertrial.efficient.evaluation.forward import check_at_least
from papertrial.efficient.evaluation.likelihood import (
    continuation_likelihoods,
    encode,
    longest_input,
    prefix_token,
)
from papertrial.errors import BadInputError


def document_log_likelihoods(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    *,
    length: int | None = None,
    batch_size: int = 8,
) -> list[float]:
    """Return the log-likelihood of each document, in nats, every one of its tokens predicted once.

    The first token is predicted from the beginning-of-text token (end of text where there is none). A document
    longer than `length` goes through in windows of `length`, the last of them moved left to be full: lm-eval's
    rolling log-likelihood. Special tokens that the tokenizer would add are left out of the document.

    Args:
        model: gives `.logits`.
        tokenizer: the model's own.
        documents: texts; an empty one has likelihood 1.
        length: tokens the model sees at once; its configuration's limit if not given.
        batch_size: windows in one forward pass.

    Raises:
        BadInputError: no documents, or a tokenizer without a token to begin from.
    """
    if not documents:
        raise BadInputError("there are no documents to measure")
    length = length or longest_input(model)
    check_at_least(1, length=length, batch_size=batch_size)
    prefix = prefix_token(tokenizer)
    owners: list[int] = []
    pairs: list[tuple[list[int], list[int]]] = []
    for number, document in enumerate(documents):
        for pair in rolling_windows(encode(tokenizer, document), prefix, length):
            owners.append(number)
            pairs.append(pair)
    totals = [0.0] * len(documents)
    scores = continuation_likelihoods(model, pairs, length=length, batch_size=batch_size)
    for owner, score in zip(owners, scores, strict=True):
        totals[owner] += score.log_likelihood
    return totals


def rolling_windows(ids: list[int], prefix: int, length: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield (context, scored) so that every id is scored once and no input is longer than `length`."""
    whole = [prefix, *ids]
    for first in range(0, len(ids), length):
        last = min(first + length, len(ids))
        start = max(0, last - length)  # position in `whole` of the window's first input token
        yield whole[start : first + 1], whole[first + 1 : last + 1]


def bits_per_character(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    *,
    length: int | None = None,
    batch_size: int = 8,
) -> float:
    """Return the bits that the model needs for a character of the documents, over all of them together.

    Loss per token flatters a tokenizer with short tokens; this does not depend on where the text is cut.

    Raises:
        BadInputError: as `document_log_likelihoods`; also documents without a single character.
    """
    return _bits(model, tokenizer, documents, sum(map(len, documents)), length, batch_size)


def bits_per_byte(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    *,
    length: int | None = None,
    batch_size: int = 8,
) -> float:
    """Return the same as `bits_per_character`, but for each byte of the documents' UTF-8."""
    size = sum(len(document.encode("utf-8", "surrogatepass")) for document in documents)
    return _bits(model, tokenizer, documents, size, length, batch_size)


def _bits(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    size: int,
    length: int | None,
    batch_size: int,
) -> float:
    if documents and size == 0:
        raise BadInputError(f"the {len(documents)} documents hold no character")
    likelihoods = document_log_likelihoods(model, tokenizer, documents, length=length, batch_size=batch_size)
    return -math.fsum(likelihoods) / math.log(2) / size
