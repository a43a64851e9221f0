"""After warming up, nothing is compiled any more."""

from __future__ import annotations

import torch

from papertrial.scenes.splatting import (
    Primitives,
    Rules,
    backward_kernels,
    blending_kernels,
    projection_kernels,
    rasterize,
    warm_up,
)

KERNELS = (
    projection_kernels.project,
    blending_kernels.blend,
    backward_kernels.blend_backward,
    projection_kernels.project_backward,
)


def signatures():
    return [len(kernel.signatures) for kernel in KERNELS]


def test_both_kinds_are_ready_after_warming_up():
    warm_up()
    before = signatures()
    assert all(count >= 1 for count in before)
    for kind in ("surfel", "gaussian"):
        means = torch.tensor([[0.0, 0.0, 2.0], [0.3, 0.1, 3.0]], requires_grad=True)
        prims = Primitives(means, torch.ones(2, 4), torch.ones(2, 3), torch.full((2,), 0.5))
        intrinsics = torch.tensor([[5.0, 0, 3], [0, 5, 2], [0, 0, 1]])
        out = rasterize(
            prims,
            torch.eye(4),
            intrinsics,
            6,
            4,
            features=torch.rand(2, 5),
            rules=Rules(kind, distortion="ndc", near=0.2, near_at_pixel=True),
        )
        (out.features.sum() + out.distortion.sum()).backward()
    assert signatures() == before
