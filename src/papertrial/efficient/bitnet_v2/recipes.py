"""How the trials' arms are made: a model, both stages of its training, and what is measured on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel

from papertrial.data.tokens import batches
from papertrial.efficient.bitnet_v2.convert import BitNetOptions, set_activation_bits, use_bitnet
from papertrial.efficient.bitnet_v2.sites import site_statistics
from papertrial.efficient.bitnet_v2.two_stages import TwoStages, train_two_stages
from papertrial.objective import evaluate_loss

_SITE_BLOCKS = 16


@dataclass(frozen=True)
class Recipe:
    """One way of training.

    Attributes:
        rotation: as in `BitNetOptions`; None trains in full precision.
        bits: of activations at the end: 8 leaves stage 2 out.
        activation: "silu" or "relu2".
    """

    rotation: str | None
    bits: int = 4
    activation: str = "silu"


RECIPES: Mapping[str, Recipe] = {
    "full": Recipe(None),
    "b158-a8": Recipe("none", 8),
    "b158-a4": Recipe("none"),
    "v2-a8": Recipe("activations", 8),
    "v2-a4": Recipe("activations"),
    "v2-a4-both": Recipe("both"),
    "b158-a4-relu2": Recipe("none", activation="relu2"),
    "v2-a4-relu2": Recipe("activations", activation="relu2"),
}
"""Every way of training that the trials know, by the name of its arm."""


def prepare_model(model: PreTrainedModel, recipe: Recipe) -> PreTrainedModel:
    """Make `model` the recipe's, in place, in stage 1."""
    if recipe.rotation is not None:
        use_bitnet(model, BitNetOptions(rotation=recipe.rotation, hadamard="auto"))
    return model


def weight_groups(model: PreTrainedModel, weight_decay: float) -> list[dict[str, object]]:
    """Return parameter groups for AdamW: matrices decay, norms and other vectors do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def train_recipe(
    model: PreTrainedModel,
    recipe: Recipe,
    training: Int64[Tensor, "blocks length"],
    validation: Int64[Tensor, "held_out length"],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    dtype: str = "float32",
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> dict[str, float]:
    """Train `model` in place by its recipe and return what the training trial measures.

    The last eighth of the steps is stage 2 (a twentieth in the paper, whose stage 2 still has 2,400 steps).
    Losses are NaN after divergence, where `diverged` is 1.
    """
    found: dict[str, float] = {}

    def look() -> None:
        found.update(look_at_switch(model, validation))

    plan = TwoStages(steps, lr, warmup=max(1, steps // 20), switch=1.0 if recipe.bits == 8 else 0.875)
    optimizer = torch.optim.AdamW(weight_groups(model, plan.weight_decay), lr=lr, betas=(0.9, 0.95))
    history = train_two_stages(
        model,
        batches(training, batch, seed),
        optimizer,
        plan,
        dtype=dtype,
        on_step=on_step,
        before_switch=None if recipe.rotation is None else look,
    )
    diverged = history.diverged_at is not None
    if recipe.rotation is not None and recipe.bits == 8 and not diverged:
        look()
    names = ("val_loss_a8", "switch_cost", "down_error", "o_error", "down_kurtosis", "o_kurtosis")
    return {
        "val_loss": math.nan if diverged else evaluate_loss(model, validation),
        **{name: found.get(name, math.nan) for name in names},
        "diverged": float(diverged),
    }


def look_at_switch(model: PreTrainedModel, validation: Int64[Tensor, "held_out length"]) -> dict[str, float]:
    """Return the loss with INT8, what switching to INT4 costs untrained, and how the sites look; change nothing."""
    with_eight = evaluate_loss(model, validation)
    set_activation_bits(model, 4)
    with_four = evaluate_loss(model, validation)
    set_activation_bits(model, 8)
    device = next(model.parameters()).device
    sites = site_statistics(model, validation[:_SITE_BLOCKS].to(device))

    def mean(end: str, what: str) -> float:
        values = [getattr(site, what) for name, site in sites.items() if name.endswith(end)]
        return sum(values) / len(values)

    return {
        "val_loss_a8": with_eight,
        "switch_cost": with_four - with_eight,
        "down_error": mean("down_proj", "int4_error"),
        "o_error": mean("o_proj", "int4_error"),
        "down_kurtosis": mean("down_proj", "kurtosis"),
        "o_kurtosis": mean("o_proj", "kurtosis"),
    }
