from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from papertrial.efficient.apollo.projection import (
    draw_projection,
    first_seed,
    next_seed,
    project,
    projection_shape,
    svd_projection,
)

CPU = torch.device("cpu")
sides = st.integers(1, 9)


def draw(seed, shape, rank, dtype=torch.float32, **options):
    return draw_projection(seed, shape, rank, dtype=dtype, device=CPU, **options)


@given(rows=sides, columns=sides, data=st.data())
def test_projection_shrinks_the_smaller_side_and_keeps_the_channels(rows, columns, data):
    rank = data.draw(st.integers(1, min(rows, columns)))
    gradient = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    projected = project(gradient, draw(3, projection_shape((rows, columns), rank), rank))
    assert projected.shape == ((rank, columns) if rows < columns else (rows, rank))


def test_entries_have_variance_one_over_rank():
    rank = 16
    entries = draw(5, (rank, 4096), rank)
    # 65,536 draws: the standard error of the variance is 0.55 %, of the mean 0.1 % of 1 / sqrt(rank).
    assert entries.var().item() == pytest.approx(1 / rank, rel=0.03)
    assert abs(entries.mean().item()) < 0.02 / math.sqrt(rank)


def test_norms_are_kept_on_average():
    """E‖Px‖² = ‖x‖²: one vector through 400 projections of rank 8 (relative standard error 2.5 %)."""
    vector = torch.randn(1, 24, generator=torch.Generator().manual_seed(2))
    squares = [
        project(vector.expand(24, 24), draw(seed, (8, 24), 8))[0].square().sum() for seed in range(400)
    ]
    assert torch.stack(squares).mean().item() == pytest.approx(vector.square().sum().item(), rel=0.1)


def test_drawn_in_float32_and_then_cast():
    assert torch.equal(draw(7, (4, 6), 4, torch.bfloat16), draw(7, (4, 6), 4).to(torch.bfloat16))


def test_draw_on_cpu_and_on_the_gradients_device_agree_on_a_cpu():
    assert torch.equal(draw(7, (4, 6), 4), draw(7, (4, 6), 4, draw_on="gradient"))


def test_seed_order_is_the_released_one():
    """The last of fifteen int64 draws, written out here from the released code's description."""
    generator = torch.Generator().manual_seed(3)
    draws = [
        int(torch.randint(0, torch.iinfo(torch.int64).max, (1,), generator=generator)) for _ in range(15)
    ]
    assert next_seed(3) == draws[-1]
    assert [first_seed(number, 0) for number in (1, 2, 3)] == [1, 2, 3]


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 50))
def test_other_run_seeds_give_every_parameter_its_own(one, other, run_seed):
    assert (first_seed(one, run_seed) == first_seed(other, run_seed)) == (one == other)
    assert first_seed(one, run_seed) != first_seed(one, run_seed + 1)
    torch.Generator().manual_seed(first_seed(one, run_seed))  # in range


@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (6, 6)])
def test_svd_projection_keeps_a_gradient_of_its_rank(shape):
    generator = torch.Generator().manual_seed(1)
    gradient = torch.randn(shape[0], 2, generator=generator) @ torch.randn(2, shape[1], generator=generator)
    projection = svd_projection(gradient, 2)
    projected = project(gradient, projection)
    back = projection @ projected if shape[0] < shape[1] else projected @ projection
    # Float32 rounding of an SVD and two products of entries near 1.
    torch.testing.assert_close(back, gradient, atol=1e-5, rtol=1e-5)


def test_svd_projection_keeps_the_gradients_dtype():
    assert svd_projection(torch.randn(6, 4).to(torch.bfloat16), 2).dtype == torch.bfloat16
