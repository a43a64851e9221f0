"""How unlike two images are: the photometric loss of splatting, SSIM and PSNR. Images are H x W x C, within 0 to 1."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError

WINDOW = 11  # pixels a side
SIGMA = 1.5  # pixels
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2  # C1, C2 for images within 0 to 1
SSIM_SHARE = 0.2


def l1(image: Float[Tensor, "h w c"], truth: Float[Tensor, "h w c"]) -> Float[Tensor, ""]:
    """Return the mean absolute difference."""
    return (image - truth).abs().mean()


def ssim_map(image: Float[Tensor, "h w c"], truth: Float[Tensor, "h w c"]) -> Float[Tensor, "h w c"]:
    """Return the structural similarity at every pixel and channel.

    Windows of 11 x 11 pixels are Gaussian with sigma 1.5, and pad the border with zeros as splatting's code does;
    moments are those of the window's weights (no sample correction).

    Source: Wang et al., Image Quality Assessment (2004), equation 13, with K1 = 0.01, K2 = 0.03, range 1.
    """
    a, b = image.permute(2, 0, 1), truth.permute(2, 0, 1)
    mean_a, square_a, product = _blur(torch.stack([a, a * a, a * b]))
    mean_b, square_b = _blur(torch.stack([b, b * b]))  # apart: a photograph needs no gradient
    aa, bb, ab = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    return similarity((aa, bb, ab), (square_a - aa, square_b - bb, product - ab)).permute(1, 2, 0)


def similarity(means: tuple[Tensor, Tensor, Tensor], spreads: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the structural similarity of windows a and b; see `ssim_map`.

    Args:
        means: the products of their means: a with a, b with b, a with b.
        spreads: the variances of a and of b, and their covariance.
    """
    (aa, bb, ab), (variance_a, variance_b, covariance) = means, spreads
    luminance = (2 * ab + _LUMINANCE) / (aa + bb + _LUMINANCE)
    return luminance * (2 * covariance + _CONTRAST) / (variance_a + variance_b + _CONTRAST)


def window(like: Tensor) -> Float[Tensor, " w"]:
    """Return the weights of SSIM's window along one axis; they sum to 1."""
    reach = WINDOW // 2
    weights = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2) / (2 * SIGMA**2))
    return (weights / weights.sum()).to(like)


def ssim(image: Float[Tensor, "h w c"], truth: Float[Tensor, "h w c"]) -> Float[Tensor, ""]:
    """Return the mean of `ssim_map` over pixels and channels; 1 for equal images."""
    return ssim_map(image, truth).mean()


def photometric_loss(
    image: Float[Tensor, "h w c"], truth: Float[Tensor, "h w c"], ssim_share: float = SSIM_SHARE
) -> Float[Tensor, ""]:
    """Return `(1 - share) L1 + share (1 - SSIM)`, with 0.2 as its share.

    Source: arXiv 2308.04079, equation 7.
    """
    return (1 - ssim_share) * l1(image, truth) + ssim_share * (1 - ssim(image, truth))


def psnr(image: Float[Tensor, "h w c"], truth: Float[Tensor, "h w c"]) -> float:
    """Return the peak signal-to-noise ratio in dB of images within 0 to 1; infinite for equal ones."""
    error = float((image.detach().double() - truth.detach().double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def check_images(image: Tensor, truth: Tensor, name: str = "") -> None:
    """Raise for a pair of images that cannot be compared, before training meets it.

    Raises:
        BadInputError: other sizes, or a truth outside 0 to 1 or not finite.
    """
    label = f"image {name!r}" if name else "an image"
    if image.shape != truth.shape:
        raise BadInputError(f"{label} of shape {tuple(image.shape)} is held against {tuple(truth.shape)}")
    low, high = float(truth.min()), float(truth.max())
    if not (low >= 0 and high <= 1):
        raise BadInputError(f"{label} must lie within 0 and 1, its values go from {low:.4g} to {high:.4g}")


def _blur(images_BCHW: Tensor) -> Tensor:
    """Filter rows and columns with the window: two products with banded matrices, quicker than small convolutions."""
    height, width = images_BCHW.shape[-2:]
    rows = _window_matrix(height, images_BCHW.dtype, images_BCHW.device)
    columns = _window_matrix(width, images_BCHW.dtype, images_BCHW.device)
    return rows @ (images_BCHW @ columns.T)


@lru_cache(maxsize=16)
def _window_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix whose row i weighs the pixels about i; what falls outside is zero."""
    places = torch.arange(size, dtype=torch.float64)
    away = places[:, None] - places[None]
    reach = WINDOW // 2
    weights = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2) / (2 * SIGMA**2))
    matrix = torch.exp(-(away**2) / (2 * SIGMA**2)) / weights.sum()
    return torch.where(away.abs() <= reach, matrix, torch.zeros_like(matrix)).to(device=device, dtype=dtype)
