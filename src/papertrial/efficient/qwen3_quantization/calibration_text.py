"""Calibration sequences cut from documents, in the two ways that the study's code cuts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from papertrial.errors import BadInputError

AWQ_BLOCK = 512
_LONG_ENOUGH_AFTER = 20_000  # documents tokenised before giving up on finding long ones


def calibration_windows(
    documents: Sequence[str], tokenizer: PreTrainedTokenizerBase, sequences: int, length: int, seed: int = 0
) -> Int64[Tensor, "sequences length"]:
    """Return one random window from each of `sequences` random documents that are longer than `length` tokens.

    The stated protocol, with 128 windows of 2048 tokens. A document may be drawn twice where there are few.

    Raises:
        BadInputError: fewer than one sequence or two tokens, or no document is long enough.

    Source: arXiv 2505.02214, section 2.1, and its code.
    """
    _check(documents, sequences, length)
    generator = np.random.default_rng(seed)
    rows: list[list[int]] = []
    tokenised = 0
    limit = max(_LONG_ENOUGH_AFTER, 20 * sequences)
    while len(rows) < sequences:
        ids = _encode(documents[int(generator.integers(len(documents)))], tokenizer)
        tokenised += 1
        if len(ids) > length:
            start = int(generator.integers(len(ids) - length))
            rows.append(ids[start : start + length])
        elif not rows and tokenised >= min(limit, 20 * len(documents)):
            raise BadInputError(
                f"no document of {len(documents)} is longer than {length} tokens; give a smaller length or longer text"
            )
    return torch.tensor(rows, dtype=torch.int64)


def calibration_blocks(
    documents: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    sequences: int,
    length: int = AWQ_BLOCK,
    seed: int = 0,
) -> Int64[Tensor, "blocks length"]:
    """Return the blocks that AWQ's code makes of the first `sequences` short documents, in a shuffled order.

    Only documents of at most `length` tokens count; they are joined and cut, and the rest is dropped. So there
    are fewer blocks than documents: with 128 documents at most 128 × 512 tokens, a quarter of what the study's
    text states for all methods.

    Raises:
        BadInputError: fewer than one sequence or two tokens, or the short documents do not fill a block.

    Source: arXiv 2306.00978's code, as arXiv 2505.02214 runs it.
    """
    _check(documents, sequences, length)
    stream: list[int] = []
    taken = 0
    for index in np.random.default_rng(seed).permutation(len(documents)):
        ids = _encode(documents[int(index)].strip(), tokenizer)
        if 0 < len(ids) <= length:
            stream.extend(ids)
            taken += 1
        if taken == sequences:
            break
    blocks = len(stream) // length
    if blocks == 0:
        raise BadInputError(
            f"{taken} documents of at most {length} tokens give {len(stream)} tokens, which fill no block of {length}"
        )
    return torch.tensor(stream[: blocks * length], dtype=torch.int64).reshape(blocks, length)


def random_tokens(
    sequences: int, length: int, vocabulary: int, seed: int = 0
) -> Int64[Tensor, "sequences length"]:
    """Return token ids drawn evenly: calibration that knows nothing."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (sequences, length), generator=generator)


def _encode(document: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"])


def _check(documents: Sequence[str], sequences: int, length: int) -> None:
    if not documents:
        raise BadInputError("calibration needs text; there are no documents")
    if sequences < 1 or length < 2:
        raise BadInputError(
            f"calibration needs a sequence of two tokens at least, got {sequences} of {length}"
        )
