"""Which anchors are seen: against corners worked out by hand, and every anchor that shows in a picture."""

from __future__ import annotations

import pytest
import torch

from papertrial.scenes.cameras import Camera
from papertrial.scenes.scaffold import Anchors, visible_anchors
from papertrial.scenes.splatting import Primitives, Rules, project, rasterize


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


def test_the_screen_is_that_of_the_rasteriser(camera):
    """Radii by the rasteriser's own projection of upright Gaussians, for extents that differ by axis and a skewed,
    oblong pixel; float64, so that rounding up to pixels meets no tie."""
    draw = torch.Generator().manual_seed(8)
    points = (4 * torch.randn(800, 3, generator=draw)).double()
    logs = torch.randn(800, 6, generator=draw).double() - 2
    anchors = Anchors(points, logs, 0.01)
    matrix = torch.tensor([[21.0, 1.5, 15.0], [0, 26.0, 12.5], [0, 0, 1.0]], dtype=torch.float64)
    skewed = Camera(camera.viewmat.double(), matrix, 32, 24)
    upright = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64).repeat(800, 1)
    own = Primitives(points, upright, logs[:, :3].exp(), torch.ones(800, dtype=torch.float64))
    screen = project(own, skewed.viewmat, matrix, (32, 24), Rules("gaussian"))
    a, b, c = screen.conic.unbind(-1)
    covariance = torch.linalg.inv(torch.stack([torch.stack([a, b], -1), torch.stack([b, c], -1)], -2))
    radius = (3 * torch.linalg.eigvalsh(covariance)[:, -1].sqrt()).ceil()[:, None]
    reaches = (screen.centre + radius > 0) & (screen.centre - radius < torch.tensor([32, 24]))
    expected = (reaches.all(-1) & (screen.depth > 0.2)).nonzero()[:, 0]
    assert 50 < len(expected) < 500
    assert visible_anchors(anchors.state(), skewed).tolist() == expected.tolist()
