"""Losses that hold a rendering against cheap monocular guesses of depth and normals.

Source: arXiv 2412.03428, section 4.2 and equations 10 to 13; arXiv 2403.17888, equation 14 (consistency).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.compiled_losses import depth_prior, normal_prior
from papertrial.scenes.compiling import compiles

GRADIENT_WEIGHT = 0.5
OCTAVES = 4
_SINGULAR = 1e-12  # of the depth's second moment: below it, the depth is constant as far as rounding can tell
_LEAST_LENGTH = 1e-8  # of a normal that is divided by


class Alignment(NamedTuple):
    """The affine map from a rendered depth to its prior: `scale * depth + shift`."""

    scale: Tensor
    shift: Tensor


def align_depth(
    depth: Float[Tensor, "h w"], prior: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"] | None = None
) -> Alignment:
    """Return the scale and shift that bring a depth nearest to its prior, in closed form.

    Where the depth is constant every scale is as good with its shift: then the scale is 0 and the shift the prior's
    mean, which leaves the same residual.

    Raises:
        BadInputError: no valid pixel.

    Source: arXiv 2412.03428, equation 10: the normal equations of a line.
    """
    if valid is not None:
        depth, prior = depth[valid], prior[valid]
    if depth.numel() == 0:
        raise BadInputError("scale and shift of a depth prior need at least one valid pixel")
    mean, target = depth.mean(), prior.mean()
    away = depth - mean
    spread = (away * away).mean()
    constant = spread <= _SINGULAR * (depth * depth).mean()
    covariance = (away * (prior - target)).mean()
    scale = torch.where(constant, torch.zeros_like(spread), covariance / spread.clamp(min=1e-30))
    return Alignment(scale, target - scale * mean)


def depth_prior_loss(
    depth: Float[Tensor, "h w"],
    prior: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"] | None = None,
    *,
    gradient_weight: float = GRADIENT_WEIGHT,
    through_alignment: bool = False,
) -> Float[Tensor, ""]:
    """Return the mean square of `scale * depth + shift - prior`, and half of its gradients over four octaves.

    Args:
        depth: as rendered; gradients flow through it.
        prior: relative depth of the same view; see `check_depth_prior`.
        valid: pixels that count; None for all.
        gradient_weight: of `gradient_term`.
        through_alignment: whether gradients also flow through the scale and the shift.

    Raises:
        BadInputError: no valid pixel.

    Source: arXiv 2412.03428, equation 10.
    """
    if depth.numel() == 0 or (valid is not None and not bool(valid.any())):
        raise BadInputError("scale and shift of a depth prior need at least one valid pixel")
    if compiles(depth, prior) and not through_alignment:
        return depth_prior(
            depth, prior, valid, gradient_weight=gradient_weight, octaves=OCTAVES, singular=_SINGULAR
        )
    return plain_depth_prior_loss(
        depth, prior, valid, gradient_weight=gradient_weight, through_alignment=through_alignment
    )


def plain_depth_prior_loss(
    depth: Float[Tensor, "h w"],
    prior: Float[Tensor, "h w"],
    valid: Bool[Tensor, "h w"] | None = None,
    *,
    gradient_weight: float = GRADIENT_WEIGHT,
    through_alignment: bool = False,
) -> Float[Tensor, ""]:
    """Return `depth_prior_loss` by torch's own operations."""
    fit = align_depth(depth if through_alignment else depth.detach(), prior, valid)
    residual = fit.scale * depth + fit.shift - prior
    inside = residual if valid is None else residual[valid]
    loss = inside.square().mean()
    return loss + gradient_weight * gradient_term(residual, valid) if gradient_weight else loss


def gradient_term(
    residual: Float[Tensor, "h w"], valid: Bool[Tensor, "h w"] | None = None
) -> Float[Tensor, ""]:
    """Return the mean absolute differences of neighbours in x and in y, summed over every 1st, 2nd, 4th, 8th pixel.

    Pairs with an invalid pixel are left out; an octave without pairs adds nothing. The paper describes the term in
    words alone; this is its usual form (arXiv 1907.01341, equation 11).
    """
    total = residual.new_zeros(())
    for octave in range(OCTAVES):
        step = 2**octave
        thin = residual[::step, ::step]
        keep = torch.ones_like(thin, dtype=torch.bool) if valid is None else valid[::step, ::step]
        for axis in (0, 1):
            size = thin.shape[axis]
            change = (thin.narrow(axis, 1, size - 1) - thin.narrow(axis, 0, size - 1)).abs()
            pairs = keep.narrow(axis, 1, size - 1) & keep.narrow(axis, 0, size - 1)
            total = total + (change * pairs).sum() / pairs.sum().clamp(min=1)
    return total


def normal_prior_loss(
    normals: Float[Tensor, "h w 3"],
    prior: Float[Tensor, "h w 3"],
    valid: Bool[Tensor, "h w"] | None = None,
    *,
    l1_weight: float = 0.01,
    cosine_weight: float = 0.01,
) -> Float[Tensor, ""]:
    """Return `0.01 |N - prior|₁ + 0.01 (1 - cosine)`, means over valid pixels; the first sums three components.

    Both must be in one frame.

    Raises:
        BadInputError: no valid pixel.

    Source: arXiv 2412.03428, equations 11 to 13.
    """
    if normals.numel() == 0 or (valid is not None and not bool(valid.any())):
        raise BadInputError("a normal prior needs at least one valid pixel")
    if compiles(normals, prior):
        return normal_prior(
            normals, prior, valid, l1_weight=l1_weight, cosine_weight=cosine_weight, least=_LEAST_LENGTH
        )
    return plain_normal_prior_loss(normals, prior, valid, l1_weight=l1_weight, cosine_weight=cosine_weight)


def plain_normal_prior_loss(
    normals: Float[Tensor, "h w 3"],
    prior: Float[Tensor, "h w 3"],
    valid: Bool[Tensor, "h w"] | None = None,
    *,
    l1_weight: float = 0.01,
    cosine_weight: float = 0.01,
) -> Float[Tensor, ""]:
    """Return `normal_prior_loss` by torch's own operations."""
    if valid is not None:
        normals, prior = normals[valid], prior[valid]
    l1 = (normals - prior).abs().sum(-1).mean()
    lengths = normals.norm(dim=-1) * prior.norm(dim=-1)
    cosine = (normals * prior).sum(-1) / lengths.clamp(min=_LEAST_LENGTH)
    return l1_weight * l1 + cosine_weight * (1 - cosine).mean()


def normal_consistency(
    normals: Float[Tensor, "h w 3"], surface_normals: Float[Tensor, "h w 3"]
) -> Float[Tensor, ""]:
    """Return the mean of `1 - N · N_surface`: blended normals against those of the depth map, in one frame.

    Both have the length of what they cover: N is a sum of weights times normals, N_surface is unit times alpha.

    Source: arXiv 2403.17888, equation 14.
    """
    return (1 - (normals * surface_normals).sum(-1)).mean()


def check_depth_prior(
    prior: Float[Tensor, "h w"],
    size: tuple[int, int],
    name: str,
    known: Float[Tensor, "h w"] | None = None,
) -> None:
    """Raise for a depth prior that nothing can be learnt from, naming its image.

    Args:
        prior: relative depth.
        size: width and height of the image.
        name: of the image.
        known: depth where it is known (points of structure from motion), 0 elsewhere: tells depth from disparity.

    Raises:
        BadInputError: another size, values that are not finite, one value everywhere, or larger values nearby.
    """
    if (prior.shape[1], prior.shape[0]) != size:
        raise BadInputError(
            f"the depth prior of image {name!r} is {prior.shape[1]} x {prior.shape[0]} pixels, "
            f"the image {size[0]} x {size[1]}"
        )
    if not bool(torch.isfinite(prior).all()):
        bad = int((~torch.isfinite(prior)).sum())
        raise BadInputError(f"the depth prior of image {name!r} has {bad} pixels that are not finite")
    if float(prior.max()) == float(prior.min()):
        raise BadInputError(
            f"the depth prior of image {name!r} is {float(prior[0, 0]):.4g} everywhere: "
            "no scale and shift can be fitted to it"
        )
    if known is None or int((known > 0).sum()) < 3:
        return
    fit = align_depth(known, prior, known > 0)
    if float(fit.scale) < 0:
        raise BadInputError(
            f"the depth prior of image {name!r} grows towards the camera: it is disparity, give 1 / prior"
        )
