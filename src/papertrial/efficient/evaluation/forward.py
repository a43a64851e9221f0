"""Running a language model for evaluation only: no gradients, no dropout, no cache, and left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from papertrial.errors import BadInputError


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Switch off gradients and dropout inside the block; afterwards the models are as they were."""
    were_training = [model.training for model in models]
    try:
        for model in models:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for model, was_training in zip(models, were_training, strict=True):
            model.train(was_training)


def next_token_logits(
    model: nn.Module, tokens: Int64[Tensor, "batch length"]
) -> Float[Tensor, "batch length vocabulary"]:
    """Return the model's logits in at least float32: row `[b, t]` predicts token `t + 1`.

    Padding must stand at the right, where no causal model looks.
    """
    uncached = {"use_cache": False} if hasattr(getattr(model, "config", None), "use_cache") else {}
    logits = model(input_ids=tokens.to(device_of(model)), **uncached).logits
    return logits if logits.dtype == torch.float64 else logits.float()


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's weights are."""
    return next(model.parameters()).device


def check_at_least(smallest: int, **counts: int) -> None:
    """Raise BadInputError for the first count that is below `smallest`."""
    for name, count in counts.items():
        if count < smallest:
            raise BadInputError(f"{name} must be at least {smallest}, got {count}")
