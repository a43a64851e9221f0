"""Test text as the one stream of tokens that published perplexities are measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from papertrial.errors import BadInputError


@dataclass(frozen=True)
class StreamRule:
    """How documents become a stream.

    Attributes:
        between: what stands between two documents.
        documents: at most so many, from the first on; all if None.
        tokens: at most so many, from the first on; all if None.
    """

    between: str
    documents: int | None = None
    tokens: int | None = None


STREAM_RULES: Mapping[str, StreamRule] = {
    "wikitext2": StreamRule("\n\n"),
    "c4": StreamRule(" ", documents=1100, tokens=256 * 2048),
}
"""The rules of the quantisation papers' two columns. Source: arXiv 2505.02214, code eval_my."""


def token_stream(
    documents: Sequence[str], tokenizer: PreTrainedTokenizerBase, rule: StreamRule
) -> Int64[Tensor, " tokens"]:
    """Return the tokens of documents joined to one text, tokenised as a whole; nothing is added.

    Raises:
        BadInputError: no document, or documents without a token.
    """
    if not documents:
        raise BadInputError("there are no documents to measure")
    text = rule.between.join(documents[: rule.documents])
    # A stream is longer than any model's context by purpose: the chunks are cut from it.
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise BadInputError(f"the {len(documents)} documents hold no token")
    return torch.tensor(ids[: rule.tokens])
