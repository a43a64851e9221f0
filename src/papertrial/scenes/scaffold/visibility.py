"""Which anchors a camera may see."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from papertrial.scenes.cameras import Camera
from papertrial.scenes.scaffold.anchors import AnchorState
from papertrial.scenes.splatting.primitives import BLUR, FIELD_MARGIN, NEAR

_SIGMAS = 3.0
_LEAST_DEPTH = 1e-6  # that is divided by


@torch.no_grad()
def visible_anchors(state: AnchorState, camera: Camera, near: float = NEAR) -> Int[Tensor, " v"]:
    """Return the anchors whose own Gaussian reaches the image, in their order.

    An anchor's Gaussian stands at its place, unturned, with the first three scalings as its extents. It counts where
    its depth is above `near` and a square of three standard deviations round it (of its longer axis on the screen,
    rounded up to pixels) meets the image. `near` is the rasteriser's: in a scene of small units it must be small too.

    Source: the prefilter of Scaffold-GS's released code, which keeps anchors with a positive radius.
    """
    like = state.positions
    here = camera.to(like.dtype).to(like.device)
    x, y, depth = (like @ here.rotation.T + here.viewmat[:3, 3]).unbind(-1)
    (fx, skew, cx), (_, fy, cy), _ = here.intrinsics.tolist()
    safe = torch.where(depth.abs() < _LEAST_DEPTH, _LEAST_DEPTH, depth)
    u, v = x / safe, y / safe
    wide, high = FIELD_MARGIN * camera.width / fx, FIELD_MARGIN * camera.height / fy
    slant_x = u.clamp(-(cx / fx + wide), (camera.width - cx) / fx + wide)
    slant_y = v.clamp(-(cy / fy + high), (camera.height - cy) / fy + high)
    # an unturned Gaussian's axes are the world's: each makes a vector on the screen, without its extent over the depth
    right, down, ahead = here.rotation
    on_x = fx * right + skew * down - (fx * slant_x + skew * slant_y)[:, None] * ahead
    on_y = fy * down - (fy * slant_y)[:, None] * ahead
    extents = (state.scalings[:, :3] / safe[:, None]).square()
    a, c = (extents * on_x * on_x).sum(-1) + BLUR, (extents * on_y * on_y).sum(-1) + BLUR
    b = (extents * on_x * on_y).sum(-1)
    longest = (a + c) / 2 + (((a - c) / 2) ** 2 + b * b).sqrt()  # the screen covariance's larger eigenvalue
    radius = (_SIGMAS * longest.sqrt()).ceil()
    column, row = fx * u + skew * v + cx, fy * v + cy
    meets = (column + radius > 0) & (column - radius < camera.width)
    meets &= (row + radius > 0) & (row - radius < camera.height)
    return ((depth > near) & meets).nonzero()[:, 0]
