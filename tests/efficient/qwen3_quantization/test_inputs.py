from __future__ import annotations

import pytest
import torch

from papertrial.efficient.qwen3_quantization.inputs import (
    InputStatistics,
    add_outer_products,
    relative_error,
    stride_for,
)
from papertrial.errors import BadInputError


@pytest.mark.parametrize("width", [1, 100, 256, 300, 600])
def test_half_a_product_is_the_whole_one(width):
    x = torch.randn(50, width, generator=torch.Generator().manual_seed(0))
    total = add_outer_products(add_outer_products(None, x[:20]), x[20:])
    exact = (x.double().T @ x.double()).float()
    # fifty products, added in float32
    torch.testing.assert_close(total.triu(), exact.triu(), rtol=1e-4, atol=1e-4)


def test_batches_add_up_to_the_whole():
    x = torch.randn(7, 30, 40, generator=torch.Generator().manual_seed(0))
    seen = InputStatistics(moment=True, sample_every=9)
    for part in x.split([1, 4, 2]):
        seen.add(part)
    flat = x.flatten(0, 1)
    assert seen.tokens == 210
    torch.testing.assert_close(seen.absolute_mean(), flat.abs().mean(0))
    assert torch.equal(seen.absolute_max, flat.abs().amax(0))
    torch.testing.assert_close(seen.moment(), flat.T @ flat, rtol=1e-4, atol=1e-4)
    assert torch.equal(seen.sample(), flat[::9])  # the stride runs on from batch to batch


def test_a_moment_can_be_looked_at_while_tokens_stream_by_and_be_taken_in_the_end():
    """Three blocks wide, so that whole blocks below the diagonal are mirrored; again after more was added."""
    x = torch.randn(30, 600, generator=torch.Generator().manual_seed(0))
    seen, alone = InputStatistics(moment=True, sample_every=1), InputStatistics(moment=True)
    seen.add(x[:20])
    assert torch.equal(seen.moment(), seen.moment().T)
    seen.add(x[20:])
    for part in (x[:20], x[20:]):
        alone.add(part)
    taken = seen.take_moment()
    assert torch.equal(taken, alone.moment())
    assert torch.equal(taken, taken.T)
    torch.testing.assert_close(taken, x.T @ x, rtol=1e-4, atol=1e-4)
    for look in (seen.moment, seen.sample):  # it is the caller's now
        with pytest.raises(BadInputError, match="no activations"):
            look()


def test_squares_of_half_precision_do_not_overflow():
    x = torch.full((4, 8), 600.0, dtype=torch.float16)  # 600² is beyond float16
    seen = InputStatistics(moment=True)
    seen.add(x)
    assert bool((seen.moment() == 4 * 600.0**2).all())


@pytest.mark.parametrize("tokens", [1, 511, 512, 1023, 1024, 5000, 262_144])
def test_the_stride_keeps_between_one_and_two_times_as_many(tokens):
    stride = stride_for(tokens, 512)
    kept = -(-tokens // stride)
    assert kept == tokens if tokens < 1024 else 512 <= kept <= 1024


def test_the_relative_error_is_that_of_the_tokens():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(90, 16, generator=generator), torch.randn(5, 16, generator=generator)
    change = 0.1 * torch.randn(5, 16, generator=generator)
    expected = float((x @ change.T).square().sum() / (x @ weight.T).square().sum())
    assert relative_error(change, weight, x.T @ x) == pytest.approx(expected, rel=1e-4)
    assert relative_error(change, weight * 0, x.T @ x) != relative_error(change, weight, x.T @ x)


def test_nothing_seen_is_said():
    seen = InputStatistics()
    for look in (seen.absolute_mean, seen.moment, seen.sample):
        with pytest.raises(BadInputError, match="no activations"):
            look()
