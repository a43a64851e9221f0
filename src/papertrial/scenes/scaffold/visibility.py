"""Which anchors a camera may see."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor

from papertrial.scenes.cameras import Camera
from papertrial.scenes.scaffold.anchors import AnchorState
from papertrial.scenes.splatting.geometry import Gaussians, project
from papertrial.scenes.splatting.primitives import Primitives, Rules

NEAR = 0.2  # as in the original kernels
_SIGMAS = 3.0


@torch.no_grad()
def visible_anchors(state: AnchorState, camera: Camera, near: float = NEAR) -> Int[Tensor, " v"]:
    """Return the anchors whose own Gaussian reaches the image, in their order.

    An anchor's Gaussian stands at its place, unturned, with the first three scalings as its extents. It counts where
    its depth is above `near` and a square of three standard deviations round it (of its longer axis on the screen,
    rounded up to pixels) meets the image.

    Source: the prefilter of Scaffold-GS's released code, which keeps anchors with a positive radius.
    """
    like = state.positions
    upright = torch.zeros(len(like), 4, dtype=like.dtype, device=like.device)
    upright[:, 0] = 1
    own = Primitives(like, upright, state.scalings[:, :3], torch.ones_like(like[:, 0]))
    here = camera.to(like.dtype).to(like.device)
    size = (camera.width, camera.height)
    rules = Rules("gaussian", near=near)
    screen = cast(Gaussians, project(own, here.viewmat, here.intrinsics, size, rules))
    a, b, c = screen.conic.unbind(
        -1
    )  # the inverse covariance: its smaller eigenvalue belongs to the longer axis
    least = (a + c) / 2 - (((a - c) / 2) ** 2 + b * b).sqrt()
    radius = (_SIGMAS / least.clamp(min=1e-12).sqrt()).ceil()[:, None]
    ends = like.new_tensor([camera.width, camera.height])
    meets = ((screen.centre + radius > 0) & (screen.centre - radius < ends)).all(-1)
    return ((screen.depth > near) & meets).nonzero()[:, 0]
