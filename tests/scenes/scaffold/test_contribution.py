"""The largest blending weight: against weights written out for every pixel."""

from __future__ import annotations

import pytest
import torch

from papertrial.scenes.cameras import Camera
from papertrial.scenes.scaffold import largest_weights
from papertrial.scenes.splatting import Primitives


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_stacked_surfels_have_the_weights_of_the_formula(backend):
    """Discs that fill one pixel's middle, front to back: o1, (1 - o1) o2, (1 - o1)(1 - o2) o3; one lies behind."""
    camera = Camera(torch.eye(4), torch.tensor([[8.0, 0, 4.5], [0, 8.0, 4.5], [0, 0, 1.0]]), 9, 9)
    opacities = torch.tensor([0.5, 0.4, 0.9, 0.7])
    means = torch.tensor([[0.0, 0, 2.0], [0, 0, 1.0], [0, 0, 3.0], [0, 0, -1.0]])
    prims = Primitives(means, torch.tensor([[1.0, 0, 0, 0]]).repeat(4, 1), torch.full((4, 3), 0.3), opacities)
    expected = torch.tensor([0.6 * 0.5, 0.4, 0.6 * 0.5 * 0.9, 0.0])
    torch.testing.assert_close(
        largest_weights(prims, camera, backend=backend), expected, atol=1e-6, rtol=1e-5
    )


def test_more_primitives_than_share_a_rendering(camera):
    """150 primitives go in three renderings; against the gradient of each pixel's sum, which is the weight."""
    draw = torch.Generator().manual_seed(0)
    prims = Primitives(
        0.4 * torch.randn(150, 3, generator=draw),
        torch.randn(150, 4, generator=draw),
        0.05 + 0.1 * torch.rand(150, 3, generator=draw),
        torch.rand(150, generator=draw),
    )
    from papertrial.scenes.splatting import rasterize

    features = torch.zeros(150, 1, requires_grad=True)
    out = rasterize(prims, camera.viewmat, camera.intrinsics, 32, 24, features=features, backend="torch")
    expected = torch.zeros(150)
    for pixel in out.features.reshape(-1):
        (weights,) = torch.autograd.grad(pixel, features, retain_graph=True)
        expected = torch.maximum(expected, weights[:, 0])
    torch.testing.assert_close(largest_weights(prims, camera), expected, atol=1e-6, rtol=1e-4)
