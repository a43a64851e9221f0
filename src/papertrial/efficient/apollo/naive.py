"""APOLLO's update written out line by line, with every intermediate; the fast step is held to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class NaiveState:
    """What one weight carries from step to step: moments, the last norm (None: no history), steps done."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    previous_norm: float | None = None
    step: int = 0


def naive_step(
    weight: Float[Tensor, "a b"],
    gradient: Float[Tensor, "a b"],
    projection: Float[Tensor, "rows columns"],
    state: NaiveState,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    alpha: float = 1.0,
    scale_type: str = "channel",
    limiter: float | None = 1.01,
    scale_front: bool = False,
    correct_inside: bool = False,
) -> Float[Tensor, "a b"]:
    """Return the weight after one step, and advance `state`.

    The projection is given; `alpha` is the factor itself, the root of the optimizer's `scale`.

    Source: arXiv 2412.05270, Algorithm 1 and equations 4 and 5.
    """
    wide = weight.shape[0] < weight.shape[1]
    projected = projection.T @ gradient if wide else gradient @ projection.T
    state.step += 1
    state.exp_avg = betas[0] * state.exp_avg + (1 - betas[0]) * projected
    state.exp_avg_sq = betas[1] * state.exp_avg_sq + (1 - betas[1]) * projected**2
    direction = state.exp_avg / (state.exp_avg_sq**0.5 + eps)
    correction = math.sqrt(1 - betas[1] ** state.step) / (1 - betas[0] ** state.step)
    if correct_inside:
        direction = direction * correction
    if scale_type == "channel":
        rank_dim = 0 if wide else 1
        factors = direction.norm(dim=rank_dim, keepdim=True) / (
            projected.norm(dim=rank_dim, keepdim=True) + 1e-8
        )
    else:
        factors = direction.norm() / (projected.norm() + 1e-8)
    update = gradient * factors
    if scale_front:
        update = update * alpha
    if limiter is not None:
        norm = float(update.norm())
        growth = 1.0
        if state.previous_norm is not None:
            growth = max(norm / (state.previous_norm + 1e-8), limiter) / limiter
        update = update / growth
        state.previous_norm = norm / growth if norm > 0 else None
    if not scale_front:
        update = update * alpha
    rate = lr if correct_inside else lr * correction
    moved = weight - rate * update
    return moved - lr * weight_decay * moved


def naive_state(shape: tuple[int, int], rank: int, dtype: torch.dtype = torch.float32) -> NaiveState:
    """Return the state before the first step, for a weight of this shape."""
    rows, columns = shape
    moments = (rank, columns) if rows < columns else (rows, rank)
    return NaiveState(torch.zeros(moments, dtype=dtype), torch.zeros(moments, dtype=dtype))
