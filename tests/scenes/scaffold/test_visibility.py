"""Which anchors are seen: against corners worked out by hand, and every anchor that shows in a picture."""

from __future__ import annotations

import pytest
import torch

from papertrial.scenes.cameras import Camera
from papertrial.scenes.scaffold import Anchors, visible_anchors
from papertrial.scenes.splatting import Primitives, rasterize


def looking_along_z():
    return Camera(
        torch.eye(4), torch.tensor([[20.0, 0, 16.0], [0, 20.0, 12.0], [0, 0, 1.0]]), 32, 24, "straight"
    )


def anchors_at(places, extent):
    places = torch.tensor(places)
    return Anchors(places, torch.full((len(places), 6), extent).log(), 0.01)


@pytest.mark.parametrize(
    ("place", "seen"),
    [
        ((0.0, 0.0, 2.0), True),
        ((0.0, 0.0, -2.0), False),  # behind
        ((0.0, 0.0, 0.1), False),  # nearer than 0.2
        # At depth 2 the image ends at x = 1.6 and y = 1.2. An extent of 0.1 is 1 pixel, seen aslant 1.44 (Jacobian
        # row (1, -1.04), its slant clamped) or 1.27 (slant 0.78); with the blur of 0.3 px^2 three deviations are 4.6
        # or 4.1 pixels, which round up to 5: half a metre.
        ((2.05, 0.0, 2.0), True),
        ((2.15, 0.0, 2.0), False),
        ((0.0, 1.65, 2.0), True),
        ((0.0, 1.75, 2.0), False),
    ],
)
def test_edges_of_the_view(place, seen):
    anchors = anchors_at([place], 0.1)
    assert visible_anchors(anchors.state(), looking_along_z()).tolist() == ([0] if seen else [])


def test_nothing_that_shows_is_left_out(camera):
    """An anchor's own Gaussian drawn with opacity 0.9 reaches alpha 1/255 at 3.3 deviations: what shows within three
    of them in the picture must be among the visible."""
    points = 3 * torch.randn(300, 3, generator=torch.Generator().manual_seed(3))
    anchors = Anchors(points, torch.full((300, 6), 0.05).log(), 0.01)
    found = set(visible_anchors(anchors.state(), camera).tolist())
    upright = torch.tensor([[1.0, 0, 0, 0]]).repeat(300, 1)
    prims = Primitives(
        points, upright, torch.full((300, 3), 0.05), torch.full((300,), 0.35)
    )  # 3.0 deviations
    out = rasterize(prims, camera.viewmat, camera.intrinsics, 32, 24, features=points, kind="gaussian")
    front = {
        one for one in out.visible.tolist() if float((points[one] - camera.centre) @ camera.forward) > 0.2
    }
    assert 0 < len(front) < 300
    assert front <= found
