"""What a model is trained to make small, and how that is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional

from papertrial.errors import BadInputError

Batch = Tensor | Mapping[str, Tensor]
"""Token ids (batch, length), each predicted from those before it; or the model's arguments by name."""
Loss = Callable[[nn.Module, Any], Tensor]
"""Gives the scalar loss of a model on a batch."""

_IGNORED = -100  # a label that no loss counts


def model_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the model's own mean loss on `batch`: a scalar.

    Raises:
        BadInputError: the model gives none, because the batch has no labels.
    """
    if isinstance(batch, Tensor):
        batch = {"input_ids": batch, "labels": batch}
    loss = model(**batch, **_no_cache(model)).loss
    if loss is None:
        raise BadInputError("the model gives no loss: a batch of arguments must hold its labels")
    return cast(Tensor, loss)


def _no_cache(model: nn.Module) -> dict[str, bool]:
    """Switch off the key-value cache, which transformers would otherwise fill and throw away."""
    return {"use_cache": False} if hasattr(getattr(model, "config", None), "use_cache") else {}


def labelled_positions(model: nn.Module, batch: Batch) -> int:
    """Count the positions that the model's own loss on `batch` averages over.

    Raises:
        BadInputError: the batch has no labels.
    """
    labels = batch if isinstance(batch, Tensor) else batch.get("labels")
    if labels is None:
        raise BadInputError("accumulating needs batches with labels, or a loss of your own")
    if getattr(model, "loss_type", None) == "ForCausalLM":
        labels = labels[..., 1:]  # the first token of a row is predicted by nothing
    return int((labels != _IGNORED).sum())


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return `batch` on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    return {name: value.to(device) for name, value in batch.items()}


def evaluate_loss(model: nn.Module, blocks: Int64[Tensor, "blocks length"], batch_size: int = 16) -> float:
    """Return the mean loss of a causal language model on `blocks`, in nats per predicted token.

    Every token but the first of each block counts once, whatever the batch size.

    Raises:
        BadInputError: no blocks, blocks of one token, or a batch size below 1.
    """
    count, length = blocks.shape
    if count == 0 or length < 2 or batch_size < 1:
        raise BadInputError(
            "evaluation needs blocks of at least 2 tokens and a batch size of at least 1, "
            f"got {count} blocks of {length} and batch size {batch_size}"
        )
    device = next(model.parameters()).device
    total = 0.0
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in blocks.split(batch_size):
                tokens = batch.to(device)
                logits = model(input_ids=tokens, **_no_cache(model)).logits[:, :-1].float()
                nats = functional.cross_entropy(
                    logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"
                )
                total += float(nats)
    finally:
        model.train(was_training)
    return total / (count * (length - 1))
