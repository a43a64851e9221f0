"""Tokenizers made in place, and text packed into blocks of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from papertrial.errors import BadInputError

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"
BYTE_VOCABULARY = 258
"""Rows that a model needs for `byte_tokenizer`: 256 bytes, end of text (256), padding (257)."""

_CHUNK = 256  # documents tokenised at once: enough to keep the threads busy, little memory held


def train_bpe(documents: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; the same documents give the same tokenizer.

    Ids 0 and 1 are end of text and padding; every byte is in the vocabulary, so any text can be encoded
    and decoding gives it back unchanged.

    Args:
        documents: the training texts.
        vocab_size: how many ids, with the 256 bytes and the two special tokens.

    Raises:
        BadInputError: `vocab_size` is below 258, or the documents do not repeat enough to fill it.
    """
    smallest = 256 + 2
    if vocab_size < smallest:
        raise BadInputError(
            f"vocab_size must be at least {smallest} (256 bytes and 2 specials), got {vocab_size}"
        )
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, PADDING],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer, length=len(documents))
    reached = tokenizer.get_vocab_size()
    if reached < vocab_size:
        raise BadInputError(
            f"the {len(documents)} documents give {reached} tokens, {vocab_size} were asked for; "
            f"give more text or ask for {reached} at most"
        )
    return _wrap(tokenizer)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer whose id for a byte is the byte: `BYTE_VOCABULARY` ids, nothing learned."""
    vocabulary = {symbol: byte for byte, symbol in enumerate(_byte_symbols())}
    vocabulary |= {END_OF_TEXT: 256, PADDING: 257}
    tokenizer = _byte_level(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens([END_OF_TEXT, PADDING])
    return _wrap(tokenizer)


def pack(
    documents: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int
) -> Int64[Tensor, "blocks length"]:
    """Tokenise documents, put an end of text after each, and cut the stream into blocks.

    Nothing is padded and nothing is repeated: only the last `total % length` tokens are left over.

    Returns:
        Token ids (blocks, length), on the CPU.

    Raises:
        BadInputError: `length` below 2, a tokenizer without an end-of-text token, or too little text for
            one block.
    """
    if length < 2:
        raise BadInputError(f"length must be at least 2 (a token and its next), got {length}")
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise BadInputError(
            f"the tokenizer {type(tokenizer).__name__} has no end-of-text token; set eos_token"
        )
    stream = np.concatenate([np.zeros(0, np.int64), *_token_arrays(documents, tokenizer, end)])
    blocks = len(stream) // length
    if blocks == 0:
        raise BadInputError(f"{len(stream)} tokens do not fill one block of {length}; give more text")
    return torch.from_numpy(stream[: blocks * length].reshape(blocks, length))


class Batches(Iterator[Tensor]):
    """Batches of blocks for ever: every block once a round, in a new order each round.

    The batch at a step is a function of (blocks, batch_size, seed, step) alone, so setting `step` resumes
    exactly. A batch may reach from one round into the next; no block is left out.

    Attributes:
        step: how many batches have been taken.
    """

    def __init__(self, blocks: Int64[Tensor, "blocks length"], batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise BadInputError(f"batch_size must be at least 1, got {batch_size}")
        if len(blocks) == 0:
            raise BadInputError("there are no blocks to make batches of")
        self.step = 0
        self._blocks = blocks
        self._batch_size = batch_size
        self._seed = seed
        self._orders: dict[int, np.ndarray[Any, np.dtype[np.int64]]] = {}

    def __next__(self) -> Int64[Tensor, "batch length"]:
        """Return the next batch (batch, length)."""
        first = self.step * self._batch_size
        places = range(first, first + self._batch_size)
        rows = [self._order(place // len(self._blocks))[place % len(self._blocks)] for place in places]
        self.step += 1
        return self._blocks[torch.tensor(rows)]

    def state_dict(self) -> dict[str, int]:
        """Return where the iterator stands."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to where `state` was taken."""
        self.step = state["step"]

    def _order(self, round_number: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        if round_number not in self._orders:
            generator = np.random.default_rng([self._seed, round_number])
            self._orders = {
                number: order for number, order in self._orders.items() if number >= round_number - 1
            }
            self._orders[round_number] = generator.permutation(len(self._blocks))
        return self._orders[round_number]


def batches(blocks: Int64[Tensor, "blocks length"], batch_size: int, seed: int = 0) -> Batches:
    """Return endless seeded batches of `blocks`; see `Batches`.

    Raises:
        BadInputError: `batch_size` below 1, or no blocks.
    """
    return Batches(blocks, batch_size, seed)


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=PADDING,
        clean_up_tokenization_spaces=False,  # decoding must give the text back as it was
    )


def _byte_symbols() -> list[str]:
    """Return the printable character that stands for each byte in byte-level BPE, by byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    stand_ins = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256)]


def _token_arrays(
    documents: Sequence[str], tokenizer: PreTrainedTokenizerBase, end: int
) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    for first in range(0, len(documents), _CHUNK):
        chunk = list(documents[first : first + _CHUNK])
        encoded = tokenizer(chunk, add_special_tokens=False, return_attention_mask=False, verbose=False)
        for ids in encoded["input_ids"]:
            yield np.asarray([*ids, end], dtype=np.int64)
