"""How alike two embeddings are in structure: each token described by its products with anchor tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from papertrial.efficient.vocabulary_adaptation.canonical import token_forms
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class StructureSimilarity:
    """How alike two embeddings of one vocabulary are.

    Attributes:
        mean: of the cosine between each token's two relative representations.
        deviation: its population standard deviation over tokens.
        tokens: how many were compared.
        undefined: tokens left out because one of their rows is orthogonal to every anchor, or zero.
    """

    mean: float
    deviation: float
    tokens: int
    undefined: int


def structure_similarity(
    first: Float[Tensor, "target width"],
    second: Float[Tensor, "other_target other_width"],
    tokens: Sequence[int],
    anchors: Sequence[int],
) -> StructureSimilarity:
    """Compare two embeddings of one vocabulary, whatever their widths.

    A token's relative representation is its dot product with each anchor's row in the same embedding; two
    embeddings are alike where these agree in direction.

    Args:
        first: one embedding.
        second: the other, rows in the same order.
        tokens: ids to compare.
        anchors: ids to describe them by; see `prefix_anchors`.

    Raises:
        BadInputError: embeddings of different vocabularies, or nothing to compare.

    Source: arXiv 2504.17025, section 6 and table 7.
    """
    if len(first) != len(second):
        raise BadInputError(
            f"the embeddings have {len(first)} and {len(second)} rows; one vocabulary is needed"
        )
    if not tokens or not anchors:
        raise BadInputError(f"tokens and anchors are needed, got {len(tokens)} and {len(anchors)}")
    chosen, fixed = _ids(tokens), _ids(anchors)
    relative = [
        rows[chosen].double() @ rows[fixed].double().T
        for rows in (first.detach().cpu(), second.detach().cpu())
    ]
    defined = (relative[0].norm(dim=1) > 0) & (relative[1].norm(dim=1) > 0)
    cosines = functional.cosine_similarity(relative[0][defined], relative[1][defined], dim=1, eps=0.0)
    if not len(cosines):
        return StructureSimilarity(math.nan, math.nan, 0, len(chosen))
    deviation = float(cosines.std(correction=0))
    return StructureSimilarity(float(cosines.mean()), deviation, len(cosines), len(chosen) - len(cosines))


def prefix_anchors(tokenizer: PreTrainedTokenizerBase, count: int = 128, seed: int = 0) -> list[int]:
    """Draw `count` tokens that begin a word and `count` that do not.

    Raises:
        BadInputError: the vocabulary has fewer of one kind.
    """
    forms = token_forms(tokenizer)
    chosen: list[int] = []
    generator = torch.Generator().manual_seed(seed)
    for begins in (True, False):
        kind = [number for number in plain_tokens(tokenizer) if _begins_word(forms[number]) == begins]
        if len(kind) < count:
            name = "begin a word" if begins else "do not begin a word"
            raise BadInputError(f"{count} tokens that {name} are needed, the vocabulary has {len(kind)}")
        order = torch.randperm(len(kind), generator=generator)[:count]
        chosen += [kind[place] for place in order.tolist()]
    return chosen


def plain_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that are text: neither bytes nor control tokens, which the comparison leaves out."""
    return [
        number
        for number, form in enumerate(token_forms(tokenizer))
        if form is not None and form.kind == "text"
    ]


def _begins_word(form: object) -> bool:
    return " " in getattr(form, "text", "")


def _ids(numbers: Sequence[int]) -> Int64[Tensor, " ids"]:
    return torch.tensor(list(numbers), dtype=torch.int64)
