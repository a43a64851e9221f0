from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from papertrial.efficient.qwen3_quantization.grids import (
    GridOptions,
    fit_grid,
    grid_values,
    round_to_grid,
    round_weight,
)
from papertrial.errors import BadInputError


def _plain_rounding(row, bits, rule):
    """The rules written out for one row of Python numbers."""
    levels = 2**bits - 1
    low, high = min(row), max(row)
    if rule == "absmax":
        scale = max(max(abs(w) for w in row), 1e-5) / (2 ** (bits - 1) - 1)
        return [float(np.rint(w / scale)) * scale for w in row]
    if rule == "free":
        scale = max(high - low, 1e-5) / levels
        zero = min(max(-float(np.rint(low / scale)), 0), levels)
    else:
        low, high = min(0.0, low), max(0.0, high)
        if rule == "symmetric":
            high = max(abs(low), high)
            low = -high if low < 0 else low
        if low == high == 0:
            low, high = -1.0, 1.0
        scale = (high - low) / levels
        zero = (levels + 1) / 2 if rule == "symmetric" else float(np.rint(-low / scale))
    return [scale * (min(max(float(np.rint(w / scale)) + zero, 0), levels) - zero) for w in row]


@pytest.mark.parametrize("rule", ["minmax", "symmetric", "free", "absmax"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rounding_follows_its_rule(rule, bits):
    generator = torch.Generator().manual_seed(bits)
    weight = torch.randn(6, 16, generator=generator, dtype=torch.float64)
    weight[1] = weight[1].abs() + 0.5  # one sign: minmax still reaches down to zero, free does not
    weight[2] = 0.0
    weight[3] = -weight[3].abs()
    weight = weight.float()
    new = round_weight(weight, GridOptions(bits, -1, rule)).dequantize()
    expected = torch.tensor([_plain_rounding(row, bits, rule) for row in weight.double().tolist()])
    # Scales are float32 here and float64 there: where a weight lies half-way between two codes (the largest of
    # a symmetric row does), either is right.
    step = fit_grid(weight, GridOptions(bits, -1, rule))[0]
    halfway = ((weight / step).frac().abs() - 0.5).abs() < 1e-4
    assert float(halfway.float().mean()) < 0.1
    torch.testing.assert_close(new[~halfway], expected.float()[~halfway], rtol=1e-5, atol=1e-6)


@given(
    bits=st.sampled_from([2, 3, 4, 8]),
    seed=st.integers(0, 1000),
    scale=st.floats(1e-3, 1e3),
)
def test_no_weight_moves_by_more_than_a_step(bits, seed, scale):
    weight = scale * torch.randn(4, 32, generator=torch.Generator().manual_seed(seed))
    options = GridOptions(bits, 8)
    rows = weight.reshape(-1, 8)
    step, _ = fit_grid(rows, options)
    moved = (grid_values(weight, options).reshape(-1, 8) - rows).abs()
    # half a step, and half more at one end where the zero point was rounded
    assert bool((moved <= step * (1 + 1e-4)).all())


def test_awqs_grid_clips_groups_of_one_sign():
    weight = torch.tensor([[3.0, 3.1, 3.2, 3.4]])  # the zero point would be −112, and is cut to 0
    free, minmax = (grid_values(weight, GridOptions(4, -1, rule)) for rule in ("free", "minmax"))
    assert float(free.max()) == pytest.approx(15 * 0.4 / 15)
    torch.testing.assert_close(minmax, weight, rtol=0, atol=3.4 / 15)


def test_the_error_of_even_weights_is_a_twelfth_of_a_squared_step():
    weight = torch.rand(64, 4096, generator=torch.Generator().manual_seed(0)) * 2 - 1
    step, _ = fit_grid(weight, GridOptions(4))
    error = (grid_values(weight, GridOptions(4)) - weight).square().mean(1) / step[:, 0].square()
    # s²/12 over 262,144 weights, whose standard error is 0.0002; the clipped end adds a little
    assert float(error.mean()) == pytest.approx(1 / 12, rel=0.02)


def test_groups_are_rows_of_their_own():
    weight = torch.randn(5, 48, generator=torch.Generator().manual_seed(0))
    grouped = round_weight(weight, GridOptions(4, 16)).dequantize()
    for group in range(3):
        columns = slice(16 * group, 16 * group + 16)
        alone = round_weight(weight[:, columns].contiguous(), GridOptions(4)).dequantize()
        assert torch.equal(grouped[:, columns], alone)


def test_the_search_shrinks_a_row_with_one_large_weight():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 256, generator=generator)
    weight[0, 0] = 12.0
    plain, searched = (grid_values(weight, GridOptions(3, search=search)) for search in (False, True))

    def cost(values):
        return float((values - weight).abs().pow(2.4).sum())

    assert cost(searched) < cost(plain)
    levels, best = 7, float("inf")
    low, high = float(weight.min()), float(weight.max())
    for step in range(80):  # every candidate, one after the other
        share = 1 - step / 100
        scale = torch.tensor([[(share * high - share * low) / levels]])
        zero = (-share * low / scale).round()
        values = (round_to_grid(weight, scale, zero, levels) - zero) * scale
        best = min(best, cost(values))
    assert cost(searched) == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", ["minmax", "free", "absmax"])
def test_stored_scales_are_the_ones_that_were_rounded_to(scale_dtype, rule):
    weight = 1e-3 * torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    options = GridOptions(8, 16, rule, scale_dtype=scale_dtype)
    quantised = round_weight(weight, options)
    assert quantised.scales.dtype == scale_dtype
    assert torch.equal(quantised.dequantize(), grid_values(weight, options))


def test_scales_that_do_not_fit_their_format_are_refused():
    weight = torch.tensor([[1e6, -1e6]])
    with pytest.raises(BadInputError, match=r"scales up to .* do not fit torch.float16"):
        round_weight(weight, GridOptions(2, scale_dtype=torch.float16))
    tiny = torch.tensor([[1e-9, -1e-9]])
    assert bool(
        torch.isfinite(round_weight(tiny, GridOptions(4, scale_dtype=torch.float16)).dequantize()).all()
    )


def test_impossible_grids_are_refused():
    with pytest.raises(BadInputError, match="bits must be one of 2, 3, 4, 8, got 5"):
        GridOptions(5)
    with pytest.raises(
        BadInputError, match="group_size must be at least 1, or -1 for one scale a row, got 0"
    ):
        GridOptions(4, 0)
    with pytest.raises(BadInputError, match="clip search by mean error is for minmax and symmetric grids"):
        GridOptions(4, rule="free", search=True)
    with pytest.raises(
        BadInputError, match=r"group_size must divide the inputs of q: 64 is no multiple of 48; use 32"
    ):
        round_weight(torch.zeros(2, 64), GridOptions(4, 48), "q")
    with pytest.raises(BadInputError, match="q has weights that are not finite"):
        round_weight(torch.tensor([[1.0, float("nan")]]), GridOptions(4), "q")
