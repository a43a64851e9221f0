"""Continued training after adaptation: two languages mixed by tokens, and the paper's optimiser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from papertrial.data.tokens import batches
from papertrial.efficient.evaluation.forward import check_at_least
from papertrial.errors import BadInputError

TARGET_SHARE = 0.75
"""Share of tokens in the target language."""
CLIP = 1.0
"""Largest gradient norm."""


class MixedBatches(Iterator[Tensor]):
    """Batches of packed blocks from two languages, for ever, `share` of the tokens from the first.

    The share holds exactly over any run of rows, up to one row. Resumable: `papertrial.training.train` puts
    it back where a checkpoint was written.
    """

    def __init__(
        self,
        target: Int64[Tensor, "target_blocks length"],
        source: Int64[Tensor, "source_blocks source_length"],
        batch_size: int,
        share: float = TARGET_SHARE,
        seed: int = 0,
    ) -> None:
        """Start at the first batch.

        Args:
            target: blocks of the target language.
            source: blocks of the source language, as long.
            batch_size: rows in a batch.
            share: of rows from `target`.
            seed: orders each language's blocks.

        Raises:
            BadInputError: a share outside 0 … 1, blocks of two lengths, or an empty language.
        """
        check_at_least(1, batch_size=batch_size)
        if not 0.0 <= share <= 1.0:
            raise BadInputError(f"share must lie between 0 and 1, got {share}")
        if target.shape[1] != source.shape[1]:
            raise BadInputError(f"blocks must be of one length, got {target.shape[1]} and {source.shape[1]}")
        self._rows = batches(target, 1, seed), batches(source, 1, seed + 1)
        self._batch_size, self._share = batch_size, share
        self.step = 0

    def __next__(self) -> Int64[Tensor, "batch length"]:
        """Return the next batch (batch, length)."""
        first = self.step * self._batch_size
        self.step += 1
        rows = []
        for number in range(first, first + self._batch_size):
            from_target = int((number + 1) * self._share + 1e-9) > int(number * self._share + 1e-9)
            rows.append(next(self._rows[0 if from_target else 1]))
        return torch.cat(rows)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iterator stands."""
        return {"step": self.step, "rows": [one.state_dict() for one in self._rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken."""
        self.step = state["step"]
        for one, place in zip(self._rows, state["rows"], strict=True):
            one.load_state_dict(place)


def continued_training_optimizer(
    model: nn.Module, lr: float = 1e-5, weight_decay: float = 1e-5
) -> torch.optim.AdamW:
    """Return the paper's optimiser over all weights: AdamW, betas 0.9 and 0.95, eps 1e-8.

    The paper trains with Composer's decoupled AdamW, whose decay is not multiplied by the learning rate (only
    by its share of the peak). torch's is, so the same decay is `weight_decay / lr` there.

    Raises:
        BadInputError: a rate that is not above 0, or a negative decay.

    Source: arXiv 2504.17025, section 4.2 and the released training settings.
    """
    if not lr > 0 or not weight_decay >= 0:
        raise BadInputError(
            f"lr must be above 0 and weight_decay at least 0, got lr={lr} and weight_decay={weight_decay}"
        )
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=weight_decay / lr)
