"""Blending contributions front to back, and what a view shows of them."""

from __future__ import annotations

import torch
from torch import Tensor

from papertrial.scenes.splatting.primitives import LEAST_DEPTH, Rules


def distortion_depth(depth: Tensor, rules: Rules) -> Tensor:
    """Return the depth that the distortion is taken of: as it is, or remapped from `near` and `far` to 0 and 1.

    A disc that crosses the camera's plane has pixels nearer than `near`, and behind the camera: they count as `near`.
    """
    if rules.distortion == "linear":
        return depth
    kept = depth.clamp(min=max(rules.near, LEAST_DEPTH))
    return rules.far / (rules.far - rules.near) * (1 - rules.near / kept)


def alpha_of(opacity: Tensor, rho: Tensor, rules: Rules) -> Tensor:
    """Return a contribution's alpha, at most `rules.most_alpha`."""
    return (opacity * torch.exp(-rho / 2)).clamp(max=rules.most_alpha)
