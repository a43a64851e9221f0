"""A linear layer whose weight lives as packed codes, and a product that reads them as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from papertrial.efficient.packing import check_packed_bits, pack_codes, packed_width, unpack_codes
from papertrial.errors import BadInputError
from papertrial.threads import workers

_FEW_ROWS = 4  # up to here the packed product is bound by bytes and beats unpacking for a matrix product
_LEAST_ACTIVATION = 1e-5


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight as whole numbers: w[o, j] = scales[o, g] · (codes[o, j] − zeros[o, g]), g the group of input j.

    Attributes:
        codes: (out, in), each below 2^bits.
        scales: (out, groups), in the number format in which they are stored.
        zeros: (out, groups), each below 2^bits.
        bits: 2, 3, 4 or 8.
        group_of: the group of each input (in,); None where groups are consecutive inputs.
    """

    codes: UInt8[Tensor, "out inputs"]
    scales: Float[Tensor, "out groups"]
    zeros: UInt8[Tensor, "out groups"]
    bits: int
    group_of: Int[Tensor, " inputs"] | None = None

    def __post_init__(self) -> None:
        check_packed_bits(self.bits)
        inputs, groups = self.codes.shape[1], self.scales.shape[1]
        if self.scales.shape != self.zeros.shape or inputs % groups:
            raise BadInputError(
                f"codes {tuple(self.codes.shape)}, scales {tuple(self.scales.shape)} and zeros "
                f"{tuple(self.zeros.shape)} do not fit each other"
            )
        if self.group_of is not None:
            counts = torch.bincount(self.group_of.long(), minlength=groups)
            if len(counts) != groups or bool((counts != inputs // groups).any()):
                raise BadInputError(f"every group must have {inputs // groups} of the {inputs} inputs")

    @property
    def group_size(self) -> int:
        """Inputs that share a scale; all of them without groups."""
        return self.codes.shape[1] // self.scales.shape[1]

    @property
    def order(self) -> Int[Tensor, " inputs"] | None:
        """The inputs in the order in which their groups are consecutive; None where they are already."""
        return None if self.group_of is None else torch.argsort(self.group_of, stable=True)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out inputs"]:
        """Return the weight, computed in float32 and rounded to `dtype`."""
        groups = self.group_of
        if groups is None:
            weight = dequantize(self.codes, self.scales, self.zeros)
        else:
            index = groups.long()
            weight = (self.codes.float() - self.zeros.float()[:, index]) * self.scales.float()[:, index]
        return weight.to(dtype)


def dequantize(
    codes: UInt8[Tensor, "out inputs"],
    scales: Float[Tensor, "out groups"],
    zeros: UInt8[Tensor, "out groups"],
) -> Float[Tensor, "out inputs"]:
    """Return scales · (codes − zeros) in float32, for consecutive groups."""
    grouped = codes.float().unflatten(1, (scales.shape[1], -1))
    return ((grouped - zeros.float().unsqueeze(-1)) * scales.float().unsqueeze(-1)).flatten(1)


def quantize_activations(inputs: Float[Tensor, "*batch dim"], bits: int) -> Float[Tensor, "*batch dim"]:
    """Round each token's activations to the symmetric grid of its own largest one (fake quantisation).

    s = max(max|x|, 1e-5) / (2^(bits−1) − 1) and x̂ = s · round(x / s).

    Source: arXiv 2211.10438, section 3 (per-token dynamic quantisation).
    """
    largest = inputs.abs().amax(-1, keepdim=True).clamp(min=_LEAST_ACTIVATION)
    scale = largest / (2 ** (bits - 1) - 1)
    return (inputs / scale).round() * scale


class QuantLinear(nn.Module):
    """y = x Wᵀ + b from packed codes.

    Attributes:
        qweight: packed codes (out, bytes); the columns stand in group order.
        scales: (out, groups).
        qzeros: packed zero points (out, bytes).
        order: the input that each column reads (in,), where groups are not consecutive; else absent.
        bias: (out,) or None.
        bits, group_size, activation_bits: as given; `activation_bits` rounds each token's input first.
    """

    qweight: Tensor
    scales: Tensor
    qzeros: Tensor
    order: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bits: int,
        group_size: int,
        *,
        bias: bool = False,
        ordered: bool = False,
        activation_bits: int | None = None,
        dtype: torch.dtype = torch.float32,
        scale_dtype: torch.dtype = torch.float16,
        device: torch.device | str | None = None,
    ) -> None:
        """Make a layer of zeros, to be filled by loading; use `from_weight` to pack a weight."""
        super().__init__()
        check_packed_bits(bits)
        check_group_size(group_size, in_features)
        groups = in_features // group_size
        self.in_features, self.out_features = in_features, out_features
        self.bits, self.group_size, self.activation_bits = bits, group_size, activation_bits

        def zeros(*shape: int, kind: torch.dtype) -> Tensor:
            return torch.zeros(shape, dtype=kind, device=device)

        self.register_buffer(
            "qweight", zeros(out_features, packed_width(in_features, bits), kind=torch.uint8)
        )
        self.register_buffer("scales", zeros(out_features, groups, kind=scale_dtype))
        self.register_buffer("qzeros", zeros(out_features, packed_width(groups, bits), kind=torch.uint8))
        self.register_buffer("order", zeros(in_features, kind=torch.int32) if ordered else None)
        self.register_buffer("bias", zeros(out_features, kind=dtype) if bias else None)

    @classmethod
    def from_weight(
        cls, weight: QuantizedWeight, bias: Tensor | None = None, *, activation_bits: int | None = None
    ) -> QuantLinear:
        """Pack a quantised weight; the bias is kept as it is."""
        outputs, inputs = weight.codes.shape
        order = weight.order
        layer = cls(
            inputs,
            outputs,
            weight.bits,
            weight.group_size,
            bias=bias is not None,
            ordered=order is not None,
            activation_bits=activation_bits,
            scale_dtype=weight.scales.dtype,
            dtype=torch.float32 if bias is None else bias.dtype,
            device=weight.codes.device,
        )
        codes = weight.codes if order is None else weight.codes[:, order]
        layer.qweight, layer.scales = pack_codes(codes.contiguous(), weight.bits), weight.scales.clone()
        layer.qzeros = pack_codes(weight.zeros, weight.bits)
        if order is not None:
            layer.order = order.to(torch.int32)
        if bias is not None:
            layer.bias = bias.detach().clone()
        return layer

    def quantized_weight(self) -> QuantizedWeight:
        """Return the codes, scales and zeros, unpacked, with the inputs in their own order."""
        codes = unpack_codes(self.qweight, self.bits, self.in_features)
        zeros = unpack_codes(self.qzeros, self.bits, self.scales.shape[1])
        group_of = None
        if self.order is not None:
            inverse = torch.argsort(self.order)
            codes, group_of = codes[:, inverse], (inverse // self.group_size).to(torch.int32)
        return QuantizedWeight(codes, self.scales, zeros, self.bits, group_of)

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "out inputs"]:
        """Return the weight as floats, bit for bit what was packed."""
        return self.quantized_weight().dequantize(dtype)

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return x Wᵀ + b. A few tokens on the CPU use the packed product; many, a matrix product.

        The packed product adds in float32 whatever the format of the inputs. Gradients flow to the
        inputs (through the matrix product); the codes have none.
        """
        if self.activation_bits is not None:
            inputs = quantize_activations(inputs, self.activation_bits)
        rows = inputs.numel() // self.in_features
        if 0 < rows <= _FEW_ROWS and self._can_stay_packed(inputs):
            output = packed_product(inputs.reshape(rows, self.in_features), self)
            output = output.reshape(*inputs.shape[:-1], self.out_features).to(inputs.dtype)
            return output if self.bias is None else output + self.bias
        return F.linear(inputs, self.dequantized(inputs.dtype), self.bias)

    def _can_stay_packed(self, inputs: Tensor) -> bool:
        from papertrial.efficient.quantized_kernels import INPUTS_A_RUN

        needs_gradient = torch.is_grad_enabled() and inputs.requires_grad
        whole = self.group_size % INPUTS_A_RUN[self.bits] == 0
        return inputs.device.type == "cpu" and whole and not needs_gradient

    def extra_repr(self) -> str:
        """Say sizes and widths."""
        activations = "" if self.activation_bits is None else f", activation_bits={self.activation_bits}"
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, group_size={self.group_size}{activations}"


def packed_product(inputs: Float[Tensor, "rows inputs"], layer: QuantLinear) -> Float[Tensor, "rows outputs"]:
    """Return x Wᵀ in float32, reading the packed codes once for each row of the inputs; on the CPU only."""
    from papertrial.efficient.quantized_kernels import INPUTS_A_RUN, PRODUCTS

    x = inputs.detach().float()
    if layer.order is not None:
        x = x[:, layer.order.long()]
    groups = layer.scales.shape[1]
    run = INPUTS_A_RUN[layer.bits]
    sums = x.unflatten(1, (groups, -1)).sum(-1).numpy()
    planes = x.unflatten(1, (-1, run)).transpose(1, 2).contiguous().numpy()
    packed, scales = layer.qweight.numpy(), layer.scales.float().numpy()
    zeros = unpack_codes(layer.qzeros, layer.bits, groups).numpy()
    output = torch.empty(len(x), layer.out_features)
    product = PRODUCTS[layer.bits]

    def work(row: int, first: int, last: int) -> None:
        product(planes[row], sums[row], packed, scales, zeros, output[row].numpy(), first, last)

    threads = torch.get_num_threads()
    if threads == 1 or layer.qweight.numel() < 1 << 18:  # handing over costs more than a small product
        for row in range(len(x)):
            work(row, 0, layer.out_features)
        return output
    share = -(-layer.out_features // threads)
    tasks = [
        (row, first, min(first + share, layer.out_features))
        for row in range(len(x))
        for first in range(0, layer.out_features, share)
    ]
    list(workers(threads).map(lambda task: work(*task), tasks))
    return output


def check_group_size(group_size: int, in_features: int, name: str = "the layer") -> None:
    """Raise `BadInputError` where groups of `group_size` do not fill `in_features` inputs."""
    if group_size < 1 or in_features % group_size:
        raise BadInputError(
            f"group_size must divide the inputs of {name}: {in_features} is no multiple of {group_size}; "
            f"use {_nearest_divisor(group_size, in_features)}, or -1 for one scale a row"
        )


def _nearest_divisor(wanted: int, whole: int) -> int:
    divisors = [d for d in range(1, whole + 1) if whole % d == 0]
    return min(divisors, key=lambda divisor: (abs(divisor - wanted), divisor))


def replace_by_quantized(
    model: nn.Module, name: str, weight: QuantizedWeight, activation_bits: int | None
) -> None:
    """Put a `QuantLinear` in the place of the linear called `name`, which keeps its bias."""
    linear = cast(nn.Linear, model.get_submodule(name))
    model.set_submodule(name, QuantLinear.from_weight(weight, linear.bias, activation_bits=activation_bits))
