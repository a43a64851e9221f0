"""Spherical harmonics against scipy's complex ones and gsplat's."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from papertrial.errors import BadInputError
from papertrial.scenes.harmonics import colours, constant_coefficients, harmonics


def directions(count=40, seed=0):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_they_are_the_real_parts_of_scipys():
    x, y, z = torch.nn.functional.normalize(directions(), dim=-1).numpy().T
    polar, around = np.arccos(z), np.arctan2(y, x)
    found = harmonics(directions(), 3).numpy()
    for degree in range(4):
        for order in range(-degree, degree + 1):
            complex_one = sph_harm_y(degree, abs(order), polar, around)
            part = complex_one.real if order >= 0 else complex_one.imag
            expected = part * (1 if order == 0 else math.sqrt(2))  # scipy has the Condon-Shortley sign, as we
            place = degree * degree + degree + order
            np.testing.assert_allclose(found[:, place], expected, atol=1e-12)


def test_colours_are_gsplats():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("gsplat")
        from gsplat.cuda._torch_impl import _spherical_harmonics
    draw = torch.Generator().manual_seed(1)
    for degree in range(4):
        coefficients = torch.randn(40, (degree + 1) ** 2, 3, generator=draw, dtype=torch.float64)
        expected = (_spherical_harmonics(degree, directions(), coefficients) + 0.5).clamp(min=0)
        torch.testing.assert_close(colours(coefficients, directions()), expected, rtol=1e-7, atol=1e-7)
        assert (expected == 0).any()  # the clamp is met


def test_a_lower_degree_ignores_the_higher_coefficients():
    coefficients = torch.randn(40, 16, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = colours(coefficients, directions(), degree=1)
    assert torch.equal(found, colours(coefficients[:, :4].contiguous(), directions()))


def test_constant_coefficients_give_the_colour_from_everywhere():
    colour = torch.rand(40, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(colours(constant_coefficients(colour), directions()), colour)


def test_bad_degrees_are_refused():
    with pytest.raises(BadInputError, match="degree 0 to 3, got 4"):
        harmonics(directions(), 4)
    with pytest.raises(BadInputError, match="1, 4, 9 or 16 coefficients a channel, got 5"):
        colours(torch.zeros(40, 5, 3, dtype=torch.float64), directions())
    with pytest.raises(BadInputError, match="degree 2 needs 9 coefficients"):
        colours(torch.zeros(40, 4, 3, dtype=torch.float64), directions(), degree=2)
