"""Losses against priors: numpy's least squares, loops, and what they must not see."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.errors import BadInputError
from papertrial.scenes.prior_losses import (
    align_depth,
    check_depth_prior,
    depth_prior_loss,
    gradient_term,
    normal_consistency,
    normal_prior_loss,
)


def maps(seed=0, height=11, width=13):
    draw = torch.Generator().manual_seed(seed)
    depth = 1 + 3 * torch.rand(height, width, generator=draw, dtype=torch.float64)
    prior = torch.rand(height, width, generator=draw, dtype=torch.float64)
    valid = torch.rand(height, width, generator=draw) > 0.3
    return depth, prior, valid


@pytest.mark.parametrize("masked", [False, True])
def test_the_fit_is_numpys_least_squares(masked):
    depth, prior, valid = maps()
    chosen = valid if masked else torch.ones_like(valid)
    d, p = depth[chosen].numpy(), prior[chosen].numpy()
    expected = np.linalg.lstsq(np.stack([d, np.ones_like(d)], axis=1), p, rcond=None)[0]
    found = align_depth(depth, prior, valid if masked else None)
    np.testing.assert_allclose([float(found.scale), float(found.shift)], expected, rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.05, 20), shift=st.floats(-10, 10))
def test_an_affine_prior_of_the_true_depth_costs_nothing(scale, shift):
    depth, _, valid = maps()
    loss = depth_prior_loss(depth, scale * depth + shift, valid)
    assert float(loss) < 1e-9 * max(1.0, scale)  # rounding of float64, squared or over 4 octaves


def loop_gradient(residual, valid):
    total = 0.0
    for step in (1, 2, 4, 8):
        r, keep = residual[::step, ::step], valid[::step, ::step]
        for down, right in ((0, 1), (1, 0)):
            changes = [
                abs(float(r[i + down, j + right] - r[i, j]))
                for i in range(r.shape[0] - down)
                for j in range(r.shape[1] - right)
                if keep[i, j] and keep[i + down, j + right]
            ]
            total += sum(changes) / len(changes) if changes else 0.0
    return total


def test_the_gradient_term_is_that_of_a_loop():
    residual, _, valid = maps(1)
    assert float(gradient_term(residual, valid)) == pytest.approx(loop_gradient(residual, valid))
    everything = torch.ones_like(valid)
    assert float(gradient_term(residual)) == pytest.approx(loop_gradient(residual, everything))
    assert float(gradient_term(torch.ones(1, 1, dtype=torch.float64))) == 0  # no neighbours at all


def test_the_loss_is_the_residual_of_the_fit_and_half_its_gradients():
    depth, prior, valid = maps(2)
    d, p = depth[valid].numpy(), prior[valid].numpy()
    scale, shift = np.linalg.lstsq(np.stack([d, np.ones_like(d)], axis=1), p, rcond=None)[0]
    residual = scale * depth + shift - prior
    expected = (residual[valid] ** 2).mean() + 0.5 * loop_gradient(residual, valid)
    assert float(depth_prior_loss(depth, prior, valid)) == pytest.approx(float(expected))


@pytest.mark.parametrize("through", [False, True])
def test_gradients_flow_through_the_depth_and_where_asked_through_the_fit(through):
    depth, prior, valid = maps(3, 5, 6)
    leaf = depth.clone().requires_grad_()
    depth_prior_loss(leaf, prior, valid, gradient_weight=0.0, through_alignment=through).backward()
    fit = align_depth(depth, prior, valid)
    residual = torch.where(valid, fit.scale * depth + fit.shift - prior, torch.zeros_like(depth))
    # at the best fit the loss does not change with the fit to first order, so both are 2 w r / n
    torch.testing.assert_close(leaf.grad, 2 * fit.scale * residual / valid.sum(), rtol=1e-6, atol=1e-9)
    assert float(leaf.grad[~valid].abs().sum()) == 0


def test_a_constant_depth_fits_the_mean_and_does_not_explode():
    _, prior, _ = maps(4)
    leaf = torch.zeros_like(prior).requires_grad_()
    loss = depth_prior_loss(leaf, prior, gradient_weight=0.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(prior.var(correction=0)))
    assert torch.isfinite(leaf.grad).all()


def unit(seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(4, 5, 3, generator=draw, dtype=torch.float64), dim=-1)


def test_normals_that_agree_cost_nothing_and_opposite_ones_what_the_equation_says():
    normals = unit(0)
    assert float(normal_prior_loss(normals, normals)) == pytest.approx(0, abs=1e-12)
    up = torch.zeros(4, 5, 3, dtype=torch.float64)
    up[..., 2] = 1
    # |N - P|_1 = 2 and 1 - cosine = 2, each with weight 0.01
    assert float(normal_prior_loss(up, -up)) == pytest.approx(0.04)
    # the cosine does not see the length, the L1 term does: 0.01 * 0.5
    assert float(normal_prior_loss(0.5 * up, up)) == pytest.approx(0.005)


def test_invalid_pixels_of_a_normal_prior_do_not_count():
    normals, prior = unit(1), unit(2)
    valid = torch.zeros(4, 5, dtype=torch.bool)
    valid[1, 2] = valid[3, 0] = True
    spoilt = torch.where(valid[..., None], prior, torch.full_like(prior, math.nan))
    picked = [normal_prior_loss(normals[at][None, None], prior[at][None, None]) for at in ((1, 2), (3, 0))]
    found = normal_prior_loss(normals, spoilt, valid)
    assert float(found) == pytest.approx(float(sum(picked)) / 2)
    with pytest.raises(BadInputError, match="at least one valid pixel"):
        normal_prior_loss(normals, prior, torch.zeros(4, 5, dtype=torch.bool))


def test_gradients_of_normals_of_length_zero_are_finite():
    leaf = torch.zeros(4, 5, 3, dtype=torch.float64, requires_grad=True)
    normal_prior_loss(leaf, unit(0)).backward()
    assert torch.isfinite(leaf.grad).all()


def test_consistency_is_one_less_the_product_of_lengths_and_cosine():
    normals = unit(3)
    assert float(normal_consistency(normals, normals)) == pytest.approx(0, abs=1e-12)
    assert float(normal_consistency(0.8 * normals, 0.5 * normals)) == pytest.approx(1 - 0.4)


def test_bad_priors_are_refused_by_name():
    depth, _, _ = maps()
    size = (13, 11)
    check_depth_prior(2 * depth + 1, size, "a", known=depth)
    with pytest.raises(BadInputError, match="prior of image 'a' is 13 x 11 pixels, the image 11 x 13"):
        check_depth_prior(depth, (11, 13), "a")
    spoilt = depth.clone()
    spoilt[2, 3] = math.nan
    with pytest.raises(BadInputError, match="image 'b' has 1 pixels that are not finite"):
        check_depth_prior(spoilt, size, "b")
    with pytest.raises(BadInputError, match="image 'c' is 2 everywhere"):
        check_depth_prior(torch.full_like(depth, 2.0), size, "c")
    with pytest.raises(BadInputError, match="image 'd' grows towards the camera: it is disparity"):
        check_depth_prior(1 / depth, size, "d", known=depth)
    with pytest.raises(BadInputError, match="at least one valid pixel"):
        align_depth(depth, depth, torch.zeros(11, 13, dtype=torch.bool))
