"""Outlier channels planted in a model without changing what it computes.

Large models have a few hidden channels whose activations are tens of times the others'; toy models have none,
and then smoothing and activation-aware scaling have nothing to mend. Scaling a channel of a norm up and the
columns that read it down leaves every output as it was and makes such a channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from papertrial.efficient.layouts import LayerLayout, ModelLayout, layout_of, scale_norm
from papertrial.errors import BadInputError


def plant_outliers(
    model: nn.Module,
    channels: int = 3,
    factor: float = 30.0,
    *,
    seed: int = 0,
    layout: ModelLayout | None = None,
) -> Mapping[str, list[int]]:
    """Scale `channels` channels of every norm that feeds matrices by `factor`, and undo it in those matrices.

    Exact for powers of two; else to the rounding of the weights' number format.

    Returns:
        For each norm by qualified name, the channels that are outliers now. They are the same in all
        layers, as in trained models.

    Raises:
        BadInputError: more channels than there are, or a factor that is not above 0.
    """
    if not factor > 0.0:
        raise BadInputError(f"factor must be above 0, got {factor}")
    planted = {}
    for layer in (layout or layout_of(model)).layers:
        for norm, readers in layer.norm_groups.items():
            width = layer.weight(norm).numel()
            if not 1 <= channels <= width:
                raise BadInputError(f"channels must lie between 1 and {width}, got {channels}")
            generator = torch.Generator().manual_seed(seed + width)
            chosen = sorted(torch.randperm(width, generator=generator)[:channels].tolist())
            scales = torch.ones(width, device=layer.weight(norm).device)
            scales[chosen] = factor
            move_scale(layer, norm, readers, scales)
            planted[layer.qualified(norm)] = chosen
    return planted


def move_scale(layer: LayerLayout, norm: str, readers: Sequence[str], scales: Tensor) -> None:
    """Multiply a norm's channels by `scales` (dim,) and divide the columns of all that reads it by them.

    What the layer computes stays the same but for rounding.
    """
    scale_norm(layer.linear(norm), scales, adds_one=norm in layer.offset_norms)
    with torch.no_grad():
        for reader in readers:
            weight = layer.weight(reader)
            weight.div_(scales.to(weight.dtype))
