"""From an auxiliary Adam step to the factors by which the true gradient is scaled.

Legend: R the projected gradient, R̃ its Adam direction, G the gradient, U = s·G the scaled gradient, s_j the
factor of channel j.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.efficient.apollo.projection import channel_dim, is_wide

DENOMINATOR_FLOOR = 1e-8
_BLOCK_ELEMENTS = 2**19


def adam_direction(
    gradient: Float[Tensor, "*shape"],
    exp_avg: Float[Tensor, "*shape"],
    exp_avg_sq: Float[Tensor, "*shape"],
    *,
    betas: tuple[float, float],
    eps: float,
) -> Float[Tensor, "*shape"]:
    """Advance both moments in place and return R̃ = M / (√V + ε), without bias correction.

    ε is added to the root of the uncorrected second moment. Works in the moments' dtype.

    Source: arXiv 2412.05270, Algorithm 1; the missing bias correction follows the released code.
    """
    gradient = gradient.to(exp_avg.dtype)
    exp_avg.lerp_(gradient, 1 - betas[0])
    exp_avg_sq.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    denominator = exp_avg_sq.sqrt().add_(eps)
    return torch.div(exp_avg, denominator, out=denominator)


def bias_correction(step: int, betas: tuple[float, float]) -> float:
    """Return √(1 − β2ᵗ) / (1 − β1ᵗ) for step t, counted from 1."""
    return math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)


def channel_norms(matrix: Float[Tensor, "a b"]) -> Float[Tensor, " n"]:
    """Return the norm of every channel of a weight-shaped matrix, in float32 at least."""
    return _norm(matrix, 1 - channel_dim(matrix.shape))


def tensor_norm(tensor: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Return the norm of the whole tensor, in float32 at least."""
    if tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous():
        # Faster than torch's norm, which adds up in few lanes: a thousandth too small at 25 million elements.
        flat = tensor.view(-1)
        return torch.dot(flat, flat).sqrt_()
    return _norm(tensor, None)


def channel_factors(
    direction: Float[Tensor, "projected_a projected_b"],
    projected: Float[Tensor, "projected_a projected_b"],
    *,
    wide: bool,
) -> Float[Tensor, " n"]:
    """Return s_j = ‖R̃_j‖ / (‖R_j‖ + 1e-8), one factor for each channel (APOLLO).

    The norms run over the rank axis: the first one for a wide weight, the second otherwise. The projected
    shapes alone do not tell which (r may equal n), hence `wide`.

    Source: arXiv 2412.05270, equation 5; the floor follows the released code.
    """
    rank_dim = 0 if wide else 1
    return _norm(direction, rank_dim) / (_norm(projected, rank_dim) + DENOMINATOR_FLOOR)


def tensor_factor(
    direction: Float[Tensor, "projected_a projected_b"],
    projected: Float[Tensor, "projected_a projected_b"],
) -> Float[Tensor, ""]:
    """Return s = ‖R̃‖ / (‖R‖ + 1e-8), one factor for the whole tensor (APOLLO-Mini).

    Source: arXiv 2412.05270, section 4.2.
    """
    return _norm(direction, None) / (_norm(projected, None) + DENOMINATOR_FLOOR)


def as_column_or_row(factors: Float[Tensor, "*channels"], shape: torch.Size) -> Float[Tensor, "rows columns"]:
    """Return factors with two dimensions, so that they broadcast on a weight of `shape`.

    A single factor gets two as well: torch would cast one without dimensions to a bfloat16 weight's dtype.
    """
    if factors.ndim == 0:
        return factors.view(1, 1)
    return factors.unsqueeze(0) if is_wide(shape) else factors.unsqueeze(1)


def limit_growth(
    norm: Float[Tensor, ""], previous: Float[Tensor, ""], gamma: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the divisor q ≥ 1 that keeps ‖U‖ within γ times the last one, and the norm to remember.

    q = max(‖U‖ / (previous + 1e-8), γ) / γ. A `previous` of zero means that there is no history (first
    step, or only zero gradients so far): q is 1 then. The released code takes such a zero for a norm,
    and holds the parameter near zero for some 1,850 steps. Nothing here waits for the device.

    Source: arXiv 2412.05270, equation 4.
    """
    divisor = norm.div(previous.add(DENOMINATOR_FLOOR).mul_(gamma)).clamp_(min=1)
    divisor.masked_fill_(previous == 0, 1)
    return divisor, norm / divisor


def alpha(scale: float | str, shape: torch.Size | tuple[int, int], rank: int) -> float:
    """Return α, the root of `scale`; `auto` stands for scale = m / r.

    With a random projection of rank r the factors shrink as √(r/m), so α = √(m/r) restores the full-rank
    ones (theorem A.4). It is not the paper's default, which is scale = 1 (APOLLO) and 128 (Mini).

    Source: arXiv 2412.05270, section 4.2 and appendix A.2; the root follows the released code.
    """
    return math.sqrt(min(shape) / rank if isinstance(scale, str) else scale)


def _norm(tensor: Tensor, dim: int | None) -> Tensor:
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    if dim == 0 and tensor.device.type == "cpu":
        return _column_norms(tensor, dtype)
    return torch.linalg.vector_norm(tensor, dim=dim, dtype=None if dtype == tensor.dtype else dtype)


def _column_norms(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Column norms on the CPU, some rows at a time: torch's own take thirty times as long as row norms."""
    squares = torch.zeros(matrix.shape[1], dtype=dtype)
    for rows in matrix.split(max(1, _BLOCK_ELEMENTS // max(matrix.shape[1], 1))):
        rows = rows.to(dtype)
        squares += (rows * rows).sum(0)
    return squares.sqrt_()
