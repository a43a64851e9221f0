"""A user's text as blocks of tokens, its end held out."""

from __future__ import annotations

from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from papertrial.data.text import load_documents
from papertrial.data.tokens import pack
from papertrial.errors import BadInputError

_MOST_HELD_OUT = 128


def training_and_held_out(
    source: str, tokenizer: PreTrainedTokenizerBase, length: int
) -> tuple[Int64[Tensor, "blocks length"], Int64[Tensor, "held_out length"]]:
    """Return blocks to train on, and the text's last twentieth (one block at least, 128 at most) held out.

    Raises:
        BadInputError: as `load_documents`; or too little text for one block of each.
    """
    blocks = pack(load_documents(source), tokenizer, length)
    if len(blocks) < 2:
        raise BadInputError(
            f"{source} fills {len(blocks)} block of {length} tokens; two are needed, one to hold out"
        )
    held_out = min(_MOST_HELD_OUT, max(1, len(blocks) // 20))
    return blocks[:-held_out], blocks[-held_out:]
