"""How much a primitive shows of itself: its largest blending weight."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.scenes.cameras import Camera
from papertrial.scenes.splatting import rasterize
from papertrial.scenes.splatting.primitives import Primitives, Rules

_CHANNELS = 64  # primitives that share one rendering


@torch.no_grad()
def largest_weights(
    prims: Primitives, camera: Camera, rules: Rules | None = None, backend: str = "auto"
) -> Float[Tensor, " n"]:
    """Return each primitive's largest weight (alpha times the light that is left) over the pixels of a view.

    Every primitive gets a channel of its own, 64 to a rendering, and the largest value of its channel is its weight:
    exact on every back end, at the cost of a rendering for 64 visible primitives. Meant for the few steps at which
    anchors are pruned.

    Raises:
        BadInputError: the inputs cannot be rendered.
    """
    rules = rules or Rules()

    def show(features: Tensor) -> tuple[Tensor, Tensor]:
        out = rasterize(
            prims,
            camera.viewmat,
            camera.intrinsics,
            camera.width,
            camera.height,
            features=features,
            rules=rules,
            backend=backend,
        )
        return out.features, out.visible

    like = prims.opacities
    largest = torch.zeros_like(like)
    _, visible = show(like.new_zeros(len(prims), 1))
    for some in visible.split(_CHANNELS):
        own = like.new_zeros(len(prims), len(some))
        own[some, torch.arange(len(some), device=some.device)] = 1
        image, _ = show(own)
        largest[some] = image.amax(dim=(0, 1))
    return largest
