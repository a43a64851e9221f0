from __future__ import annotations

import pytest
import torch

from papertrial.efficient.apollo import GaLore
from papertrial.efficient.apollo.projection import draw_projection, projection_shape


def plain_galore(start, stream, projections, *, lr, scale, weight_decay=0.0):
    """The update as GaLore's paper writes it, every intermediate in the open."""
    weight, first, second = start.detach().clone(), 0.0, 0.0
    wide = weight.shape[0] < weight.shape[1]
    for step, (gradient, projection) in enumerate(zip(stream, projections, strict=True), start=1):
        seen = projection.T @ gradient if wide else gradient @ projection.T
        first = 0.9 * first + 0.1 * seen
        second = 0.999 * second + 0.001 * seen**2
        direction = first / (second**0.5 + 1e-6)
        back = projection @ direction if wide else direction @ projection
        rate = lr * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        weight = weight - rate * scale * back
        weight = weight - lr * weight_decay * weight
    return weight


@pytest.mark.parametrize("shape", [(12, 8), (8, 12), (8, 8)])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_random_projection_equals_the_plain_update(shape, decay, weight, gradients, run):
    ours = weight(*shape)
    start, stream = ours.detach().clone(), gradients(shape, 5)
    run(
        GaLore([{"params": [ours], "rank": 3}], lr=0.02, scale=0.5, proj="random", weight_decay=decay),
        {ours: stream},
    )
    drawn = draw_projection(1, projection_shape(shape, 3), 3, dtype=torch.float32, device=torch.device("cpu"))
    expected = plain_galore(start, stream, [drawn] * 5, lr=0.02, scale=0.5, weight_decay=decay)
    torch.testing.assert_close(ours.detach(), expected, atol=1e-6, rtol=1e-6)  # float32 rounding


@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
def test_svd_projection_equals_numpys(shape, weight, gradients, run):
    """The subspace comes from numpy's SVD in double precision, anew after three steps."""
    import numpy as np

    ours = weight(*shape)
    start, stream = ours.detach().clone(), gradients(shape, 5)
    run(GaLore([{"params": [ours], "rank": 3}], lr=0.02, update_proj_gap=3), {ours: stream})
    projections = []
    for step, gradient in enumerate(stream):
        if step % 3 == 0:
            left, _, right = np.linalg.svd(gradient.double().numpy())
            side = left[:, :3] if shape[0] < shape[1] else right[:3]
        projections.append(torch.from_numpy(side).float())
    # A flipped sign would flip a column of the moments: align with torch's choice of sign at each draw.
    from papertrial.efficient.apollo.projection import svd_projection

    for step in (0, 3):
        dim = 0 if shape[0] < shape[1] else 1
        signs = (projections[step] * svd_projection(stream[step], 3)).sum(dim, keepdim=True).sign()
        for later in range(step, min(step + 3, 5)):
            projections[later] = projections[later] * signs
    expected = plain_galore(start, stream, projections, lr=0.02, scale=0.25)
    # Singular vectors in float32 against float64: 1e-5 relative, times five steps of 0.02 · 0.25.
    torch.testing.assert_close(ours.detach(), expected, atol=1e-5, rtol=1e-4)


def test_updates_stay_in_the_subspace(weight, gradients, run):
    """What APOLLO does not do: between two draws the weight moves by a matrix of rank r at most."""
    ours = weight(10, 8)
    start = ours.detach().clone()
    run(GaLore([{"params": [ours], "rank": 2}], lr=0.1), {ours: gradients((10, 8), 6)})
    values = torch.linalg.svdvals(ours.detach() - start)
    assert values[1] > 1e-3
    assert values[2] < 1e-5  # float32 rounding of weights near 0.1


def test_full_rank_svd_is_adam_in_a_rotated_space(weight, gradients, run):
    """With r = m the projection is orthogonal: the first step has the norm of Adam's, a sign matrix."""
    ours = weight(6, 6)
    start = ours.detach().clone()
    run(GaLore([{"params": [ours], "rank": 6}], lr=1.0, eps=0.0, scale=1.0), {ours: gradients((6, 6), 1)})
    moved = (start - ours.detach()).norm().item()
    # R = G Vᵀ has 36 entries; each moves by ±1 in the rotated space.
    assert moved == pytest.approx(6.0, rel=1e-4)
