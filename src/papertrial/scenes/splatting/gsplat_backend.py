"""The back end for CUDA: gsplat's rasterisers (Apache-2.0), called with the conventions of the others.

Colours, alphas and the screen gradients of Gaussians mean what they mean everywhere. What differs is said here:

- A surfel's depth is that of its centre, at all of its pixels: gsplat blends depth like a colour. The other back
  ends take the depth at which the pixel's ray meets the disc. Depth, distortion and median depth of surfels follow
  from that; those of Gaussians, whose depth is that of the centre everywhere, agree.
- Distortion is the paper's sum over pairs of squared differences, from blended first and second moments. gsplat's own
  (`distloss`) sums absolute differences, and is not used.
- A surfel's place on the screen has, in gsplat, the gradient of the rows of T alone. Elsewhere the circle that keeps a
  small surfel visible moves along and adds its share: they agree for surfels of several pixels, and gsplat's tell
  next to nothing of tiny ones, which are so cloned and split less.
- gsplat compares near with a surfel's centre alone: `near_at_pixel` must be off.
- gsplat's rasteriser of Gaussians tells no median depth: it is NaN.
- A surfel is drawn inside a box of 3.33 standard deviations of its outline; elsewhere it is drawn as far as it reaches.

Source: gsplat 1.5.3, `rasterization` and `rasterization_2dgs`; arXiv 2409.06765.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError, MissingExtraError
from papertrial.scenes.splatting.compositing import distortion_depth
from papertrial.scenes.splatting.packed import rasterize_packed
from papertrial.scenes.splatting.primitives import BLUR, Primitives, RenderOut, Rules

MOST_ALPHA = 0.999  # fixed in gsplat's kernels
# What its surfel kernel is compiled for, and channels are padded to here.
_CHANNELS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_OWN = 3  # channels added to the caller's: both moments of the distortion, and the depth


def refusal(rules: Rules, dtype: torch.dtype) -> str | None:
    """Say why gsplat cannot render under these rules; None where it can."""
    if dtype != torch.float32:
        return f"gsplat renders float32, got {dtype}"
    if rules.most_alpha != MOST_ALPHA:
        return f"gsplat's kernels have most_alpha = {MOST_ALPHA}, got {rules.most_alpha}"
    if rules.near_at_pixel and rules.kind == "surfel":
        return "gsplat compares near with a surfel's centre alone: near_at_pixel must be False"
    return None


def rasterize_gsplat(
    prims: Primitives,
    viewmat: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
    features: Float[Tensor, "n c"],
    rules: Rules,
    probe: Float[Tensor, "n 2"] | None = None,
) -> RenderOut:
    """Render with gsplat; the tensors must lie on CUDA. No gradient reaches the intrinsics.

    Raises:
        BadInputError: rules that gsplat's kernels do not have (see `refusal`), or more than 509 features of surfels.
        MissingExtraError: gsplat is not installed.
    """
    reason = refusal(rules, prims.means.dtype)
    if reason is not None:
        raise BadInputError(f"{reason}; use backend='torch'")
    if rules.kind == "surfel" and features.shape[1] + _OWN > _CHANNELS[-1]:
        most = _CHANNELS[-1] - _OWN
        raise BadInputError(f"gsplat blends at most {most} features of surfels, got {features.shape[1]}")
    if not len(prims):
        return rasterize_packed(prims, viewmat, intrinsics, width, height, features, rules, probe)
    depth = prims.means @ viewmat[2, :3] + viewmat[2, 3]
    m = distortion_depth(depth, rules)
    channels = _columns(features, m, depth, padded=rules.kind == "surfel")
    means = prims.means
    if probe is not None and not means.requires_grad:
        means = means.detach().requires_grad_()  # else places on the screen would have no gradient to tell of
    given: dict[str, Any] = {
        "means": means,
        "quats": prims.quats,
        "scales": prims.scales,
        "opacities": prims.opacities,
        "colors": channels[None],
        "viewmats": viewmat[None],
        "Ks": intrinsics[None],
        "width": width,
        "height": height,
        "near_plane": rules.near,
        "eps2d": BLUR,
        "packed": False,
        "render_mode": "RGB",
    }
    device = means.device
    current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with current:  # gsplat allocates on the current device
        blended, alpha, median, meta = _render(given, rules, probe)
    first, second, total = blended[..., -3], blended[..., -2], blended[..., -1]
    return RenderOut(
        features=blended[..., : features.shape[1]],
        alpha=alpha,
        depth=total,
        distortion=alpha * second - first**2,
        median_depth=median,
        visible=(meta["radii"][0] > 0).all(dim=-1).nonzero()[:, 0],
        probe=probe,
        size=(width, height),
    )


def _columns(features: Tensor, m: Tensor, depth: Tensor, padded: bool) -> Tensor:
    """Return what gsplat blends: features, zeros, both moments, and last the depth, of which it takes the median.

    gsplat pads a surfel's channels itself, but with memory that it has not written: what stands there by chance times
    a gradient of zero may be NaN. So they are padded here.
    """
    count, wanted = len(features), features.shape[1] + _OWN
    room = next(size for size in _CHANNELS if size >= wanted) - wanted if padded else 0
    return torch.cat([features, features.new_zeros(count, room), torch.stack([m, m * m, depth], -1)], dim=-1)


def _render(
    given: dict[str, Any], rules: Rules, probe: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Call gsplat, and return what it blended, alpha, median depth and its own account."""
    try:
        import gsplat
    except ImportError as error:
        raise MissingExtraError("gsplat", "gsplat") from error
    if rules.kind == "surfel":
        blended, alpha, _, _, _, median, meta = gsplat.rasterization_2dgs(**given)
        median = median[0, ..., 0]
        if probe is not None:
            meta["gradient_2dgs"].register_post_accumulate_grad_hook(_Tell(probe).of_leaf)
    else:
        blended, alpha, meta = gsplat.rasterization(**given)
        median = torch.full_like(alpha[0, ..., 0], torch.nan)
        if probe is not None:
            meta["means2d"].register_hook(_Tell(probe).of_gradient)
    return blended[0], alpha[0, ..., 0], median, meta


class _Tell:
    """Hands the gradient of places on the screen, in pixels, to the probe that `RenderOut` reads."""

    def __init__(self, probe: Tensor) -> None:
        self._probe = probe

    def of_leaf(self, leaf: Tensor) -> None:
        """Take the gradient that a leaf of gsplat's has collected."""
        assert leaf.grad is not None
        self._probe.grad = leaf.grad[0].clone()

    def of_gradient(self, gradient: Tensor) -> None:
        """Add a gradient that flows back through gsplat's projected means."""
        so_far = self._probe.grad
        self._probe.grad = gradient[0].clone() if so_far is None else so_far + gradient[0]
