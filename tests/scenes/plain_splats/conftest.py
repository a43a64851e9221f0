"""Scenes and views shared by the tests of plain splats."""

from __future__ import annotations

import pytest
import torch

from papertrial.scenes.cameras import Camera, intrinsics_for, look_at
from papertrial.scenes.colmap import Posed
from papertrial.scenes.plain_splats import SplatScene


@pytest.fixture
def cloud():
    """Return points in a unit cube about the origin and their colours."""

    def make(count=60, seed=0):
        draw = torch.Generator().manual_seed(seed)
        return torch.rand(count, 3, generator=draw) - 0.5, torch.rand(count, 3, generator=draw)

    return make


@pytest.fixture
def cameras():
    """Return cameras round the origin that look at it."""

    def make(count=4, pixels=16):
        places = [(2.0, 0.3, 0.5), (0.2, 2.2, -0.4), (-1.9, 0.1, 0.6), (0.4, -2.1, 0.2)][:count]
        matrix = intrinsics_for(pixels, pixels, 50.0)
        return [
            Camera(look_at(eye, (0.0, 0.0, 0.0)), matrix, pixels, pixels, f"view_{at}").to(torch.float32)
            for at, eye in enumerate(places)
        ]

    return make


@pytest.fixture
def views(cameras, cloud):
    """Return photographs of another scene of the same kind: something to be fitted to."""

    def make(kind="surfel", count=4, pixels=16):
        from papertrial.scenes.plain_splats import PlainFit, PlainSettings

        target = SplatScene.from_points(*cloud(200, seed=9), kind)
        with torch.no_grad():
            target.opacity_logits.fill_(2.0)
            target.bands.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
        settings = PlainSettings() if kind == "surfel" else PlainSettings.gaussians()
        blank = [Posed(camera, torch.zeros(pixels, pixels, 3)) for camera in cameras(count, pixels)]
        looking = PlainFit(target, blank, settings)
        return [Posed(one.camera, looking.render(one.camera).colour.clamp(0, 1)) for one in blank]

    return make
