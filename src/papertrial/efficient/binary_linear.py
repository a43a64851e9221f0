"""A linear layer whose weight lives as signs: two bits a weight, and the means and sizes of every row and block.

BiLLM's form. Its parts do not fit whole numbers on one grid, so it has a layer of its own beside `QuantLinear`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from papertrial.efficient.packing import pack_codes, packed_width, unpack_codes
from papertrial.efficient.quantized_linear import QuantLinear
from papertrial.errors import BadInputError

_PLANES = 2
_BITS_A_BYTE = 8
_SMALL, _LARGE, _FIRST, _SECOND = range(4)
PARTS = 4
"""Binarisations in a block: of the small weights, of the large ones, and two of the salient columns."""


@dataclass(frozen=True)
class BinaryParts:
    """A weight binarised in blocks of columns.

    A weight of a salient column is the sum of two binarisations, every other one has a single one; each is
    mean ± size, by the row and the block.

    Attributes:
        signs: whether the first binarisation lies above its mean.
        second: for salient columns whether the second binarisation lies above its mean; for the others
            whether the weight belongs to the large ones.
        salient: for each column, whether it is salient.
        scales: (out, blocks, 4 binarisations: small, large, salient first and second; mean and size), in the
            number format in which they are stored.
        block: columns in a block; the last may have fewer.

    Raises:
        BadInputError: parts that do not fit each other.
    """

    signs: Bool[Tensor, "out inputs"]
    second: Bool[Tensor, "out inputs"]
    salient: Bool[Tensor, " inputs"]
    scales: Float[Tensor, "out blocks 4 2"]
    block: int

    def __post_init__(self) -> None:
        inputs, blocks = self.signs.shape[1], self.scales.shape[1]
        if self.block < 1 or blocks != blocks_of(inputs, self.block):
            raise BadInputError(
                f"{inputs} columns in blocks of {self.block} do not fit scales for {blocks} blocks"
            )

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out inputs"]:
        """Return the weight, computed in float32 and rounded to `dtype`."""
        block_of = torch.arange(self.signs.shape[1], device=self.signs.device) // self.block
        scales = self.scales.float()[:, block_of]

        def binarised(above: Tensor, part: int) -> Tensor:
            mean, size = scales[:, :, part].unbind(-1)
            return torch.where(above, size, -size) + mean

        plain = torch.where(self.second, binarised(self.signs, _LARGE), binarised(self.signs, _SMALL))
        twice = binarised(self.signs, _FIRST) + binarised(self.second, _SECOND)
        return torch.where(self.salient, twice, plain).to(dtype)


def binarise_parts(
    block: Float[Tensor, "rows columns"],
    saliency: Float[Tensor, "rows columns"],
    salient: Bool[Tensor, " columns"],
    threshold: float,
    scale_dtype: torch.dtype,
) -> BinaryParts:
    """Binarise one block in a form that can be stored.

    Each size is fitted to the mean as it is stored. A sign bit has no zero: an entry exactly at its mean
    counts as above it.

    Raises:
        BadInputError: a mean or size that `scale_dtype` cannot hold.
    """
    large = ~(saliency.abs() < threshold) & ~salient
    signs = torch.zeros_like(large)
    second = large.clone()
    scales = block.new_zeros(len(block), 1, PARTS, 2, dtype=scale_dtype)
    whole = salient.expand_as(block)
    for part, mask in ((_SMALL, ~whole & ~large), (_LARGE, large), (_FIRST, whole)):
        centred = _fit(block, mask, scales[:, 0, part])
        signs = torch.where(mask, centred >= 0, signs)
    mean, size = scales[:, :, _FIRST].float().unbind(-1)
    rest = block - (torch.where(signs, size, -size) + mean)
    second = torch.where(whole, _fit(rest, whole, scales[:, 0, _SECOND]) >= 0, second)
    if not bool(scales.isfinite().all()):
        raise BadInputError(f"weights this large have means that {scale_dtype} cannot hold; use float32")
    return BinaryParts(signs, second, salient, scales, block.shape[1])


def _fit(values: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    """Write mean and size of the masked entries of each row into `scale`; return all entries less the mean."""
    count = mask.sum(1, keepdim=True).clamp(min=1)
    scale[:, 0] = (values.masked_fill(~mask, 0.0).sum(1, keepdim=True) / count)[:, 0]
    centred = values - scale[:, :1].float()
    scale[:, 1] = (centred.abs().masked_fill(~mask, 0.0).sum(1, keepdim=True) / count)[:, 0]
    return centred


class BinaryLinear(nn.Module):
    """y = x Wᵀ + b from signs.

    Attributes:
        qweight: (out, bytes), two bits a weight: `signs` is the lower, `second` the upper.
        qsalient: (bytes,), a bit a column.
        scales: as in `BinaryParts`.
        bias: (out,) or None.
        bits, group_size: 1 and the columns of a block; activations are not rounded.
    """

    qweight: Tensor
    qsalient: Tensor
    scales: Tensor
    bias: Tensor | None
    bits = 1
    activation_bits = None
    order = None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        block: int,
        *,
        bias: bool = False,
        dtype: torch.dtype = torch.float32,
        scale_dtype: torch.dtype = torch.float16,
        device: torch.device | str | None = None,
    ) -> None:
        """Make a layer of zeros, to be filled by loading; use `from_parts` to pack a weight."""
        super().__init__()
        self.in_features, self.out_features, self.group_size = in_features, out_features, block

        def zeros(*shape: int, kind: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=kind, device=device)

        blocks = blocks_of(in_features, block)
        width = packed_width(in_features, _PLANES)
        self.register_buffer("qweight", zeros(out_features, width, kind=torch.uint8))
        self.register_buffer("qsalient", zeros(packed_width(in_features, 1), kind=torch.uint8))
        self.register_buffer("scales", zeros(out_features, blocks, PARTS, 2, kind=scale_dtype))
        self.register_buffer("bias", zeros(out_features, kind=dtype) if bias else None)

    @classmethod
    def from_parts(cls, parts: BinaryParts, bias: Tensor | None = None) -> BinaryLinear:
        """Pack a binarised weight; the bias is kept as it is."""
        outputs, inputs = parts.signs.shape
        layer = cls(
            inputs,
            outputs,
            parts.block,
            bias=bias is not None,
            dtype=torch.float32 if bias is None else bias.dtype,
            scale_dtype=parts.scales.dtype,
            device=parts.signs.device,
        )
        layer.qweight = pack_codes(parts.signs.byte() | parts.second.byte() << 1, _PLANES)
        layer.qsalient, layer.scales = pack_flags(parts.salient), parts.scales.clone()
        if bias is not None:
            layer.bias = bias.detach().clone()
        return layer

    def parts(self) -> BinaryParts:
        """Return signs, masks and scales, unpacked."""
        codes = unpack_codes(self.qweight, _PLANES, self.in_features)
        salient = unpack_flags(self.qsalient, self.in_features)
        return BinaryParts(codes & 1 > 0, codes & 2 > 0, salient, self.scales, self.group_size)

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out inputs"]:
        """Return the weight as floats, bit for bit what was packed."""
        return self.parts().dequantize(dtype)

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return x Wᵀ + b; gradients flow to the inputs, the signs have none."""
        return F.linear(inputs, self.dequantized(inputs.dtype), self.bias)

    def extra_repr(self) -> str:
        """Say sizes."""
        return f"{self.in_features}, {self.out_features}, block={self.group_size}"


PackedLinear = QuantLinear | BinaryLinear
"""A layer whose weight is packed, as whole numbers or as signs."""


def pack_flags(flags: Bool[Tensor, " count"]) -> UInt8[Tensor, " bytes"]:
    """Return truth values packed eight to a byte, lowest bit first; the rest of the last byte is zero."""
    runs = F.pad(flags.byte(), (0, -len(flags) % _BITS_A_BYTE)).view(-1, _BITS_A_BYTE)
    places = torch.arange(_BITS_A_BYTE, device=flags.device, dtype=torch.uint8)
    return (runs << places).sum(1).to(torch.uint8)


def unpack_flags(packed: UInt8[Tensor, " bytes"], count: int) -> Bool[Tensor, " count"]:
    """Return the first `count` truth values: the inverse of `pack_flags`."""
    places = torch.arange(_BITS_A_BYTE, device=packed.device, dtype=torch.uint8)
    return (packed.unsqueeze(1) >> places & 1).bool().flatten()[:count]


def blocks_of(inputs: int, block: int) -> int:
    """Return how many blocks of columns there are."""
    return -(-inputs // block)


def replace_by_binary(model: nn.Module, name: str, parts: BinaryParts) -> None:
    """Put a `BinaryLinear` in the place of the linear called `name`, which keeps its bias."""
    linear = cast(nn.Linear, model.get_submodule(name))
    model.set_submodule(name, BinaryLinear.from_parts(parts, linear.bias))
