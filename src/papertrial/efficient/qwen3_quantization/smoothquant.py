"""SmoothQuant: move the activations' outliers into the weights, then round both.

Source: arXiv 2211.10438; settings as in arXiv 2505.02214, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.efficient.layouts import LayerLayout, scale_norm
from papertrial.errors import BadInputError

_LEAST_WEIGHT = 1e-5
_LEAST_SCALE = 1e-5
SMOOTHED_NORMS = ("input_layernorm", "pre_feedforward_layernorm", "post_attention_layernorm")
"""The norms that the published method divides; others that feed a matrix are left alone."""


def smoothing_scales(
    activation_max: Float[Tensor, " inputs"],
    weights: Sequence[Float[Tensor, "_ inputs"]],
    alpha: float = 0.5,
) -> Float[Tensor, " inputs"]:
    """Return what each input channel is divided by and each column multiplied by.

    s_j = max(a_j^α / w_j^(1 − α), 1e-5), a_j the largest |x_j| over the calibration and w_j the largest
    |W_oj| over all the matrices that read the channel, at least 1e-5.

    Raises:
        BadInputError: α outside 0 … 1, or activations that are not finite.

    Source: arXiv 2211.10438, equation 4.
    """
    if not 0.0 <= alpha <= 1.0:
        raise BadInputError(f"alpha must lie between 0 and 1, got {alpha}")
    if not bool(torch.isfinite(activation_max).all()):
        raise BadInputError("the largest activations are not finite")
    largest = torch.stack([weight.detach().float().abs().amax(0) for weight in weights]).amax(0)
    largest = largest.clamp(min=_LEAST_WEIGHT)
    return (activation_max.float().pow(alpha) / largest.pow(1.0 - alpha)).clamp(min=_LEAST_SCALE)


def smooth_norm(layer: LayerLayout, norm: str, activation_max: Tensor, alpha: float = 0.5) -> Tensor:
    """Smooth what one norm of a layer feeds, in place, and return the scales (inputs,).

    What the layer computes stays the same. Routers read the same channels: their columns are multiplied
    too, but they have no say in the scales.
    """
    readers = layer.norm_groups[norm]
    weights = [layer.weight(name) for name in readers if name not in layer.routers]
    scales = smoothing_scales(activation_max, weights, alpha)
    scale_norm(layer.linear(norm), 1.0 / scales, adds_one=norm in layer.offset_norms)
    with torch.no_grad():
        for name in readers:
            weight = layer.weight(name)
            weight.mul_(scales.to(weight.dtype))
    return scales
