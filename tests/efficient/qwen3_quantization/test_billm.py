from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.efficient.qwen3_quantization.billm import (
    BillmOptions,
    billm_weight,
    binarise_block,
    find_structure,
)
from papertrial.efficient.qwen3_quantization.gptq import inverse_factor
from papertrial.efficient.qwen3_quantization.naive import (
    billm_by_blocks,
    binarise_residual,
    search_structure,
)
from papertrial.errors import BadInputError


def test_order_one_without_a_mean_is_the_best_scaled_sign():
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    weight = torch.cat([weight, -weight], 1)  # a mean of exactly zero
    mask = torch.ones_like(weight, dtype=torch.bool)
    new = binarise_residual(weight, mask, 1)
    scale = weight.abs().mean(1, keepdim=True)
    torch.testing.assert_close(new, weight.sign() * scale, rtol=1e-5, atol=1e-6)
    error = (weight - new).square().sum(1)
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert bool(((weight - weight.sign() * scale * factor).square().sum(1) > error).all())


@given(rows=st.integers(1, 5), columns=st.integers(1, 20), seed=st.integers(0, 500))
@settings(max_examples=40)
def test_a_second_order_never_hurts(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    mask = torch.rand(rows, columns, generator=generator) < 0.6
    errors = [
        (weight - binarise_residual(weight, mask, o)).masked_fill(~mask, 0).square().sum() for o in (1, 2)
    ]
    assert float(errors[1]) <= float(errors[0]) + 1e-6
    assert bool((binarise_residual(weight, mask, 2)[~mask] == 0).all())


def test_an_entry_at_the_mean_has_no_sign():
    weight = torch.tensor([[1.0, 2.0, 3.0]])
    mask = torch.ones_like(weight, dtype=torch.bool)
    torch.testing.assert_close(
        binarise_residual(weight, mask, 1), torch.tensor([[2 - 2 / 3, 2.0, 2 + 2 / 3]])
    )


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("columns", [20, 128])
@pytest.mark.parametrize("kind", ["signed", "squared", "outliers"])
def test_the_fast_search_picks_what_the_full_one_picks(rows, columns, kind):
    generator = torch.Generator().manual_seed(rows + columns)
    saliency = torch.randn(rows, columns, generator=generator) * (
        torch.rand(columns, generator=generator) + 0.2
    )
    if kind == "squared":
        saliency = saliency.square()
    if kind == "outliers":
        saliency[:, :3] *= 20
    fast, full = find_structure(saliency), search_structure(saliency)
    if fast[0] != full[0] or abs(fast[1] - full[1]) > 1e-6 * abs(full[1]):
        # float32 cannot tell candidates that close apart: then both must be equally good
        def error(columns, threshold):
            salient = torch.zeros(saliency.shape[1], dtype=torch.bool)
            salient[columns] = True
            s = saliency.double()
            return float((s - binarise_block(s, s, salient, threshold)).square().sum())

        assert error(*fast) == pytest.approx(error(*full), rel=1e-6)
        assert rows == 1  # and that happens to single rows only


def test_errors_go_to_later_blocks_only(problem):
    weight, _, hessian = problem(inputs=64)
    options = BillmOptions(block=32)
    result = billm_weight(weight, hessian, options)
    first = weight[:, :32]
    columns, threshold = find_structure(first)
    assert result.salient[:32].nonzero().flatten().tolist() == columns
    expected = binarise_block(first, first, result.salient[:32], threshold)
    assert torch.equal(result.weight[:, :32], expected)  # as if there were no Hessian
    upper = inverse_factor(hessian).upper
    rest = weight[:, 32:] - ((first - expected) / upper.diagonal()[:32]) @ upper[:32, 32:]
    columns, threshold = find_structure(rest)
    expected = binarise_block(rest, rest, result.salient[32:], threshold)
    # the correction is one matrix product, added in place
    torch.testing.assert_close(result.weight[:, 32:], expected, rtol=1e-4, atol=1e-5)


def test_passing_errors_on_helps(problem, output_error):
    better = 0
    for seed in range(10):
        weight, _, hessian = problem(inputs=256, tokens=2000, seed=seed)
        with_errors = billm_weight(weight, hessian, BillmOptions(block=64)).weight
        without = billm_weight(weight, torch.eye(256), BillmOptions(block=64)).weight
        better += output_error(with_errors, weight, hessian) < output_error(without, weight, hessian)
    assert better >= 9


def test_hessian_saliency_sees_what_the_inputs_see(problem):
    weight, x, _ = problem(inputs=64, tokens=2000)
    loud = x.clone()
    loud[:, 5] *= 40
    hessian = 2 * loud.T @ loud / len(loud)
    chosen = billm_weight(weight, hessian, BillmOptions("hessian", block=64)).salient
    assert bool(chosen[5])
    assert not bool(
        billm_weight(weight * 0.5 + 0.01, hessian, BillmOptions("magnitude", block=64)).salient.all()
    )


@pytest.mark.parametrize("saliency", ["magnitude", "hessian"])
@pytest.mark.parametrize("inputs", [48, 80])
def test_a_weight_is_the_plain_forms(problem, saliency, inputs):
    """The search in one pass and the shared factor give what trying everything, block after block, gives."""
    weight, x, _ = problem(inputs=inputs, tokens=2000)
    x = x * torch.linspace(0.2, 3.0, inputs)  # else the two saliencies rank alike
    x[:, 5] = 0.0
    hessian = 2 * x.T @ x / len(x)
    fast = billm_weight(weight, hessian, BillmOptions(saliency, block=32))
    plain = billm_by_blocks(weight, hessian, saliency, block=32)
    # one float64 inverse against one solved from the factor: signs agree, means differ in the last digits
    torch.testing.assert_close(fast.weight, plain, rtol=1e-4, atol=1e-5)


def test_the_two_saliencies_differ(problem):
    weight, x, _ = problem(inputs=64, tokens=2000)
    x = x * torch.linspace(0.2, 3.0, 64)
    hessian = 2 * x.T @ x / len(x)
    by = {
        kind: billm_weight(weight, hessian, BillmOptions(kind, block=64)) for kind in ("magnitude", "hessian")
    }
    assert not torch.equal(by["magnitude"].salient, by["hessian"].salient)


@pytest.mark.parametrize("saliency", ["magnitude", "hessian"])
def test_what_is_stored_is_the_released_weight_but_for_the_rounding_of_scales(problem, saliency):
    weight, _, hessian = problem(inputs=80, tokens=2000)
    released = billm_weight(weight, hessian, BillmOptions(saliency, block=32))
    stored = billm_weight(weight, hessian, BillmOptions(saliency, block=32, scale_dtype=torch.float16))
    assert released.parts is None
    assert torch.equal(stored.parts.dequantize(), stored.weight)
    assert torch.equal(stored.parts.salient, stored.salient)
    # the first block sees no error of another; float16 keeps eleven bits of a mean and a size
    torch.testing.assert_close(stored.weight[:, :32], released.weight[:, :32], rtol=2e-3, atol=2e-3)
    exact = billm_weight(weight, hessian, BillmOptions(saliency, block=32, scale_dtype=torch.float32))
    torch.testing.assert_close(exact.weight, released.weight, rtol=1e-4, atol=1e-5)  # no entry is at its mean


def test_honest_storage_is_near_three_bits(problem):
    weight, _, hessian = problem(outputs=256, inputs=256, tokens=2000)
    result = billm_weight(weight, hessian, BillmOptions(scale_dtype=torch.float16))
    assert 1.0 < result.nominal_bits < 1.0 + 49 / 128 + 1e-6
    size = result.bytes
    signs_and_masks = 8 * (size.codes + size.masks) / size.weights
    assert signs_and_masks == pytest.approx(
        2.0, abs=0.01
    )  # a second sign or the part it is in, for each weight
    assert 8 * size.scales / size.weights == 1.0  # eight float16 a row for 128 weights
    assert 8 * size.per_weight == pytest.approx(3.0, abs=0.01)


def test_impossible_options_are_refused():
    with pytest.raises(BadInputError, match="block must be at least 2, got 1"):
        BillmOptions(block=1)
    with pytest.raises(BadInputError, match="a block needs at least two columns, got 1"):
        find_structure(torch.ones(3, 1))
