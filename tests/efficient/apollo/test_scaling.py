from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from papertrial.efficient.apollo.projection import draw_projection, project, projection_shape
from papertrial.efficient.apollo.scaling import (
    adam_direction,
    alpha,
    bias_correction,
    channel_factors,
    channel_norms,
    limit_growth,
)


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (5, 5), (2100, 600), (600, 2100), (1, 4), (4, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_channel_norms_are_those_of_a_loop(shape, dtype):
    """Against math.dist in double precision; float32 sums of 2,100 squares err by 1e-6 at most."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    channels = matrix.T if shape[0] < shape[1] else matrix
    norms = channel_norms(matrix)
    some = range(0, len(channels), max(1, len(channels) // 7))
    for index in some:
        expected = math.hypot(*channels[index].double().tolist())
        assert norms[index].item() == pytest.approx(expected, rel=1e-5)
    assert len(norms) == max(shape)


def test_factors_follow_the_square_root_law():
    """s^R / s ≈ √(r/m) (theorem A.4): over many streams, within the sheet's 10 % for r of 16 and more."""
    rows, columns, steps = 96, 64, 12
    generator = torch.Generator().manual_seed(4)

    def factors(gradients, rank, seed):
        shape = (rows, columns if rank is None else rank)
        moments = torch.zeros(shape), torch.zeros(shape)
        for gradient in gradients:
            seen = gradient
            if rank is not None:
                drawn = draw_projection(
                    seed,
                    projection_shape((rows, columns), rank),
                    rank,
                    dtype=torch.float32,
                    device=torch.device("cpu"),
                )
                seen = project(gradient, drawn)
            direction = adam_direction(seen, *moments, betas=(0.9, 0.999), eps=0.0)
        return channel_factors(direction, seen, wide=False)

    for rank in (16, 32, 64):
        ratios = []
        for seed in range(20):
            gradients = [torch.randn(rows, columns, generator=generator) for _ in range(steps)]
            ratios.append((factors(gradients, rank, seed) / factors(gradients, None, 0)).mean())
        assert torch.stack(ratios).mean().item() == pytest.approx(math.sqrt(rank / columns), rel=0.1)


def test_bias_correction_turns_the_first_direction_into_a_sign():
    """After one step M / √V is (1−β1) / √(1−β2) times the sign; the correction undoes just that."""
    gradient = torch.tensor([[0.3, -2.0]])
    direction = adam_direction(gradient, torch.zeros(1, 2), torch.zeros(1, 2), betas=(0.9, 0.999), eps=0.0)
    torch.testing.assert_close(direction * bias_correction(1, (0.9, 0.999)), gradient.sign())


def test_alpha_is_the_root_and_auto_undoes_the_law():
    assert alpha(128.0, (8, 8), 1) == pytest.approx(math.sqrt(128))
    assert alpha("auto", (512, 64), 16) == pytest.approx(2.0)


norms = st.floats(1e-6, 1e6)


@given(arrays("float64", st.integers(2, 12), elements=norms))
def test_limited_norms_grow_by_gamma_at_most_and_never_grow(values):
    """Equation 4 as an invariant, along any sequence of norms; 1e-8 floor and float64 rounding allowed."""
    previous = torch.zeros((), dtype=torch.float64)
    for norm in torch.from_numpy(values):
        divisor, limited = limit_growth(norm, previous, 1.01)
        assert divisor >= 1 - 1e-12
        if previous > 0:
            assert limited <= 1.01 * (previous + 1e-8) * (1 + 1e-12)
        if previous == 0:
            assert limited == norm
        previous = limited


def test_a_zero_norm_is_no_history():
    divisor, limited = limit_growth(torch.tensor(5.0), torch.tensor(0.0), 1.01)
    assert (divisor, limited) == (1.0, 5.0)
