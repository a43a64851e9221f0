"""Four numbers at a time: every operation against numpy's."""

from __future__ import annotations

import operator

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.scenes.splatting import lanes, meeting

WHATEVER = st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4)
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


@numba.njit
def arithmetic(data, single):
    a, b = lanes.load(data, 0, 0, 0), lanes.load(data, 0, 1, 0)
    lanes.store(data, 0, 2, 0, a + b)
    lanes.store(data, 0, 3, 0, a - b)
    lanes.store(data, 0, 4, 0, a * b)
    lanes.store(data, 0, 5, 0, a / b)
    lanes.store(data, 0, 6, 0, single - a)
    lanes.store(data, 0, 7, 0, b * single)
    lanes.store(data, 0, 8, 0, lanes.lanes(single) + 1)
    lanes.store(data, 0, 9, 0, lanes.ramp(single))
    lanes.add(data, 0, 9, 0, a)
    return lanes.total(a)


@settings(deadline=None)  # the first example compiles
@given(WHATEVER, WHATEVER, st.floats(-1e3, 1e3))
def test_arithmetic_is_numpys(left, right, single):
    a, b = np.array(left), np.array(right) + 2e6  # nothing is divided by zero
    data = np.zeros((1, 10, 6))
    data[0, 0, :4], data[0, 1, :4] = a, b
    total = arithmetic(data, single)
    wanted = [
        a + b,
        a - b,
        a * b,
        a / b,
        single - a,
        b * single,
        np.full(4, single + 1),
        single + np.arange(4) + a,
    ]
    np.testing.assert_allclose(data[0, 2:, :4], wanted, rtol=1e-15, atol=1e-9)
    assert not data[0, :, 4:].any()
    np.testing.assert_allclose(total, a.sum(), rtol=1e-12, atol=1e-9)


@numba.njit
def comparison(sign, data, bound):
    a = lanes.load(data, 0, 0, 0)
    if sign == 0:
        mask = a < bound
    elif sign == 1:
        mask = a <= bound
    elif sign == 2:
        mask = a > bound
    elif sign == 3:
        mask = a >= bound
    else:
        mask = a == bound
    low = a < 0.0
    lanes.store(data, 0, 1, 0, lanes.where(mask, a, 7.0))
    lanes.store(data, 0, 2, 0, lanes.where(lanes.both(mask, low), 1.0, 0.0))
    lanes.store(data, 0, 3, 0, lanes.where(lanes.but_not(mask, low), 1.0, 0.0))
    return lanes.any_of(mask)


@pytest.mark.parametrize("sign", SIGNS)
@settings(deadline=None)  # the first example compiles
@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0, np.nan, np.inf]), min_size=4, max_size=4))
def test_comparisons_are_numpys_and_nothing_compares_with_nan(sign, values):
    data = np.zeros((1, 4, 4))
    data[0, 0] = values
    a = np.array(values)
    mask = SIGNS[sign](a, 1.0)
    found = comparison(list(SIGNS).index(sign), data, 1.0)
    np.testing.assert_array_equal(data[0, 1], np.where(mask, a, 7.0))
    np.testing.assert_array_equal(data[0, 2], mask & (a < 0))
    np.testing.assert_array_equal(data[0, 3], mask & ~(a < 0))
    assert bool(found) == mask.any()


@numba.njit
def falls(rho):
    out = np.empty_like(rho)
    for i in range(rho.shape[2] // 4):
        lanes.store(out, 0, 0, 4 * i, meeting.fall(lanes.load(rho, 0, 0, 4 * i)))
    return out


def test_the_fall_of_alpha_is_the_exponential():
    rho = np.linspace(0.0, 12.0, 40_000).reshape(1, 1, -1)
    np.testing.assert_allclose(
        falls(rho), np.exp(-rho / 2), rtol=4e-13
    )  # far below what the oracle is held to


def test_what_never_counts_is_no_overflow():
    found = falls(np.array([[[13.0, 1e300, np.inf, np.nan]]]))
    np.testing.assert_allclose(
        found, np.exp(-6.0), rtol=4e-13
    )  # any number will do: rho > 2 ln 255 is not blended
