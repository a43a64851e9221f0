from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.efficient.apollo import Apollo
from papertrial.efficient.apollo.naive import naive_state, naive_step
from papertrial.efficient.apollo.optimizer import move_scaled
from papertrial.efficient.apollo.projection import draw_projection, next_seed, projection_shape
from papertrial.efficient.apollo.scaling import as_column_or_row

CPU = torch.device("cpu")


def draw(seed, shape, rank, dtype=torch.float32):
    return draw_projection(seed, projection_shape(shape, rank), rank, dtype=dtype, device=CPU)


def naive_run(start, stream, rank, gap, **options):
    """Step the plain reference through a stream, drawing the projections of parameter number 1."""
    weight, state, seed = start.detach().clone(), naive_state(tuple(start.shape), rank, start.dtype), 1
    for step, gradient in enumerate(stream):
        if step > 0 and step % gap == 0:
            seed = next_seed(seed)
        projection = draw(seed, tuple(start.shape), rank, start.dtype)
        weight = naive_step(weight, gradient, projection, state, **options)
    return weight


SHAPES = [(12, 8), (8, 12), (8, 8), (3, 200), (700, 900), (900, 700)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale_type", ["channel", "tensor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_equals_the_plain_reference(shape, scale_type, dtype, weight, gradients, run):
    fast = weight(*shape, dtype=dtype)
    start, stream = fast.detach().clone(), gradients(shape, 7, dtype=dtype)
    optimizer = Apollo(
        [{"params": [fast], "rank": 3}], lr=0.01, update_proj_gap=3, scale_type=scale_type, scale=4.0
    )
    run(optimizer, {fast: stream})
    slow = naive_run(start, stream, 3, 3, lr=0.01, alpha=2.0, scale_type=scale_type)
    assert (slow - start).abs().max() > 1e-3  # something moved
    # ‖U‖ is summed per channel in one and per element in the other: rounding of a sum of 630,000 squares.
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(fast.detach(), slow, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        dict(zip(("limiter", "scale_front", "correct_inside", "weight_decay"), values, strict=True))
        for values in itertools.product((1.01, None), (False, True), (False, True), (0.0, 0.1))
    ],
)
def test_every_option_equals_the_plain_reference(options, weight, gradients, run):
    fast = weight(10, 6)
    start, stream = fast.detach().clone(), gradients((10, 6), 6)
    run(
        Apollo([{"params": [fast], "rank": 4}], lr=0.02, update_proj_gap=4, scale=9.0, **options),
        {fast: stream},
    )
    slow = naive_run(start, stream, 4, 4, lr=0.02, alpha=3.0, **options)
    torch.testing.assert_close(fast.detach(), slow, atol=1e-6, rtol=1e-6)  # float32 rounding


@pytest.mark.parametrize("options", [{}, {"scale_type": "tensor"}])
@pytest.mark.parametrize("shape", [(16, 8), (8, 16)])
def test_bfloat16_weights_follow_the_reference_to_their_own_precision(options, shape, weight, gradients, run):
    fast = weight(*shape, dtype=torch.bfloat16)
    start, stream = fast.detach().float(), gradients(shape, 5, dtype=torch.bfloat16)
    run(Apollo([{"params": [fast], "rank": 4}], lr=0.01, **options), {fast: stream})
    slow = naive_run(start, [gradient.float() for gradient in stream], 4, 200, lr=0.01, **options)
    # bfloat16 keeps 8 bits: half a unit of 0.4 % for each of five roundings of weights up to 0.3.
    torch.testing.assert_close(fast.detach().float(), slow, atol=5e-3, rtol=0)
    assert (slow - start).abs().max() > 0.02


@pytest.mark.parametrize("factors", [torch.tensor(0.123456), torch.tensor([0.123456, 0.7, 0.31])])
def test_bfloat16_weights_are_rounded_once(factors):
    """The coefficient itself is not rounded to bfloat16, which one without dimensions would be."""
    generator = torch.Generator().manual_seed(0)
    weight, gradient = torch.randn(2, 3, 2, generator=generator).bfloat16()
    exact = (
        weight.double() - gradient.double() * (factors if factors.ndim == 0 else factors[:, None]).double()
    )
    move_scaled(weight, gradient, as_column_or_row(factors, weight.shape), 1.0)
    assert torch.equal(weight, exact.bfloat16())


def identity(optimizer, *parameters):
    """Let a projection of full rank be the identity, by putting it where the drawn ones are kept."""
    original = optimizer._projection

    def projection(parameter, gradient, group):
        drawn = original(parameter, gradient, group)
        if parameter in parameters:
            drawn = optimizer._projections[parameter] = torch.eye(min(gradient.shape))
        return drawn

    optimizer._projection = projection


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_full_rank_identity_is_channel_scaled_adam(shape, weight, gradients, run):
    """Oracle: with P = 1, U_j = G_j · ‖G̃_j‖ / ‖G_j‖, where G̃ comes from torch's own Adam."""
    ours, theirs = weight(*shape), weight(*shape)
    start, stream = ours.detach().clone(), gradients(shape, 1)
    optimizer = Apollo([{"params": [ours], "rank": 5}], lr=1.0, eps=0.0, limiter=None)
    identity(optimizer, ours)
    run(optimizer, {ours: stream})
    run(torch.optim.Adam([theirs], lr=1.0, eps=0.0), {theirs: stream})
    adam, gradient = theirs.detach() - start, stream[0]
    rank_dim = 1 if shape[0] >= shape[1] else 0
    expected = gradient * adam.norm(dim=rank_dim, keepdim=True) / gradient.norm(dim=rank_dim, keepdim=True)
    torch.testing.assert_close(start - ours.detach(), expected, atol=1e-5, rtol=1e-5)  # float32, lr 1


def test_single_row_moves_as_adam_does_with_the_gradients_sign(weight, gradients, run):
    """Oracle: for a (1, n) weight each channel is one element, so |U| is Adam's and the sign is G's."""
    ours, theirs = weight(1, 12), weight(1, 12)
    optimizer = Apollo([{"params": [ours], "rank": 1}], lr=0.1, eps=0.0, limiter=None)
    identity(optimizer, ours)
    adam = torch.optim.Adam([theirs], lr=0.1, eps=0.0)
    for small in gradients((1, 12), 6):
        gradient = small * 1e3  # the 1e-8 floor under ‖R‖ is then out of sight
        before, adam_before = ours.detach().clone(), theirs.detach().clone()
        run(optimizer, {ours: [gradient]})
        run(adam, {theirs: [gradient]})
        moved, adam_moved = ours.detach() - before, theirs.detach() - adam_before
        torch.testing.assert_close(moved.abs(), adam_moved.abs(), atol=1e-6, rtol=1e-5)  # float32
        assert torch.equal(moved.sign(), -gradient.sign())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dense_group_is_torch_adamw_where_epsilon_does_not_matter(dtype, weight, gradients, run):
    ours, theirs, other = weight(30, dtype=dtype), weight(30, dtype=dtype), weight(4, 4)
    stream = gradients((30,), 8, dtype=dtype)
    optimizer = Apollo([{"params": [ours]}, {"params": [other], "rank": 2}], lr=0.01, eps=1e-12)
    run(optimizer, {ours: stream})
    run(torch.optim.AdamW([theirs], lr=0.01, eps=1e-12, weight_decay=0.0), {theirs: stream})
    tolerance = 1e-6 if dtype == torch.float32 else 4e-3  # torch keeps bfloat16 moments, we float32
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_dense_epsilon_and_decay_follow_the_plain_formula(decay, weight, gradients, run):
    """The fused kernel's arguments are turned around to give M/(√V + ε) and a decay after the step."""
    ours, other = weight(20), weight(4, 4)
    expected, stream = ours.detach().double(), gradients((20,), 5)
    first, second = torch.zeros(20, dtype=torch.float64), torch.zeros(20, dtype=torch.float64)
    groups = [{"params": [ours]}, {"params": [other], "rank": 2}]
    run(Apollo(groups, lr=0.1, eps=1e-3, weight_decay=decay), {ours: stream})
    for step, gradient in enumerate(stream, start=1):
        first = 0.9 * first + 0.1 * gradient.double()
        second = 0.999 * second + 0.001 * gradient.double() ** 2
        rate = 0.1 * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        expected = (expected - rate * first / (second.sqrt() + 1e-3)) * (1 - 0.1 * decay)
    torch.testing.assert_close(ours.detach().double(), expected, atol=1e-6, rtol=1e-5)  # float32


@settings(max_examples=25)
@given(
    factor=st.floats(1e-3, 1e3), rows=st.integers(2, 9), columns=st.integers(2, 9), seed=st.integers(0, 99)
)
def test_scaling_all_gradients_changes_nothing(factor, rows, columns, seed):
    """Scale equivariance, limiter included; ε = 0, and the 1e-8 floors are far below gradients of 1e-3."""

    def moved(scale):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.nn.Parameter(torch.zeros(rows, columns, dtype=torch.float64))
        optimizer = Apollo([{"params": [weight], "rank": 2}], lr=0.01, eps=0.0)
        for _ in range(4):
            weight.grad = torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale
            optimizer.step()
        return weight.detach()

    torch.testing.assert_close(moved(factor), moved(1.0), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("scale_type", ["channel", "tensor"])
def test_transposed_weight_gives_transposed_result(scale_type, weight, gradients, run):
    tall = weight(12, 7)
    wide = torch.nn.Parameter(tall.detach().T.clone())
    stream = gradients((12, 7), 5)
    for parameter, gradient_stream in ((tall, stream), (wide, [gradient.T.clone() for gradient in stream])):
        optimizer = Apollo([{"params": [parameter], "rank": 3}], lr=0.01, scale_type=scale_type)
        projection = draw(5, (12, 7), 3)
        optimizer._projection = lambda *_, p=parameter, drawn=projection: drawn if p is tall else drawn.T
        run(optimizer, {parameter: gradient_stream})
    # The same numbers in another order of summation.
    torch.testing.assert_close(tall.detach(), wide.detach().T, atol=1e-6, rtol=1e-6)


def test_redrawing_every_step_changes_nothing_but_memory(weight, gradients, run):
    kept, redrawn = weight(12, 8), weight(12, 8)
    optimizers = {}
    for parameter, keep in ((kept, True), (redrawn, False)):
        optimizers[keep] = Apollo(
            [{"params": [parameter], "rank": 4}], update_proj_gap=3, keep_projection=keep
        )
        run(optimizers[keep], {parameter: gradients((12, 8), 8)})
    assert torch.equal(kept, redrawn)
    assert optimizers[True].cache_bytes() == 4 * 8 * 4
    assert optimizers[False].cache_bytes() == 0


def test_auto_scale_is_the_root_of_m_over_r(weight, gradients, run):
    auto, given_scale = weight(12, 8), weight(12, 8)
    for parameter, scale in ((auto, "auto"), (given_scale, 8 / 2)):
        run(Apollo([{"params": [parameter], "rank": 2}], scale=scale), {parameter: gradients((12, 8), 4)})
    assert torch.equal(auto, given_scale)


def test_flattened_kernel_moves_as_its_matrix(weight, gradients, run):
    kernel = weight(6, 3, 2, 2)
    matrix = torch.nn.Parameter(kernel.detach().reshape(6, 12).clone())
    stream = gradients((6, 12), 4)
    run(
        Apollo([{"params": [kernel], "rank": 2}], flatten=True),
        {kernel: [g.view(6, 3, 2, 2) for g in stream]},
    )
    run(Apollo([{"params": [matrix], "rank": 2}]), {matrix: stream})
    assert torch.equal(kernel.detach().reshape(6, 12), matrix.detach())


def test_parameter_without_gradient_stands_still(weight, gradients, run):
    one, other = weight(6, 4), weight(6, 4, seed=2)
    before = other.detach().clone()
    stream = gradients((6, 4), 3)
    optimizer = Apollo([{"params": [one, other], "rank": 2}], lr=0.01)
    run(optimizer, {one: stream, other: [None] * 3})
    assert torch.equal(other, before)
    assert not optimizer.state[other]
    run(optimizer, {one: stream, other: stream})
    assert (optimizer.state[one]["step"], optimizer.state[other]["step"]) == (6, 3)


def test_zero_first_gradient_does_not_pin_the_weight(weight, gradients, run):
    """The released limiter remembers norm 0 and lets the update grow by 1 % a step from there."""
    late, fresh = weight(6, 4), weight(6, 4)
    stream = gradients((6, 4), 3)
    optimizer = Apollo([{"params": [late], "rank": 2}], lr=0.01)
    run(optimizer, {late: [torch.zeros(6, 4), *stream]})
    run(Apollo([{"params": [fresh], "rank": 2}], lr=0.01), {fresh: stream})
    moved, usual = (late - weight(6, 4)).norm(), (fresh - weight(6, 4)).norm()
    assert moved > 0.3 * usual  # not equal: moments and bias correction have seen the zero


def test_limiter_remembers_each_tensor_by_itself(weight, gradients, run):
    alone, beside, loud = weight(6, 4), weight(6, 4), weight(6, 4, seed=3)
    stream = gradients((6, 4), 5)
    run(Apollo([{"params": [alone], "rank": 2}]), {alone: stream})
    run(Apollo([{"params": [beside, loud], "rank": 2}]), {beside: stream, loud: [1e3 * g for g in stream]})
    assert torch.equal(alone, beside)


def test_closure_is_called_with_gradients_on(weight):
    parameter = weight(4, 4)
    optimizer = Apollo([{"params": [parameter], "rank": 2}])

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    before = parameter.square().sum().item()
    assert optimizer.step(closure).item() == pytest.approx(before)
    assert parameter.square().sum().item() < before


def test_trains_a_regression_to_near_zero():
    """End to end: a linear map is recovered from data by both variants."""
    generator = torch.Generator().manual_seed(0)
    inputs, truth = torch.randn(128, 10, generator=generator), torch.randn(10, 6, generator=generator)
    for options in ({"rank": 3}, {"rank": 1, "scale_type": "tensor", "scale": 128.0}):
        weight = torch.nn.Parameter(torch.zeros(10, 6))
        optimizer = Apollo([{"params": [weight], **options}], lr=0.02)
        for _ in range(300):
            optimizer.zero_grad()
            (inputs @ weight - inputs @ truth).square().mean().backward()
            optimizer.step()
        assert (inputs @ (weight - truth)).square().mean() < 0.01 * (inputs @ truth).square().mean()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_rate_of_zero_moves_nothing_and_counts(decay, weight, gradients, run):
    """The first step of a linear warm-up."""
    dense, matrix = weight(5), weight(6, 4)
    before = dense.detach().clone(), matrix.detach().clone()
    optimizer = Apollo([{"params": [dense]}, {"params": [matrix], "rank": 2}], lr=0.0, weight_decay=decay)
    run(optimizer, {dense: gradients((5,), 1), matrix: gradients((6, 4), 1)})
    assert torch.equal(dense, before[0])
    assert torch.equal(matrix, before[1])
    assert optimizer.state[dense]["exp_avg"].abs().min() > 0
    assert {optimizer.state[p]["step"] for p in (dense, matrix)} == {1}


@pytest.mark.parametrize("shape", [(9, 6), (6, 9)])
def test_projecting_while_reading_changes_nothing(weight, gradients, run, shape, monkeypatch):
    """A kept projection of rank 1 is used while the norms are read; one redrawn at each step is not."""
    kept, redrawn = weight(*shape), weight(*shape)
    made = [
        Apollo([{"params": [parameter], "rank": 1}], lr=0.1, keep_projection=keep, update_proj_gap=3)
        for parameter, keep in ((kept, True), (redrawn, False))
    ]
    used = []
    monkeypatch.setattr(Apollo, "_projection_stays", _spied(Apollo._projection_stays, used))
    for gradient in gradients(shape, 7):
        run(made[0], {kept: [gradient]})
        run(made[1], {redrawn: [gradient]})
        assert torch.equal(kept, redrawn)
    # redrawn at steps 1, 4 and 7
    assert [seen for seen, keep in zip(used, [True, False] * 7, strict=True) if keep] == [
        False, True, True, False, True, True, False,
    ]  # fmt: skip


def _spied(method, used):
    def spy(self, parameter, group):
        used.append(method(self, parameter, group))
        return used[-1]

    return spy
