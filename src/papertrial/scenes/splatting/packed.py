"""The fallback: a list of the pairs of primitives and pixels that meet, in vectorised torch."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.scenes.splatting.compositing import alpha_of, distortion_depth
from papertrial.scenes.splatting.geometry import Gaussians, Surfels, project
from papertrial.scenes.splatting.primitives import (
    LEAST_ALPHA,
    LEAST_TRANSMITTANCE,
    Primitives,
    RenderOut,
    Rules,
)


def rasterize_packed(
    prims: Primitives,
    viewmat: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
    features: Float[Tensor, "n c"],
    rules: Rules,
    probe: Float[Tensor, "n 2"] | None = None,
) -> RenderOut:
    """Render from the list of (primitive, pixel) pairs inside each primitive's exact box. Plain autograd."""
    screen = project(prims, viewmat, intrinsics, (width, height), rules, probe)
    order = torch.argsort(screen.depth.detach(), stable=True)
    near = screen.depth.detach()[order] > rules.near
    order = order[near & (prims.opacities.detach()[order] >= LEAST_ALPHA)]
    pick, pixel = _pairs(screen, prims.opacities.detach(), order, width, height)
    x = (pixel % width + 0.5).to(viewmat.dtype)
    y = (pixel.div(width, rounding_mode="floor") + 0.5).to(viewmat.dtype)
    rho, depth, meets = screen.at(pick, x, y)
    alpha = alpha_of(prims.opacities[pick], rho, rules)
    counts = meets & (rho >= 0) & (alpha >= LEAST_ALPHA)
    if rules.near_at_pixel and rules.kind == "surfel":
        counts &= depth > rules.near
    pick, pixel, alpha, depth = pick[counts], pixel[counts], alpha[counts], depth[counts]
    seen = pick.unique()
    by_pixel = torch.argsort(
        pixel, stable=True
    )  # pairs are listed front to back: within a pixel they stay so
    pick, pixel, alpha, depth = pick[by_pixel], pixel[by_pixel], alpha[by_pixel], depth[by_pixel]
    before = _transmittance(alpha, pixel)
    met = before * (1 - alpha) > LEAST_TRANSMITTANCE
    weight = torch.where(met, alpha * before, torch.zeros_like(alpha))
    m = distortion_depth(depth, rules)
    sums = torch.stack([weight, weight * depth, weight * m, weight * m * m], dim=-1)
    columns = torch.cat([weight[:, None] * features[pick], sums], dim=-1)
    image = columns.new_zeros(width * height, columns.shape[1]).index_add(0, pixel, columns)
    total, first, one, two = image[:, -4:].unbind(-1)
    median = _median(depth, pixel, met & (before.detach() > 0.5), width * height)
    shape = (height, width)
    return RenderOut(
        features=image[:, :-4].reshape(height, width, -1),
        alpha=total.reshape(shape),
        depth=first.reshape(shape),
        distortion=(total * two - one**2).reshape(shape),
        median_depth=median.reshape(shape),
        visible=seen,
        probe=probe,
        size=(width, height),
    )


def _pairs(
    screen: Surfels | Gaussians, opacities: Tensor, order: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """List primitive and pixel for every pixel inside each primitive's box, primitives front to back."""
    radius = 2 * torch.log((opacities / LEAST_ALPHA).clamp(min=1.0))
    low, high = (box[order] for box in screen.reach(radius))
    ends = torch.tensor([width, height], device=low.device)
    start = torch.minimum((low - 0.5).floor().nan_to_num(0, width, 0).clamp(min=0), ends.to(low.dtype)).long()
    stop = torch.minimum(
        (high + 0.5).ceil().nan_to_num(math.inf, 2.0**31, 0).clamp(min=0), ends.to(low.dtype)
    ).long()
    extent = (stop - start).clamp(min=0)
    sizes = extent[:, 0] * extent[:, 1]
    which = torch.repeat_interleave(torch.arange(len(order), device=order.device), sizes)
    within = torch.arange(len(which), device=order.device) - (sizes.cumsum(0) - sizes)[which]
    columns = extent[which, 0].clamp(min=1)
    x = start[which, 0] + within % columns
    y = start[which, 1] + within.div(columns, rounding_mode="floor")
    return order[which], y * width + x


def _transmittance(alpha: Tensor, pixel: Tensor) -> Tensor:
    """Return the light left before each pair; pairs are sorted by pixel, front to back within one."""
    if not len(alpha):
        return alpha
    logs = torch.log1p(-alpha.double())
    sums = torch.cumsum(logs, dim=0) - logs
    starts = torch.ones_like(pixel, dtype=torch.bool)
    starts[1:] = pixel[1:] != pixel[:-1]
    segment = torch.cumsum(starts, dim=0) - 1
    return torch.exp(sums - sums[starts][segment]).to(alpha.dtype)


def _median(depth: Tensor, pixel: Tensor, met: Tensor, pixels: int) -> Tensor:
    """Return each pixel's depth at the last pair met; 0 where there is none."""
    places = torch.arange(1, len(depth) + 1, device=depth.device)
    last = torch.zeros(pixels, dtype=torch.long, device=depth.device)
    last = last.scatter_reduce(0, pixel[met], places[met], reduce="amax")
    found = torch.cat([depth.new_zeros(1), depth])[last]
    return torch.where(last > 0, found, torch.zeros_like(found))
