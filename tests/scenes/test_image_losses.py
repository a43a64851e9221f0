"""SSIM against a loop over windows and scikit-image, and what follows from definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.image_losses import check_images, l1, photometric_loss, psnr, ssim, ssim_map


def pair(height=14, width=17, channels=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    truth = torch.rand(height, width, channels, generator=draw, dtype=torch.float64)
    noise = 0.2 * torch.randn(height, width, channels, generator=draw, dtype=torch.float64)
    return (truth + noise).clamp(0, 1), truth


def loop_ssim(one, two):
    """Wang's index window by window, the image padded by five zeros."""
    places = np.arange(-5, 6)
    weights = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    padded = [np.pad(image.numpy(), ((5, 5), (5, 5), (0, 0))) for image in (one, two)]
    found = np.empty(one.shape)
    for row, column, channel in np.ndindex(*one.shape):
        a, b = (image[row : row + 11, column : column + 11, channel] for image in padded)
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        both = (weights * (a - mean_a) * (b - mean_b)).sum()
        found[row, column, channel] = ((2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)) / (
            (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
        )
    return found


@pytest.mark.parametrize("size", [(14, 17), (3, 4), (30, 11)])
def test_ssim_is_that_of_a_loop_over_windows(size):
    one, two = pair(*size)
    # variances as differences of moments lose about 1e-16 / 9e-4
    np.testing.assert_allclose(ssim_map(one, two).numpy(), loop_ssim(one, two), atol=1e-11)
    assert float(ssim(one, two)) == pytest.approx(loop_ssim(one, two).mean())


def test_ssim_is_scikit_images_inside():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    one, two = pair(24, 26)
    _, expected = metrics.structural_similarity(
        one.numpy(),
        two.numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=2,
        full=True,
    )
    inner = (slice(5, -5), slice(5, -5))
    np.testing.assert_allclose(ssim_map(one, two).numpy()[inner], expected[inner], atol=1e-10)


def test_equal_images_are_alike_and_swapping_changes_nothing():
    one, two = pair()
    assert float(ssim(one, one)) == pytest.approx(1.0)
    assert float(photometric_loss(one, one)) == pytest.approx(0.0, abs=1e-12)
    assert float(ssim(one, two)) == pytest.approx(float(ssim(two, one)))
    assert float(ssim(one, 1 - one)) < 0


def test_ssim_in_float32_is_that_of_float64():
    one, two = pair(64, 64)
    assert float(ssim(one.float(), two.float())) == pytest.approx(float(ssim(one, two)), abs=1e-5)


def test_the_photometric_loss_is_four_parts_to_one():
    one, two = pair()
    expected = 0.8 * (one - two).abs().mean() + 0.2 * (1 - loop_ssim(one, two).mean())
    assert float(photometric_loss(one, two)) == pytest.approx(float(expected))
    assert float(photometric_loss(one, two, ssim_share=0.0)) == pytest.approx(float(l1(one, two)))


def test_gradients_are_those_of_finite_differences():
    one, two = pair(5, 6, 2)
    assert torch.autograd.gradcheck(lambda image: ssim(image, two), one.clone().requires_grad_())


def test_psnr_of_a_known_error():
    truth = torch.full((4, 4, 3), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)  # -10 log10(0.01), in float32
    assert psnr(truth, truth) == math.inf


def test_bad_images_are_refused():
    one, _ = pair()
    with pytest.raises(BadInputError, match=r"image 'a.png' of shape"):
        check_images(one, one[:3], "a.png")
    with pytest.raises(BadInputError, match=r"go from 0 to 255"):
        check_images(one, 255 * one)
