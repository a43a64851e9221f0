"""Ternary weights at 2 bits a value, in transformers' own layout, and the two conventions of their scale.

The layout differs from `papertrial.efficient.packing`, which packs along columns: here byte (r, c) holds in
its bits 2k and 2k + 1 the row k · (out / 4) + r of column c, as every published BitNet checkpoint does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from papertrial.errors import BadInputError

Convention = Literal["multiply", "divide"]
"""What a `weight_scale` is: α, by which the output is multiplied, or 1/α, by which it is divided."""

# The mean |weight| of a trained layer. A convention is read off the scales only where the other one is absurd.
_LARGEST_MEAN, _SMALLEST_MEAN = 0.5, 2.0
_ABSURD = 20.0


def pack_ternary(codes: Tensor) -> UInt8[Tensor, "packed_rows columns"]:
    """Pack a matrix of -1, 0, 1 (any number format) into bytes of four values.

    Raises:
        BadInputError: it holds something else (the largest deviation is told), or its rows are no multiple
            of four.
    """
    if codes.ndim != 2 or codes.shape[0] % 4:
        raise BadInputError(
            f"packing takes a matrix whose rows are a multiple of 4, got {tuple(codes.shape)}"
        )
    wide = codes.detach().float()
    nearest = wide.round().clamp(-1, 1)
    deviation = float((wide - nearest).abs().max()) if codes.numel() else 0.0
    if not deviation == 0.0:
        raise BadInputError(
            f"the weight is not ternary: a value is {deviation:.3g} away from the nearest of -1, 0, 1; "
            "divide by its scale first (ternary_codes gives both)"
        )
    first, second, third, fourth = (nearest + 1).to(torch.uint8).chunk(4)
    return first | second << 2 | third << 4 | fourth << 6


def unpack_ternary(
    packed: UInt8[Tensor, "packed_rows columns"], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the matrix of -1, 0, 1 (4 · packed_rows, columns) that `pack_ternary` packed.

    Raises:
        BadInputError: a byte holds the fourth code, which no ternary weight has.
    """
    codes = torch.cat([(packed >> 2 * place) & 3 for place in range(4)])
    if codes.numel() and int(codes.max()) == 3:
        raise BadInputError("the bytes hold the code 3, which is no ternary value: this is another packing")
    return codes.to(dtype) - 1


def ternary_scale(
    weight: Float[Tensor, "rows columns"],
) -> tuple[Float[Tensor, "rows columns"], float]:
    """Return the codes and the scale of a weight that is ternary up to one factor.

    Raises:
        BadInputError: it has more than one magnitude beside zero; the largest deviation is told.
    """
    wide = weight.detach().float()
    scale = float(wide.abs().max()) if wide.numel() else 0.0
    if scale == 0.0:
        return torch.zeros_like(wide), 1.0
    codes = (wide / scale).round()
    deviation = float((wide / scale - codes).abs().max())
    if not deviation < 1e-2:  # bfloat16 keeps eight bits
        raise BadInputError(
            f"the weight is not ternary: a value is {deviation:.3g} scales away from the nearest of -1, 0, 1; "
            "only a trained BitNet packs without loss"
        )
    return codes, scale


def scale_convention(scales: Mapping[str, float], declared: Convention | None = None) -> Convention:
    """Return what a checkpoint's weight scales are: α ("multiply") or 1/α ("divide").

    α is a mean |weight|, well below 1 in ordinary models. The median over all layers decides; what a
    configuration declares is believed unless the scales make it absurd.

    Args:
        scales: `weight_scale` by layer.
        declared: what the checkpoint's configuration says (`linear_class` "autobitlinear" multiplies,
            "bitlinear" divides), or the user.

    Raises:
        BadInputError: no scales, a scale that is not a positive number, scales that leave it open, or ones that
            contradict what is declared.
    """
    if not scales:
        raise BadInputError("the checkpoint has no weight_scale")
    for name, scale in scales.items():
        if not (math.isfinite(scale) and scale > 0):
            raise BadInputError(f"the weight_scale of {name} must be a positive number, got {scale}")
    median = sorted(scales.values())[len(scales) // 2]
    if declared is not None:
        mean = median if declared == "multiply" else 1 / median
        if not mean < _ABSURD:
            raise BadInputError(
                f"the configuration says that outputs are to be {declared[:-1] if declared == 'divide' else 'multipli'}"
                f"ed by weight_scale, but then the mean |weight| would be {mean:.3g}: the other convention was used"
            )
        return declared
    if median < _LARGEST_MEAN:
        return "multiply"
    if median > _SMALLEST_MEAN:
        return "divide"
    raise BadInputError(
        f"weight_scale is {median:.3g} in the middle: it may be α or 1/α; say convention='multiply' or 'divide'"
    )
