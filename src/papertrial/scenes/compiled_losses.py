"""The compiled kernels of losses and depth maps as functions that torch differentiates."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papertrial.scenes.compiling import announce, as_array


def normals_of_depth(
    depth: Float[Tensor, "h w"], turn: Float[Tensor, "3 3"], offset: float, least: float
) -> Float[Tensor, "h w 3"]:
    """Return `cameras.depth_to_normal`.

    Args:
        depth: of every pixel.
        turn: from (x, y, 1) in pixels to the world's direction at depth 1.
        offset: of a pixel's place.
        least: length by which a shorter cross product is divided.
    """
    found: Tensor = _NormalsOfDepth.apply(depth, turn, offset, least)
    return found


def depth_prior(
    depth: Float[Tensor, "h w"],
    prior: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"] | None,
    *,
    gradient_weight: float,
    octaves: int,
    singular: float,
) -> Float[Tensor, ""]:
    """Return `prior_losses.depth_prior_loss` without gradients through the alignment.

    Args:
        depth: as rendered.
        prior: of the same view.
        valid: pixels that count, one at least; None for all.
        gradient_weight: of the differences of neighbours.
        octaves: of those.
        singular: share of its mean square up to which a depth's variance is none.
    """
    loss: Tensor = _DepthPrior.apply(depth, prior, valid, gradient_weight, octaves, singular)
    return loss


def normal_prior(
    normals: Float[Tensor, "h w 3"],
    prior: Float[Tensor, "h w 3"],
    valid: Bool[Tensor, "h w"] | None,
    *,
    l1_weight: float,
    cosine_weight: float,
    least: float,
) -> Float[Tensor, ""]:
    """Return `prior_losses.normal_prior_loss`.

    Args:
        normals: as rendered.
        prior: in the same frame.
        valid: pixels that count, one at least; None for all.
        l1_weight: of the absolute differences.
        cosine_weight: of 1 - cosine.
        least: product of lengths by which a smaller one is divided.
    """
    loss: Tensor = _NormalPrior.apply(normals, prior, valid, (l1_weight, cosine_weight), least)
    return loss


class Way(NamedTuple):
    """How pixels of a view get to another and back.

    Attributes:
        inverse: of the view's camera matrix.
        their_inverse: of the other's.
        there: 3 x 4, the other's matrix times turn and shift from the view.
        back: 3 x 4, the other way round.
    """

    inverse: Tensor
    their_inverse: Tensor
    there: Tensor
    back: Tensor


def compare_views(
    ours: tuple[Tensor, Tensor, Tensor],
    theirs: tuple[Tensor, Tensor, Tensor],
    pixels: Float[Tensor, "n 2"],
    way: Way,
    *,
    most_error: float,
    patch: int,
) -> tuple[Tensor, Tensor, int]:
    """Return both terms of `multiview.multi_view_loss` before their weights, and how many pixels counted.

    Args:
        ours: depth, normals in the camera's frame and brightness of a view; the first two get gradients.
        theirs: of the other view.
        pixels: x and y of what is compared.
        way: between both.
        most_error: of a round trip that counts, in pixels.
        patch: pixels a side, odd.
    """
    greys = (ours[2], theirs[2])
    geometric, photometric, compared = _MultiView.apply(
        *ours[:2], *theirs[:2], greys, pixels, way, most_error, patch
    )
    return geometric, photometric, int(compared)


class _NormalsOfDepth(torch.autograd.Function):
    """`cameras.depth_to_normal`."""

    @staticmethod
    def forward(ctx: Any, depth: Tensor, turn: Tensor, offset: float, least: float) -> Tensor:
        from papertrial.scenes import depth_kernels

        ctx.saved = (as_array(depth), as_array(turn), offset, least)
        out = np.zeros((*depth.shape, 3))
        depth_kernels.normals(*ctx.saved, out)
        return torch.from_numpy(out).to(depth.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        from papertrial.scenes import depth_kernels

        out = np.zeros(ctx.saved[0].shape)
        depth_kernels.normals_backward(*ctx.saved, as_array(grads[0]), out)
        return torch.from_numpy(out).to(grads[0].dtype), None, None, None


class _DepthPrior(torch.autograd.Function):
    """`prior_losses.depth_prior_loss` without gradients through the alignment; value and gradient come together."""

    @staticmethod
    def forward(
        ctx: Any,
        depth: Tensor,
        prior: Tensor,
        valid: Tensor | None,
        gradient_weight: float,
        octaves: int,
        singular: float,
    ) -> Tensor:
        from papertrial.scenes import prior_kernels

        found, target, there = as_array(depth), as_array(prior), _mask(valid, depth)
        scale, shift = prior_kernels.align(found, target, there, singular)
        residual, gradient = scale * found + shift - target, np.zeros(found.shape)
        loss = prior_kernels.squares(residual, there, gradient)
        if gradient_weight:
            steep = prior_kernels.octaves(residual, there, octaves, gradient_weight, gradient)
            loss += gradient_weight * steep
        ctx.gradient = torch.from_numpy(scale * gradient).to(depth.dtype)
        return depth.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.gradient * grads[0], None, None, None, None, None


class _NormalPrior(torch.autograd.Function):
    """`prior_losses.normal_prior_loss`; value and gradient come together."""

    @staticmethod
    def forward(
        ctx: Any,
        normals: Tensor,
        prior: Tensor,
        valid: Tensor | None,
        weights: tuple[float, float],
        least: float,
    ) -> Tensor:
        from papertrial.scenes import prior_kernels

        gradient = np.zeros(tuple(normals.shape))
        there = _mask(valid, normals[..., 0])
        loss = prior_kernels.normals(as_array(normals), as_array(prior), there, *weights, least, gradient)
        ctx.gradient = torch.from_numpy(gradient).to(normals.dtype)
        return normals.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.gradient * grads[0], None, None, None, None


class _MultiView(torch.autograd.Function):
    """Both terms of `multiview.multi_view_loss` before their weights, and how many pixels counted."""

    @staticmethod
    def forward(
        ctx: Any,
        depth: Tensor,
        normals: Tensor,
        their_depth: Tensor,
        their_normals: Tensor,
        greys: tuple[Tensor, Tensor],
        pixels: Tensor,
        way: Way,
        most_error: float,
        patch: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        from papertrial.scenes import multiview_kernels

        own = (as_array(depth), as_array(normals))
        places = as_array(pixels)
        inverse, *others = (as_array(one) for one in way)
        to_error, to_patch = np.zeros((len(places), 4)), np.zeros((len(places), 4))
        errors, compared, unlike, patches = multiview_kernels.compare(
            *own,
            as_array(their_depth),
            as_array(their_normals),
            *(as_array(grey) for grey in greys),
            places,
            inverse,
            *others,
            most_error,
            patch // 2,
            to_error,
            to_patch,
        )
        ctx.saved = (*own, inverse, places)
        ctx.to_planes = (to_error / max(compared, 1), to_patch / max(patches, 1))
        count = torch.tensor(compared)
        ctx.mark_non_differentiable(count)
        return depth.new_tensor(errors / max(compared, 1)), depth.new_tensor(unlike / max(patches, 1)), count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from papertrial.scenes import multiview_kernels

        depth, normals = ctx.saved[:2]
        to_depth, to_normals = np.zeros(depth.shape), np.zeros(normals.shape)
        to_plane = float(grads[0]) * ctx.to_planes[0] + float(grads[1]) * ctx.to_planes[1]
        multiview_kernels.spread(*ctx.saved, to_plane, to_depth, to_normals)
        found = (torch.from_numpy(one).to(grads[0].dtype) for one in (to_depth, to_normals))
        return (*found, *(None,) * 7)


def _mask(valid: Tensor | None, like: Tensor) -> Any:
    if valid is None:
        return np.ones(tuple(like.shape), dtype=np.bool_)
    return valid.detach().contiguous().numpy()


def warm_up() -> None:
    """Compile the kernels, or load them from the disk, so that a clock may start after it; seconds the first time."""
    from papertrial.scenes import depth_kernels, multiview_kernels, prior_kernels

    kernels = (depth_kernels.fuse, prior_kernels.align, multiview_kernels.compare)
    announce("losses and depth maps", *kernels)
    flat, grey, turn = torch.ones(4, 4, requires_grad=True), torch.ones(4, 4), torch.eye(3)
    normals = normals_of_depth(flat, turn, 0.5, 1e-12)
    shown, seen = (flat, normals, grey), (grey, normals.detach(), grey)
    way = Way(turn, turn, torch.eye(3, 4), torch.eye(3, 4))
    losses = (
        depth_prior(flat, grey, None, gradient_weight=1.0, octaves=1, singular=0.0),
        normal_prior(normals, seen[1], None, l1_weight=1.0, cosine_weight=1.0, least=1e-8),
        *compare_views(shown, seen, torch.ones(1, 2), way, most_error=1.0, patch=1)[:2],
    )
    torch.stack(losses).sum().backward()
    volume = np.zeros((2, 1, 1, 1))
    depth_kernels.fuse(as_array(flat), np.eye(3, 4), np.zeros(3), 1.0, 1.0, 1.0, volume[0], volume[1])
