"""Blending contributions front to back, and what a view shows of them."""

from __future__ import annotations

import torch
from torch import Tensor

from papertrial.scenes.splatting.primitives import Rules


def distortion_depth(depth: Tensor, rules: Rules) -> Tensor:
    """Return the depth that the distortion is taken of."""
    if rules.distortion == "linear":
        return depth
    return rules.far / (rules.far - rules.near) * (1 - rules.near / depth.clamp(min=1e-9))


def alpha_of(opacity: Tensor, rho: Tensor, rules: Rules) -> Tensor:
    """Return a contribution's alpha, at most `rules.most_alpha`."""
    return (opacity * torch.exp(-rho / 2)).clamp(max=rules.most_alpha)
