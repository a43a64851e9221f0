"""Packed inference: 2 bits a weight in memory at all times, one scale a matrix.

On the CPU a compiled loop multiplies the packed bytes as they are. Elsewhere the bytes are unpacked for each
call and thrown away again. No unpacked copy is ever kept.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from papertrial.efficient.bitnet_v2.linear import BitLinear, HBitLinear
from papertrial.efficient.bitnet_v2.packing import (
    Convention,
    pack_ternary,
    scale_convention,
    ternary_scale,
    unpack_ternary,
)
from papertrial.efficient.bitnet_v2.peers import loaded_transformers_bitnet
from papertrial.efficient.bitnet_v2.quantizers import activation_codes, check_bits, ternary_codes
from papertrial.efficient.hadamard import HadamardKind, hadamard_transform
from papertrial.efficient.layers import Replacement, replace_linears
from papertrial.errors import BadInputError


class PackedBitLinear(nn.Module):
    """A BitLinear or H-BitLinear for inference, its weight held as 2 bits a value.

    Attributes:
        weight: bytes (out_features / 4, in_features) in transformers' layout; see `pack_ternary`.
        weight_scale: α (1,), by which outputs are multiplied.
        norm: on the input, or None.
        hadamard: form of the rotation, or None for none.
        activation_bits: 8 or 4.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation_bits: int = 8,
        norm: nn.Module | None = None,
        hadamard: HadamardKind | None = None,
        bias: Tensor | None = None,
        device: Any = None,
    ) -> None:
        """Make a layer of zeros; `load` or `load_state_dict` fills it.

        Raises:
            BadInputError: `out_features` is no multiple of four, or the bits are neither 8 nor 4.
        """
        super().__init__()
        if out_features % 4:
            raise BadInputError(f"packing needs out_features that are a multiple of 4, got {out_features}")
        self.in_features, self.out_features = in_features, out_features
        self.activation_bits = check_bits(activation_bits)
        self.norm = norm
        self.hadamard = hadamard
        self.register_buffer(
            "weight",
            torch.full((out_features // 4, in_features), 0b01010101, dtype=torch.uint8, device=device),
        )
        self.register_buffer("weight_scale", torch.ones(1, device=device))
        self.register_buffer("bias", None if bias is None else bias.detach())

    def load(self, codes: Float[Tensor, "out_features in_features"], scale: float) -> PackedBitLinear:
        """Take a matrix of -1, 0, 1 and its α, and return the layer.

        Raises:
            BadInputError: the matrix is not ternary.
        """
        self.weight.copy_(pack_ternary(codes))
        self.weight_scale.fill_(scale)
        return self

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Return the layer's output in the format of x; no gradient."""
        if x.device.type == "cpu":
            out = self._compiled(x.reshape(-1, self.in_features)).to(x.dtype)
        else:
            codes, scale = activation_codes(self._site(x), self.activation_bits)
            products = functional.linear(codes.to(x.dtype), unpack_ternary(self.weight, x.dtype))
            out = (products * (scale * self.weight_scale)).to(x.dtype).reshape(-1, self.out_features)
        if self.bias is not None:
            out = out + self.bias.to(x.dtype)
        return out.reshape(*x.shape[:-1], self.out_features)

    def unpacked(self) -> Float[Tensor, "out_features in_features"]:
        """Return α times the ternary matrix, float32."""
        return unpack_ternary(self.weight) * self.weight_scale

    def _site(self, x: Tensor) -> Tensor:
        x = x if self.norm is None else self.norm(x)
        return x if self.hadamard is None else hadamard_transform(x, kind=self.hadamard)

    def _compiled(self, x: Tensor) -> Tensor:
        from papertrial.efficient.bitnet_v2.packed_kernels import packed_forward

        norm = self.norm if isinstance(self.norm, nn.RMSNorm) and self.norm.eps is not None else None
        rotated = self.hadamard == "sylvester"
        if (self.norm is not None and norm is None) or (self.hadamard is not None and not rotated):
            x, norm, rotated = self._site(x), None, False  # what the compiled loop does not know
        return packed_forward(
            x.float().contiguous(),
            self.weight,
            float(self.weight_scale),
            gain=None if norm is None else norm.weight.detach().float(),
            eps=0.0 if norm is None or norm.eps is None else norm.eps,
            rotated=rotated,
            bits=self.activation_bits,
        )

    def extra_repr(self) -> str:
        """Return what torch shows between the brackets."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"activation_bits={self.activation_bits}, hadamard={self.hadamard}"
        )


def use_packed(model: nn.Module, *, convention: Convention | None = None) -> Replacement:
    """Replace every BitLinear of `model` in place by its packed form; the latent weights stay with the result.

    Takes this package's BitLinear and H-BitLinear, and transformers' `BitLinear` (packed, scale 1/α) and
    `AutoBitLinear` (offline: ternary values with scale α; online: latent weights).

    Args:
        model: after `use_bitnet` and training, or loaded by transformers from a BitNet checkpoint.
        convention: what the scales of transformers' layers are, where their class is not to be believed.

    Raises:
        BadInputError: there is no BitLinear, an activation is not quantised, a weight is not ternary, or scales
            contradict the convention.
    """
    peers = loaded_transformers_bitnet()
    theirs: tuple[type[nn.Module], ...] = () if peers is None else (peers.BitLinear, peers.AutoBitLinear)
    scales = {
        name: float(module.weight_scale)
        for name, module in model.named_modules()
        if peers is not None and isinstance(module, peers.BitLinear)
    }
    found = scale_convention(scales, convention or "divide") if scales else "divide"

    def make(name: str, layer: Any) -> nn.Module:
        return pack_bit_linear(name, layer) if isinstance(layer, BitLinear) else _pack_peer(layer, found)

    return replace_linears(model, make, types=(BitLinear, *theirs))


def _pack_peer(layer: Any, convention: Convention) -> PackedBitLinear:
    """Return the packed form of one of transformers' layers."""
    packed = PackedBitLinear(
        layer.in_features,
        layer.out_features,
        norm=layer.rms_norm,
        bias=layer.bias,
        device=layer.weight.device,
    )
    if layer.weight.dtype == torch.uint8:  # `BitLinear`
        scale = float(layer.weight_scale)
        return packed.load(unpack_ternary(layer.weight), scale if convention == "multiply" else 1 / scale)
    if layer.online_quant:
        codes, alpha = ternary_codes(layer.weight)
        return packed.load(codes, float(alpha))
    codes, scale = ternary_scale(layer.weight)
    return packed.load(codes, scale * float(layer.weight_scale))


def pack_bit_linear(name: str, layer: BitLinear) -> PackedBitLinear:
    """Return the packed form of a BitLinear or H-BitLinear; `name` is for the error text.

    Raises:
        BadInputError: its weight or its activations are not quantised.
    """
    if layer.activation_bits is None or not layer.ternary:
        raise BadInputError(f"{name} leaves weight or activations in full precision and cannot be packed")
    codes, scale = ternary_codes(layer.latent())
    packed = PackedBitLinear(
        layer.in_features,
        layer.out_features,
        activation_bits=layer.activation_bits,
        norm=layer.norm,
        hadamard=layer.hadamard if isinstance(layer, HBitLinear) else None,
        bias=layer.bias,
        device=layer.weight.device,
    )
    return packed.load(codes, float(scale))


def packed_linears(model: nn.Module) -> dict[str, PackedBitLinear]:
    """Return the packed layers of a model by name.

    Raises:
        BadInputError: there is none.
    """
    layers = {n: m for n, m in model.named_modules() if isinstance(m, PackedBitLinear)}
    if not layers:
        raise BadInputError(f"{type(model).__name__} has no packed layer; call use_packed(model) first")
    return cast(dict[str, PackedBitLinear], layers)
