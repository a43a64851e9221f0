"""What a BitNet costs in bytes: weights, activations of a token, and the key-value cache."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from papertrial.efficient.bitnet_v2.linear import BitLinear, bit_linears
from papertrial.efficient.bitnet_v2.packed import PackedBitLinear
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class Costs:
    """Bytes of the ternary layers of a model.

    Attributes:
        weights: 2 bits a weight and one scale of 4 bytes a matrix.
        weights_bfloat16: the same weights at 16 bits.
        activations: of one token at every quantised site: 4 or 8 bits a value, one scale of 4 bytes a site.
        activations_bfloat16: the same values at 16 bits.
        layers: how many.
    """

    weights: int
    weights_bfloat16: int
    activations: int
    activations_bfloat16: int
    layers: int


def ternary_costs(model: nn.Module) -> Costs:
    """Return what the BitLinears of a model cost, packed already or not.

    Raises:
        BadInputError: it has none, or leaves activations in full precision.
    """
    packed = [module for module in model.modules() if isinstance(module, PackedBitLinear)]
    layers: list[BitLinear | PackedBitLinear] = [*packed] or [*bit_linears(model).values()]
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    activations = 0
    for layer in layers:
        if layer.activation_bits is None:
            raise BadInputError("a layer leaves its activations in full precision; set activation_bits")
        activations += layer.in_features * layer.activation_bits // 8 + 4
    return Costs(
        weights=sum(-(-layer.in_features * layer.out_features // 4) + 4 for layer in layers),
        weights_bfloat16=2 * weights,
        activations=activations,
        activations_bfloat16=2 * sum(layer.in_features for layer in layers),
        layers=len(layers),
    )
