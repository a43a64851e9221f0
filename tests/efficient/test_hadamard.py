from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.efficient.hadamard import (
    hadamard_matrix,
    hadamard_plan,
    hadamard_transform,
    naive_hadamard_transform,
    products,
)
from papertrial.efficient.paley import has_paley, paley_matrix
from papertrial.errors import BadInputError

# A sum of n terms in double precision is off by a few n times 1e-16 at most; sizes here go up to 11,008.
EXACT = 1e-12
POWERS = [2**k for k in range(14)]
OTHERS = [12, 20, 24, 28, 36, 40, 44, 52, 60, 76, 96, 100, 196, 768, 2560, 6912, 9728, 11008, 14336]


def noise(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("n", POWERS)
def test_equals_scipys_matrix_in_natural_order(n):
    x = noise(3, n)
    expected = x @ torch.from_numpy(scipy.linalg.hadamard(n) / math.sqrt(n))
    for transform in (hadamard_transform, naive_hadamard_transform, products):
        torch.testing.assert_close(transform(x), expected, rtol=0, atol=EXACT)
    if n <= 512:
        torch.testing.assert_close(x @ hadamard_matrix(n, dtype=x.dtype), expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("n", OTHERS)
@pytest.mark.parametrize("kind", ["paley", "block"])
def test_other_sizes_are_orthonormal_symmetric_and_their_own_inverse(n, kind):
    x = noise(2, n)
    once = hadamard_transform(x, kind=kind)
    torch.testing.assert_close(once.norm(dim=-1), x.norm(dim=-1), rtol=EXACT, atol=0)
    torch.testing.assert_close(hadamard_transform(once, kind=kind), x, rtol=0, atol=EXACT)
    if n <= 768:
        matrix = hadamard_matrix(n, kind, dtype=x.dtype)
        torch.testing.assert_close(matrix, matrix.T)
        torch.testing.assert_close(x @ matrix, once, rtol=0, atol=EXACT)
        if kind == "paley":  # every entry is ±1 / √n: one spike is spread over all
            torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, n**-0.5))


@pytest.mark.parametrize("order", [order for order in range(4, 400, 4) if has_paley(order)])
def test_paley_matrices_are_hadamard(order):
    """The definition: entries ±1, rows orthogonal. Exact in whole numbers."""
    matrix = paley_matrix(order).astype(np.int64)
    assert set(np.unique(matrix)) == {-1, 1}
    assert (matrix @ matrix.T == order * np.eye(order, dtype=np.int64)).all()
    assert (matrix == matrix.T).all()


def test_paley_orders_below_100_are_the_known_ones():
    """All multiples of four but 16, 40, 56, 64, 88, 92 and 96, for which neither construction has a field; 92's
    first matrix was found by computer (Baumert, Golomb, Hall 1962)."""
    known = {order for order in range(4, 100, 4) if has_paley(order)}
    assert set(range(4, 100, 4)) - known == {16, 40, 56, 64, 88, 92, 96}


def test_paley_40_is_a_doubled_20():
    assert (hadamard_plan(40, "paley").outer, hadamard_plan(40, "paley").inner) == (20, 2)


@pytest.mark.parametrize(
    ("size", "kind", "outer", "inner"),
    [
        (4096, "sylvester", 1, 4096),
        (6912, "paley", 108, 64),  # BitNet b1.58 2B-4T
        (11008, "paley", 344, 32),  # Llama 7B: the field of 7³ elements
        (2560, "paley", 20, 128),
        (14336, "paley", 28, 512),  # Llama 3 8B
        (46, "block", 23, 2),
    ],
)
def test_auto_takes_the_best_form(size, kind, outer, inner):
    plan = hadamard_plan(size)
    assert (plan.kind, plan.outer, plan.inner) == (kind, outer, inner)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 9).map(lambda k: 2**k),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 99),
)
def test_fast_and_plain_agree_in_every_format_and_shape(n, dtype, batch, seed):
    x = noise(*batch, n, dtype=dtype, seed=seed)
    fast = hadamard_transform(x)
    assert fast.dtype == dtype
    assert fast.shape == x.shape
    # Two roundings to the format: its own step, relative to the largest values (about 4).
    tolerance = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(fast.double(), naive_hadamard_transform(x.double()), rtol=0, atol=tolerance)


def test_input_is_left_alone_and_views_are_read_right():
    x = noise(64, 8).T
    kept = x.clone()
    torch.testing.assert_close(hadamard_transform(x), hadamard_transform(x.contiguous()))
    assert torch.equal(x, kept)


@pytest.mark.parametrize(("n", "kind"), [(8, "auto"), (12, "paley"), (12, "block"), (2, "auto"), (1, "auto")])
def test_the_gradient_is_the_transform(n, kind):
    x = noise(2, n).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: hadamard_transform(t, kind=kind), (x,))
    assert torch.autograd.gradgradcheck(lambda t: hadamard_transform(t, kind=kind), (x,))
    gradient = noise(2, n, seed=1)
    (got,) = torch.autograd.grad(hadamard_transform(x, kind=kind), x, gradient)
    torch.testing.assert_close(got, hadamard_transform(gradient, kind=kind))


def test_threads_do_not_change_a_bit():
    x = noise(300, 1024, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = hadamard_transform(x)
        torch.set_num_threads(3)
        assert torch.equal(hadamard_transform(x), alone)
    finally:
        torch.set_num_threads(before)


def test_infinities_and_nan_stay_in_their_row():
    x = noise(3, 16)
    x[1, 2] = math.inf
    x[2, 0] = math.nan
    out = hadamard_transform(x)
    assert out[0].isfinite().all()
    assert not out[1].isfinite().any()
    assert out[2].isnan().all()


def test_empty_batches_pass():
    assert hadamard_transform(torch.zeros(0, 8)).shape == (0, 8)


@pytest.mark.parametrize(
    ("size", "kind", "words"),
    [
        (12, "sylvester", r"no sylvester .* order 12; this size has: paley \(12 x 1\) and block \(3 x 4\)"),
        (92, "paley", r"no paley Hadamard matrix of order 92; this size has: block \(23 x 4\)"),
        (7, "auto", "no Hadamard matrix of order 7; this size has: none, it is odd"),
        (8, "walsh", "unknown kind of Hadamard matrix 'walsh'"),
        (0, "auto", "at least order 1"),
    ],
)
def test_sizes_that_have_no_such_form(size, kind, words):
    with pytest.raises(BadInputError, match=words):
        hadamard_plan(size, kind)


def test_paley_refuses_an_order_without_a_field():
    with pytest.raises(BadInputError, match=r"no Paley matrix of order 92"):
        paley_matrix(92)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the Triton kernel needs a CUDA device")
@pytest.mark.parametrize("n", [1, 2, 4, 64, 1024, 4096, 16384])
def test_cuda_agrees_with_the_cpu(n):
    from papertrial.efficient.hadamard_cuda import rotate_and_quantize_cuda

    x = noise(17, n, dtype=torch.float32)
    torch.testing.assert_close(hadamard_transform(x.cuda()).cpu(), hadamard_transform(x), rtol=0, atol=1e-5)
    codes, scale = rotate_and_quantize_cuda(
        x.cuda(), root=math.sqrt(7), low=-8, high=7, epsilon=1e-5, mean=True
    )
    turned = hadamard_transform(x)
    mean = turned.abs().mean(-1, keepdim=True)
    torch.testing.assert_close(scale.cpu(), mean / math.sqrt(7), rtol=1e-5, atol=0)
    expected = (turned * math.sqrt(7) / (mean + 1e-5)).round().clamp(-8, 7)
    assert ((codes.cpu() - expected).abs() > 0).float().mean() < 1e-3  # values on the edge between two codes
