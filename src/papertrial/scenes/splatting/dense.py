"""The oracle: every primitive at every pixel, as the equations stand. For tests and very small scenes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.scenes.splatting.compositing import alpha_of, distortion_depth
from papertrial.scenes.splatting.geometry import project
from papertrial.scenes.splatting.primitives import (
    LEAST_ALPHA,
    LEAST_TRANSMITTANCE,
    Primitives,
    RenderOut,
    Rules,
)


def rasterize_dense(
    prims: Primitives,
    viewmat: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
    features: Float[Tensor, "n c"],
    rules: Rules,
    probe: Float[Tensor, "n 2"] | None = None,
) -> RenderOut:
    """Render by a matrix of all primitives and all pixels, in the precision of the inputs.

    Plain autograd, also for the camera; memory grows with primitives times pixels.
    """
    screen = project(prims, viewmat, intrinsics, (width, height), rules, probe)
    order = torch.argsort(screen.depth.detach(), stable=True)
    order = order[screen.depth.detach()[order] > rules.near]
    count, pixels = len(order), width * height
    y, x = torch.meshgrid(
        torch.arange(height, device=viewmat.device), torch.arange(width, device=viewmat.device), indexing="ij"
    )
    x = (x.reshape(-1) + 0.5).to(viewmat.dtype).repeat(count)
    y = (y.reshape(-1) + 0.5).to(viewmat.dtype).repeat(count)
    rho, depth, meets = screen.at(order.repeat_interleave(pixels), x, y)
    rho, depth, meets = (one.reshape(count, pixels) for one in (rho, depth, meets))
    alpha = alpha_of(prims.opacities[order][:, None], rho, rules)
    counts = meets & (rho >= 0) & (alpha >= LEAST_ALPHA)
    if rules.near_at_pixel and rules.kind == "surfel":
        counts &= depth > rules.near
    alpha = torch.where(counts, alpha, torch.zeros_like(alpha))
    depth = torch.where(counts, depth, torch.ones_like(depth))
    after = torch.cumprod(1 - alpha, dim=0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    met = counts & (after > LEAST_TRANSMITTANCE)
    weight = torch.where(met, alpha * before, torch.zeros_like(alpha))
    blended = weight.T @ features[order]
    total, first = weight.sum(0), (weight * depth).sum(0)
    m = distortion_depth(depth, rules)
    distortion = total * (weight * m * m).sum(0) - (weight * m).sum(0) ** 2
    median = _median(depth, met & (before > 0.5))
    shape = (height, width)
    return RenderOut(
        features=blended.reshape(height, width, -1),
        alpha=total.reshape(shape),
        depth=first.reshape(shape),
        distortion=distortion.reshape(shape),
        median_depth=median.reshape(shape),
        visible=order[counts.any(dim=1)].sort().values if count else order,
        probe=probe,
        size=(width, height),
    )


def _median(depth: Tensor, met: Tensor) -> Tensor:
    """Return each pixel's depth at the last contributor met; 0 where there is none."""
    if not depth.shape[0]:
        return depth.new_zeros(depth.shape[1])
    places = torch.arange(1, depth.shape[0] + 1, device=depth.device)[:, None]
    last = (met * places).max(dim=0).values
    found = depth.gather(0, (last - 1).clamp(min=0)[None])[0]
    return torch.where(last > 0, found, torch.zeros_like(found))
