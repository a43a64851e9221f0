"""How far a changed model's predictions are from a reference model's."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor, nn

from papertrial.efficient.evaluation.forward import check_at_least, evaluating, next_token_logits
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class Divergence:
    """The distance between two models' next-token distributions.

    Attributes:
        nats_per_token: mean of KL(reference ‖ model) over positions.
        top1_agreement: share of positions where both have the same most likely token.
        tokens: positions compared.
    """

    nats_per_token: float
    top1_agreement: float
    tokens: int


def divergence(
    model: nn.Module,
    reference: nn.Module,
    tokens: Int64[Tensor, " tokens"],
    *,
    length: int,
    batch_size: int = 8,
) -> Divergence:
    """Compare `model` with `reference` on the chunks of a token stream, position by position.

    The stream is cut into chunks of `length` and the remainder is dropped, as for chunked perplexity; every
    position of a chunk counts, the last one too, since no target is needed.

    Raises:
        BadInputError: too few tokens, or models of different vocabulary.
    """
    check_at_least(1, length=length, batch_size=batch_size)
    chunks = len(tokens) // length
    if chunks == 0:
        raise BadInputError(f"{len(tokens)} tokens do not fill one chunk of {length}; give more text")
    nats, agreed = 0.0, 0
    with evaluating(model, reference):
        for batch in tokens[: chunks * length].view(chunks, length).split(batch_size):
            wanted = next_token_logits(reference, batch)
            given = next_token_logits(model, batch).to(wanted.device)
            if given.shape != wanted.shape:
                raise BadInputError(
                    f"the models predict {given.shape[-1]} and {wanted.shape[-1]} tokens; "
                    "KL needs one vocabulary: compare models of different tokenizers by bits_per_character"
                )
            agreed += int((given.argmax(-1) == wanted.argmax(-1)).sum())
            log_wanted = wanted.log_softmax(-1)
            nats += float((log_wanted.exp() * (log_wanted - given.log_softmax(-1))).sum())
    count = chunks * length
    return Divergence(nats / count, agreed / count, count)
