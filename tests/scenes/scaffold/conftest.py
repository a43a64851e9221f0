"""Anchors small enough to follow by hand."""

from __future__ import annotations

import pytest
import torch

from papertrial.scenes.cameras import Camera, intrinsics_for, look_at
from papertrial.scenes.scaffold import Anchors, Decoder


@pytest.fixture
def camera():
    """Two metres in front of the origin, 32 x 24 pixels."""
    return Camera(
        look_at((0.0, -2.0, 0.3), (0.0, 0.0, 0.0)), intrinsics_for(32, 24, 60.0), 32, 24, "front"
    ).to(torch.float32)


@pytest.fixture
def make_scaffold():
    """Return a function that makes anchors with random parameters and a decoder."""

    def make(count=5, per_anchor=3, features=4, seed=0, dtype=torch.float32, **decoder):
        draw = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

        anchors = Anchors(
            0.4 * normal(count, 3),
            -1.5 + 0.2 * normal(count, 6),
            0.01,
            per_anchor=per_anchor,
            feature_size=features,
        )
        with torch.no_grad():
            anchors.features.copy_(normal(count, features))
            anchors.offsets.copy_(normal(count, per_anchor, 3))
        torch.manual_seed(seed)
        return anchors, Decoder(per_anchor, features, hidden=8, **decoder).to(dtype)

    return make
