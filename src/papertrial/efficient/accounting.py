"""How many bytes a model's weights take, everything that is needed to use them counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor, nn

from papertrial.efficient.binary_linear import PARTS, BinaryLinear, blocks_of
from papertrial.efficient.packing import packed_width
from papertrial.efficient.quantized_linear import QuantizedWeight, QuantLinear

_INDEX_BYTES = 4  # g_idx and column orders are int32 in every checkpoint format


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of the matrices that were quantised.

    Attributes:
        codes: the packed whole numbers, or signs.
        scales: scales and means.
        zeros: zero points.
        index: the group of each input, where groups are not consecutive.
        masks: bits that say which part of a binarised weight an entry belongs to.
        weights: how many weights that stores.
    """

    codes: int = 0
    scales: int = 0
    zeros: int = 0
    index: int = 0
    masks: int = 0
    weights: int = 0

    @property
    def total(self) -> int:
        """Everything together."""
        return self.codes + self.scales + self.zeros + self.index + self.masks

    @property
    def per_weight(self) -> float:
        """Bytes a weight."""
        return self.total / self.weights if self.weights else 0.0

    def __add__(self, other: WeightBytes) -> WeightBytes:
        """Return the sum."""
        return WeightBytes(*(getattr(self, name) + getattr(other, name) for name in _FIELDS))


_FIELDS = ("codes", "scales", "zeros", "index", "masks", "weights")


def quantized_bytes(weight: QuantizedWeight) -> WeightBytes:
    """Return what a quantised weight takes once packed."""
    outputs, inputs = weight.codes.shape
    groups = weight.scales.shape[1]
    return WeightBytes(
        codes=outputs * packed_width(inputs, weight.bits),
        scales=weight.scales.numel() * weight.scales.element_size(),
        zeros=outputs * packed_width(groups, weight.bits),
        index=0 if weight.group_of is None else inputs * _INDEX_BYTES,
        weights=outputs * inputs,
    )


def dense_bytes(weight: Tensor) -> WeightBytes:
    """Return what a weight takes as it is."""
    return WeightBytes(codes=weight.numel() * weight.element_size(), weights=weight.numel())


def binary_bytes(
    salient: Bool[Tensor, " inputs"], rows: int, *, block: int, scale_bytes: int = 2
) -> WeightBytes:
    """Return what a weight binarised in blocks of columns takes, all masks and scales counted.

    Two bits a weight: a sign, and in salient columns a second sign, in the others which of the two parts the
    weight is in; a bit a column for salience; a mean and a size for each row, block and binarisation.
    """
    inputs = len(salient)
    planes = rows * packed_width(inputs, 2)
    signs = _whole_bytes(rows * (inputs + int(salient.sum())))
    return WeightBytes(
        codes=signs,
        masks=planes - signs + packed_width(inputs, 1),
        scales=rows * blocks_of(inputs, block) * PARTS * 2 * scale_bytes,
        weights=rows * inputs,
    )


def _whole_bytes(bits: int) -> int:
    return -(-bits // 8)


def model_bytes(model: nn.Module, names: Iterable[str]) -> WeightBytes:
    """Return what the matrices called `names` take in `model` as it stands: packed ones, or plain linears."""
    total = WeightBytes()
    for name in names:
        module = model.get_submodule(name)
        if isinstance(module, QuantLinear):
            total += quantized_bytes(module.quantized_weight())
        elif isinstance(module, BinaryLinear):
            parts = module.parts()
            total += binary_bytes(
                parts.salient,
                module.out_features,
                block=parts.block,
                scale_bytes=parts.scales.element_size(),
            )
        else:
            weight = module.weight
            assert isinstance(weight, Tensor)
            total += dense_bytes(weight)
    return total


def bytes_table(parts: Mapping[str, WeightBytes]) -> list[dict[str, float | str]]:
    """Return a table of what each of `parts` takes, a row each, with bits a weight."""
    return [
        {"name": name, **{field: getattr(size, field) for field in _FIELDS}, "bits": 8 * size.per_weight}
        for name, size in parts.items()
    ]
