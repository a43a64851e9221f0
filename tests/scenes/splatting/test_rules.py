"""Rules that no image can follow."""

from __future__ import annotations

import pytest

from papertrial.errors import BadInputError
from papertrial.scenes.splatting import Rules


@pytest.mark.parametrize(
    ("near", "far", "most_alpha"),
    [(-0.1, 100.0, 0.99), (2.0, 2.0, 0.99), (0.2, 100.0, 1.0), (0.2, 100.0, 0.0)],
)
def test_planes_and_alphas_that_cannot_be_are_refused(near, far, most_alpha):
    with pytest.raises(BadInputError, match=rf"got {near}, {far} and {most_alpha}"):
        Rules(near=near, far=far, most_alpha=most_alpha)
