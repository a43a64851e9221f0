"""Two-stage context extension: full-length documents, a larger rotary base, and a replay of stage-1 data.

Source: arXiv 2412.04862, section 2.2.1. Mixing ratio, steps and learning rates are not disclosed there: they
are arguments here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from papertrial.errors import BadInputError
from papertrial.objective import Batch
from papertrial.training import TrainingHistory, train


@dataclass(frozen=True)
class Extension:
    """The recipe of stage 2.

    Attributes:
        length: the new context, in tokens.
        theta: the new base of the rotary angles; the old one is kept where None.
        replay: the share of the tokens trained on that come from stage-1 data.
        steps: updates.
        lr: peak learning rate.
    """

    length: int
    theta: float | None = None
    replay: float = 0.25
    steps: int = 150
    lr: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse what no stage could be."""
        if not 0.0 <= self.replay < 1.0:
            raise BadInputError(f"replay is a share and lies in [0, 1), got {self.replay}")
        for name in ("length", "steps"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0 or (self.theta is not None and not self.theta > 0):
            raise BadInputError(f"lr and theta must be above 0, got {self.lr} and {self.theta}")


class ReplayMix(Iterator[Batch]):
    """Batches of long documents with stage-1 batches between them, so that a set share of tokens is replayed.

    Which comes at a step is decided by the tokens given so far, not by chance. Exact resumption needs batches
    that can be put back (`papertrial.data.tokens.Batches`).

    Attributes:
        long_tokens: tokens of long documents given so far.
        replayed_tokens: tokens of stage-1 data given so far.
    """

    def __init__(self, long: Iterator[Any], short: Iterator[Any], replay: float) -> None:
        """Mix `short` into `long`; `replay` is the share of all tokens that `short` gives, in [0, 1)."""
        if not 0.0 <= replay < 1.0:
            raise BadInputError(f"replay is a share and lies in [0, 1), got {replay}")
        self.long_tokens = 0
        self.replayed_tokens = 0
        self._long, self._short, self._replay = long, short, replay

    def __next__(self) -> Batch:
        """Return the next batch."""
        given = self.long_tokens + self.replayed_tokens
        if self.replayed_tokens < self._replay * given:
            batch: Batch = next(self._short)
            self.replayed_tokens += _tokens(batch)
        else:
            batch = next(self._long)
            self.long_tokens += _tokens(batch)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return where the mix and its two sources stand.

        Raises:
            BadInputError: a source cannot say where it stands.
        """
        for source in (self._long, self._short):
            if not hasattr(source, "state_dict"):
                raise BadInputError(
                    f"{type(source).__name__} cannot say where it stands; use data.tokens.batches"
                )
        return {
            "long_tokens": self.long_tokens,
            "replayed_tokens": self.replayed_tokens,
            "long": self._long.state_dict(),  # type: ignore[attr-defined]
            "short": self._short.state_dict(),  # type: ignore[attr-defined]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken."""
        self.long_tokens, self.replayed_tokens = state["long_tokens"], state["replayed_tokens"]
        self._long.load_state_dict(state["long"])  # type: ignore[attr-defined]
        self._short.load_state_dict(state["short"])  # type: ignore[attr-defined]


def set_context(model: nn.Module, length: int, theta: float | None = None) -> None:
    """Let a model take `length` tokens, and turn its rotary angles by another base.

    The weights stay as they are. Works with any model of transformers whose configuration has one set of
    `rope_parameters`; a longer context alone needs no rotary angles.

    Raises:
        BadInputError: `theta` for a model without rotary angles, or with several sets of them.
    """
    config: Any = model.config
    config.max_position_embeddings = max(length, config.max_position_embeddings)
    if theta is None:
        return
    parameters = getattr(config, "rope_parameters", None)
    if not isinstance(parameters, dict) or "rope_theta" not in parameters:
        raise BadInputError(
            f"{type(model).__name__} has no single rope_theta in its configuration, so its base cannot be changed"
        )
    config.rope_parameters = {**parameters, "rope_theta": float(theta)}
    changed = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "inv_freq") and hasattr(child, "config"):
                made: Any = type(child)(config=config)
                setattr(parent, name, made.to(child.inv_freq.device))
                changed += 1
    if not changed:
        raise BadInputError(f"{type(model).__name__} has no rotary embedding that could be changed")


def extend_context(
    model: nn.Module,
    long: Iterator[Any],
    short: Iterator[Any],
    recipe: Extension,
    *,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> TrainingHistory:
    """Train any causal language model on to a longer context, in place, with AdamW.

    Args:
        model: after stage 1.
        long: batches of full-length documents, never cut into chunks; for ever.
        short: batches of stage-1 data, for ever; read only if `recipe.replay` is above 0.
        recipe: length, base, share, steps, rate.
        on_step: called after each step.
    """
    set_context(model, recipe.length, recipe.theta)
    mix = ReplayMix(long, short, recipe.replay)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=0.0)
    return train(model, mix, optimizer, steps=recipe.steps, clip=1.0, on_step=on_step)


def _tokens(batch: Batch) -> int:
    if not isinstance(batch, torch.Tensor):
        batch = batch["input_ids"]
    return batch.numel()
