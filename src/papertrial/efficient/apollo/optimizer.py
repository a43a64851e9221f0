"""APOLLO and APOLLO-Mini: the gradient itself, scaled by what a low-rank Adam would have done to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from papertrial.efficient.apollo.checks import as_matrix, check_choice
from papertrial.efficient.apollo.lowrank import LowRankOptimizer
from papertrial.efficient.apollo.projection import is_wide
from papertrial.efficient.apollo.scaling import (
    adam_direction,
    alpha,
    as_column_or_row,
    bias_correction,
    channel_factors,
    channel_norms,
    limit_growth,
    tensor_factor,
    tensor_norm,
)
from papertrial.errors import BadInputError

SCALE_TYPES = ("channel", "tensor")


class Apollo(LowRankOptimizer):
    """APOLLO: AdamW-like steps whose moments live in a random space of rank r.

    For a weight matrix the gradient G is projected to R = G Pᵀ, Adam's direction R̃ is computed there, and
    G is scaled, channel by channel, by ‖R̃_j‖ / ‖R_j‖: nothing is projected back. Groups without a `rank`
    are plain AdamW. Every option can be set for each group.

    APOLLO-Mini is `rank=1, scale_type="tensor", scale=128`.

    Args:
        params: groups as `param_groups(model, rank=…)` makes them.
        lr: peak learning rate; 0.01 is the paper's for pre-training, 3e-4 for fine-tuning.
        betas: decay of the first and the second moment.
        eps: added to the root of the uncorrected second moment.
        weight_decay: decoupled, on the weight already moved.
        scale: α is its root. 1 is the paper's for APOLLO, 128 for Mini; `auto` is m / r for each weight.
        scale_type: `channel` (APOLLO) or `tensor` (Mini).
        proj: `random`, or `svd` for the gradient's leading singular vectors (then the projection is state).
        update_proj_gap: steps between two projections; the moments stay as they are.
        limiter: γ, the largest growth of a tensor's update norm from step to step; None for none.
        scale_front: whether α is applied before the limiter (as in the released Mini scripts) or after.
        correct_inside: whether the bias correction multiplies R̃, before the limiter, as in Q-APOLLO,
            instead of the learning rate. It differs only through the limiter's history.
        seed: 0 numbers the projections' seeds as the released code does; another one draws others.
        draw_on: `cpu` makes projections that do not depend on the device; `gradient` draws on the
            gradient's device, as released.
        keep_projection: keep the projections in memory between steps (m·r elements each, not in the
            state), or redraw them from the seed at every step.
        state_dtype: `float32`, or `gradient` to keep the moments in the gradient's dtype, as released.
        flatten: let a low-rank group hold tensors of more than two dimensions, as matrices.
        check_finite: raise before anything changes if a gradient is not finite. On CUDA it waits for the
            device once a step; without it nothing does.

    Raises:
        BadInputError: an option or a group that cannot work, with the parameter's name.

    Source: arXiv 2412.05270, Algorithm 1 and equations 4 and 5; where the paper is silent (moments at a
    new projection, bias correction, order of α and limiter) the released code is followed.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        scale: float | str = 1.0,
        scale_type: str = "channel",
        proj: str = "random",
        update_proj_gap: int = 200,
        limiter: float | None = 1.01,
        scale_front: bool = False,
        correct_inside: bool = False,
        seed: int = 0,
        draw_on: str = "cpu",
        keep_projection: bool = True,
        state_dtype: str = "float32",
        flatten: bool = False,
        check_finite: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "scale": scale,
            "scale_type": scale_type,
            "proj": proj,
            "update_proj_gap": update_proj_gap,
            "limiter": limiter,
            "scale_front": scale_front,
            "correct_inside": correct_inside,
            "seed": seed,
            "draw_on": draw_on,
            "keep_projection": keep_projection,
            "state_dtype": state_dtype,
            "flatten": flatten,
            "check_finite": check_finite,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; one with a `rank` is low-rank.

        Raises:
            BadInputError: see `LowRankOptimizer.add_param_group`; also an unknown `scale_type`, a
                `scale` that is neither positive nor `auto`, a limiter below 1, or a `proj_type`.
        """
        _check_apollo_options({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def _gradient_norms(self, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        return channel_norms(gradient) if group["scale_type"] == "channel" else tensor_norm(gradient)

    def _step_matrix(self, parameter: Tensor, norms: Tensor, group: dict[str, Any]) -> None:
        """Advance moments and limiter, then move the weight by −lr_t · coefficient · G in one pass.

        U = s·G is never formed: ‖U‖² = Σ s_j² ‖G_j‖² needs the channel norms of G alone.
        """
        state, gradient = self.state[parameter], as_matrix(parameter.grad)  # type: ignore[arg-type]
        projected = self._project(parameter, gradient, group)[1].to(state["exp_avg"].dtype)
        direction = adam_direction(
            projected, state["exp_avg"], state["exp_avg_sq"], betas=group["betas"], eps=group["eps"]
        )
        if group["scale_type"] == "channel":
            factors = channel_factors(direction, projected, wide=is_wide(gradient.shape))
        else:
            factors = tensor_factor(direction, projected)
        correction = bias_correction(state["step"], group["betas"])
        if group["correct_inside"]:
            factors, correction = factors * correction, 1.0
        strength = alpha(group["scale"], gradient.shape, group["rank"])
        if group["scale_front"]:
            factors, strength = factors * strength, 1.0
        if group["limiter"] is not None:
            factors = factors / self._growth(factors, norms, state, group["limiter"])
        coefficients = factors * (group["lr"] * correction * strength)
        decay = 1 - group["lr"] * group["weight_decay"]
        self._move(parameter, gradient, as_column_or_row(coefficients, gradient.shape), decay, group)

    def _growth(self, factors: Tensor, norms: Tensor, state: dict[str, Any], gamma: float) -> Tensor:
        """Return what the limiter divides the update by, and advance its history."""
        update_norm = torch.linalg.vector_norm(factors * norms)
        previous = state["previous_norm"] if "previous_norm" in state else torch.zeros_like(update_norm)
        divisor, state["previous_norm"] = limit_growth(update_norm, previous, gamma)
        return divisor

    def _move(
        self, parameter: Tensor, gradient: Tensor, coefficients: Tensor, decay: float, group: dict[str, Any]
    ) -> None:
        """Set W ← (W − coefficients · G) · decay in place, without a temporary of the weight's size."""
        weight = parameter if parameter.ndim == 2 else parameter.view(gradient.shape)
        move_scaled(weight, gradient, coefficients, decay)


def move_scaled(weight: Tensor, gradient: Tensor, coefficients: Tensor, decay: float) -> None:
    """Set W ← (W − coefficients · G) · decay in place; coefficients broadcast on the weight.

    A weight in a lower precision than its coefficients (two dimensions each) is moved in theirs and rounded
    once.
    """
    weight.addcmul_(gradient, coefficients, value=-1)
    if decay != 1:
        weight.mul_(decay)


def _check_apollo_options(group: dict[str, Any]) -> None:
    check_choice("scale_type", group["scale_type"], SCALE_TYPES, "the optimizer")
    if "proj_type" in group and group["proj_type"] != "std":
        raise BadInputError(
            f"proj_type {group['proj_type']!r} is not supported, only 'std': with the reversed ones the released "
            "optimizer takes norms along the wrong axis"
        )
    scale, limiter = group["scale"], group["limiter"]
    if scale != "auto" and (isinstance(scale, str | bool) or not 0 < scale < float("inf")):
        raise BadInputError(f"scale must be 'auto' or a number above 0, got {scale!r}")
    if limiter is not None and not 1 <= limiter < float("inf"):
        raise BadInputError(
            f"limiter must be None or a growth of at least 1 (the paper's is 1.01), got {limiter!r}"
        )
