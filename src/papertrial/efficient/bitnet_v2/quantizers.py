"""Ternary weights and INT8 or INT4 activations, with gradients that pass straight through.

Source: arXiv 2504.18415, equations 1, 2, 5 and 6.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Float, Int8, Shaped
from torch import Tensor

from papertrial.errors import BadInputError

FLOOR = 1e-5
"""Least scale of weights and of INT8 activations, as transformers has it; the paper names no value."""
EPSILON = 1e-5
"""Added to the mean below the line of equation 6 (INT4); the paper names no value."""
INT4_ROOT = math.sqrt(7)
"""√7: an INT4 step is the mean absolute value over this, not over 7 as with a largest value."""


def check_bits(bits: int) -> int:
    """Return `bits` if activations can be quantised to as many.

    Raises:
        BadInputError: it is neither 8 nor 4.
    """
    if bits not in (4, 8):
        raise BadInputError(f"activations are quantised to 8 or 4 bits, got {bits}")
    return bits


def ternary_codes(
    weight: Shaped[Tensor, "out_features in_features"],
) -> tuple[Float[Tensor, "out_features in_features"], Float[Tensor, ""]]:
    """Return the ternary codes (-1, 0, 1, float32) of a weight and their one scale: the mean of |weight|.

    A weight of zeros has codes of zero.

    Raises:
        BadInputError: the weight is of whole numbers, so quantised already.

    Source: arXiv 2504.18415, equations 1 and 2.
    """
    if not weight.is_floating_point():
        raise BadInputError(
            f"the weight is {weight.dtype}: it is quantised already, and cannot be quantised or trained again; "
            "give the latent weights (for microsoft/bitnet-b1.58-2B-4T, those of its -bf16 repository)"
        )
    wide = weight.detach().float()
    scale = wide.abs().mean().clamp_(min=FLOOR)
    return (wide * (1.0 / scale)).round_().clamp_(-1, 1), scale


def activation_codes(
    x: Float[Tensor, "*batch features"], bits: int
) -> tuple[Int8[Tensor, "*batch features"], Float[Tensor, "*batch 1"]]:
    """Return the codes of activations (int8) and one scale for each token (float32): x ≈ codes · scale.

    INT8 is scaled by the largest absolute value of a token and INT4 by √7 over their mean, so that INT4 clips
    what lies beyond 7.5 / √7 = 2.8 times the mean. Both round half to even, in float32.

    Raises:
        BadInputError: `bits` is neither 8 nor 4.

    Source: arXiv 2504.18415, equations 5 and 6.
    """
    check_bits(bits)
    wide = x.detach().float()
    if bits == 8:
        largest = wide.abs().amax(-1, keepdim=True).clamp_(min=FLOOR)
        return (wide * (127 / largest)).round_().clamp_(-128, 127).to(torch.int8), largest / 127
    mean = wide.abs().mean(-1, keepdim=True)
    codes = (wide * (INT4_ROOT / (mean + EPSILON))).round_().clamp_(-8, 7)
    return codes.to(torch.int8), mean / INT4_ROOT


def ternarize(weight: Float[Tensor, "out_features in_features"]) -> Float[Tensor, "out_features in_features"]:
    """Return Q_w(weight) in the weight's format; the gradient passes straight through to the weight."""
    codes, scale = ternary_codes(weight)
    return straight_through(weight, (codes * scale).to(weight.dtype))


def quantize_activation(x: Float[Tensor, "*batch features"], bits: int) -> Float[Tensor, "*batch features"]:
    """Return Q8(x) or Q4(x) in the format of x; the gradient passes through rounding and clipping alike."""
    codes, scale = activation_codes(x, bits)
    return straight_through(x, (codes * scale).to(x.dtype))


def straight_through(latent: Tensor, value: Tensor) -> Tensor:
    """Return `value`, whose gradient goes to `latent` unchanged; both of one shape."""
    return cast(Tensor, _StraightThrough.apply(latent, value))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
