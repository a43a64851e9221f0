from __future__ import annotations

import itertools

import pytest
import torch

from papertrial.efficient.qwen3_quantization.gptq import GptqOptions, gptq_weight, inverse_factor
from papertrial.efficient.qwen3_quantization.grids import GridOptions, fit_grid, round_weight
from papertrial.efficient.qwen3_quantization.naive import gptq_by_columns
from papertrial.errors import BadInputError


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group", [-1, 16])
@pytest.mark.parametrize("damping", [0.01, 0.5])
def test_white_inputs_give_plain_rounding(problem, bits, group, damping):
    weight, _, _ = problem()
    options = GptqOptions(GridOptions(bits, group), act_order=False, damping=damping)
    new = gptq_weight(weight, 3.0 * torch.eye(64), options)
    assert torch.equal(new.dequantize(), round_weight(weight, GridOptions(bits, group)).dequantize())


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group", [-1, 32, 96])
def test_the_fast_loop_agrees_with_the_plain_one(problem, output_error, bits, act_order, group):
    weight, _, hessian = problem(outputs=40, inputs=192, tokens=600, seed=bits)
    options = GptqOptions(GridOptions(bits, group), act_order=act_order)
    fast = gptq_weight(weight, hessian, options).dequantize()
    plain = gptq_by_columns(weight, hessian, GridOptions(bits, group), act_order=act_order)
    # the inverse is factored in float32 here and float64 there: a weight that falls half-way goes either way,
    # and carries the rest of its row along; scales of later groups differ in their last bits
    assert float(torch.isclose(fast, plain, rtol=1e-4, atol=1e-5).float().mean()) > 0.97
    errors = [output_error(one, weight, hessian) for one in (fast, plain)]
    assert errors[0] == pytest.approx(errors[1], rel=0.01)


def test_it_beats_rounding_on_random_problems(problem, output_error):
    wins = 0
    for seed in range(40):
        weight, _, hessian = problem(outputs=8, inputs=32, tokens=100, seed=seed)
        for bits in (2, 3, 4):
            grid = GridOptions(bits)
            ours = gptq_weight(weight, hessian, GptqOptions(grid)).dequantize()
            plain = round_weight(weight, grid).dequantize()
            wins += output_error(ours, weight, hessian) < output_error(plain, weight, hessian)
    assert wins >= 118  # of 120: the method is greedy, and may lose now and then


@pytest.mark.parametrize("seed", range(5))
def test_no_choice_of_codes_is_better_than_the_best(problem, output_error, seed):
    weight, _, hessian = problem(outputs=1, inputs=3, tokens=50, seed=seed)
    grid = GridOptions(3)
    new = gptq_weight(weight, hessian, GptqOptions(grid))
    scale, zero = fit_grid(weight, grid)
    choices = itertools.product(range(8), repeat=3)
    best = min(output_error((torch.tensor([c]) - zero) * scale, weight, hessian) for c in choices)
    plain = output_error(round_weight(weight, grid).dequantize(), weight, hessian)
    found = output_error(new.dequantize(), weight, hessian)
    assert best * (1 - 1e-6) <= found
    assert best <= plain


def test_the_block_size_changes_nothing_without_groups(problem):
    weight, _, hessian = problem(inputs=96)
    results = [
        gptq_weight(weight, hessian, GptqOptions(GridOptions(4), block=block)).dequantize()
        for block in (1, 32, 96, 128)
    ]
    for other in results[1:]:
        # sums in another order: a weight half-way between two codes may fall to the other side
        assert float((results[0] - other).abs().gt(1e-5).float().mean()) < 0.01


def test_stacked_matrices_are_solved_as_if_alone(problem):
    first, _, hessian = problem(seed=1)
    second, _, _ = problem(outputs=10, seed=2)
    options = GptqOptions(GridOptions(4, 16))
    stacked = gptq_weight(torch.cat([first, second]), hessian, options).dequantize()
    alone = [gptq_weight(weight, hessian, options).dequantize() for weight in (first, second)]
    assert torch.equal(stacked, torch.cat(alone))


def test_the_factor_is_that_of_the_damped_inverse(problem):
    _, _, hessian = problem()
    factor = inverse_factor(hessian, damping=0.02)
    damped = hessian.double() + 0.02 * hessian.double().diagonal().mean() * torch.eye(64)
    upper = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    # float32 against float64, condition number about 10³
    torch.testing.assert_close(factor.upper.double(), upper, rtol=1e-3, atol=1e-4)


def test_act_order_sorts_by_activity_and_groups_follow(problem):
    weight, x, _ = problem(tokens=900)
    x = x * torch.linspace(0.1, 3, 64)[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    hessian = 2 * x.T @ x / len(x)
    new = gptq_weight(weight, hessian, GptqOptions(GridOptions(4, 16)))
    places = torch.argsort(torch.argsort(hessian.diagonal(), descending=True, stable=True))
    assert torch.equal(new.group_of.long(), places // 16)
    assert new.scales.shape == (24, 4)
    assert gptq_weight(weight, hessian, GptqOptions(GridOptions(4))).group_of is None


def test_static_groups_are_consecutive_and_fitted_on_the_original(problem):
    weight, _, hessian = problem()
    grid = GridOptions(4, 16)
    new = gptq_weight(weight, hessian, GptqOptions(grid, static_groups=True))
    assert new.group_of is None
    assert torch.equal(new.scales, round_weight(weight, grid).scales)
    assert not torch.equal(new.codes, round_weight(weight, grid).codes)


def test_a_later_groups_grid_sees_what_earlier_blocks_corrected(problem):
    weight, _, hessian = problem(inputs=64)
    options = GptqOptions(GridOptions(3, 16), act_order=False, block=32)
    new, plain = gptq_weight(weight, hessian, options), round_weight(weight, options.grid)
    assert torch.equal(new.scales[:, :2], plain.scales[:, :2])  # both begin in the first block
    assert not torch.equal(new.scales[:, 2:], plain.scales[:, 2:])


def test_a_dead_channel_coarsens_the_released_grid(problem):
    weight, x, _ = problem()
    weight[:, 7] = 25.0  # never read, and larger than everything else
    x[:, 7] = 0.0
    hessian = 2 * x.T @ x / len(x)
    grids = {
        order: gptq_weight(weight, hessian, GptqOptions(GridOptions(4), grid_order=order))
        for order in ("released", "zeroed-first")
    }
    assert bool((grids["released"].scales > 2 * grids["zeroed-first"].scales).all())
    assert all(bool((grid.dequantize()[:, 7] == 0).all()) for grid in grids.values())
    change = {
        name: grid.dequantize() - weight.index_fill(1, torch.tensor([7]), 0) for name, grid in grids.items()
    }
    errors = {name: float((x @ d.T).square().sum()) for name, d in change.items()}
    assert errors["zeroed-first"] < errors["released"] / 3  # a step twice to five times as fine


def test_damping_is_raised_where_the_tokens_are_too_few(problem):
    weight, x, _ = problem(tokens=400)
    single = x[:1].expand(400, -1)  # all tokens alike: a Hessian of rank one
    hessian = 2 * single.T @ single / 400
    assert inverse_factor(hessian, damping=1e-9).damping > 1e-9
    new = gptq_weight(weight, hessian, GptqOptions(GridOptions(4), damping=1e-9))
    assert bool(torch.isfinite(new.dequantize()).all())


def test_hessians_that_cannot_be_used_are_refused_by_name(problem):
    weight, _, hessian = problem()
    options = GptqOptions(GridOptions(4))
    with pytest.raises(BadInputError, match=r"no input of layers\.0\.q is ever active"):
        gptq_weight(weight, torch.zeros(64, 64), options, name="layers.0.q")
    with pytest.raises(BadInputError, match=r"the Hessian of q is not finite"):
        gptq_weight(weight, hessian * float("nan"), options, name="q")
    with pytest.raises(BadInputError, match="not positive definite even with damping 1 "):
        inverse_factor(-hessian - torch.eye(64), name="q")
    with pytest.raises(BadInputError, match="q reads 64 inputs, its Hessian is of 32"):
        gptq_weight(weight, hessian[:32, :32], options, name="q")
    with pytest.raises(BadInputError, match="damping must lie above 0"):
        GptqOptions(GridOptions(4), damping=0.0)
    with pytest.raises(BadInputError, match="block must be at least 1, got 0"):
        GptqOptions(GridOptions(4), block=0)
