"""BitLinear, and H-BitLinear: a sub-norm and a Hadamard rotation before the quantiser.

Source: arXiv 2504.18415, section 2 and figure 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from papertrial.efficient.bitnet_v2.quantizers import (
    check_bits,
    quantize_activation,
    straight_through,
    ternary_codes,
)
from papertrial.efficient.hadamard import HadamardKind, hadamard_plan, hadamard_transform
from papertrial.errors import BadInputError

Rotation = Literal["activations", "both"]
"""What is rotated: the activations alone (the method), or weights and activations (table 5's other arm)."""


class BitLinear(nn.Linear):
    """A linear layer with ternary weights and INT8 or INT4 activations, trained through its latent weight.

    It takes over the Parameter objects of the layer it replaces, so an optimizer that knows them keeps
    their state through the replacement and through every change of `activation_bits`.

    Attributes:
        activation_bits: 8 or 4; None leaves activations as they are (for comparison and for tests).
        ternary: whether the weight is ternarised; False only for comparison and for tests.
        norm: a norm of the layer's own on its input, or None.
    """

    def __init__(
        self,
        linear: nn.Linear,
        *,
        activation_bits: int | None = 8,
        norm: nn.Module | None = None,
    ) -> None:
        """Take over `linear`'s weight and bias.

        Raises:
            BadInputError: the weight is quantised already, or `activation_bits` is neither 8 nor 4.
        """
        if not linear.weight.is_floating_point():
            ternary_codes(linear.weight)  # says what is wrong
        with torch.device("meta"):
            super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None)
        self.weight = linear.weight
        self.bias = linear.bias
        self.activation_bits = None if activation_bits is None else check_bits(activation_bits)
        self.ternary = True
        self.norm = norm
        self.keeps_ternary = False
        self._kept: tuple[tuple[int, int], Tensor] | None = None

    def site(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features"]:
        """Return what is quantised when `x` comes in: the input after the layer's own norm and rotation."""
        return x if self.norm is None else self.norm(x)

    def quantized_weight(self) -> Float[Tensor, "out_features in_features"]:
        """Return Q_w(W), whose gradient goes to the latent weight."""
        if not self.ternary:
            return self.latent()
        return straight_through(self.latent(), self._ternary_values())

    def latent(self) -> Float[Tensor, "out_features in_features"]:
        """Return the full-precision weight that is ternarised."""
        return self.weight

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Return Q_w(W) Q(x) + bias. Source: arXiv 2504.18415, section 2.1."""
        x = self.site(x)
        if self.activation_bits is not None:
            x = quantize_activation(x, self.activation_bits)
        return functional.linear(x, self.quantized_weight().to(x.dtype), self.bias)

    def forget_ternary(self) -> None:
        """Drop the kept Q_w(W)."""
        self._kept = None

    def _ternary_values(self) -> Tensor:
        key = (self.weight._version, self.weight.data_ptr())
        if self.keeps_ternary and self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        with torch.no_grad():
            codes, scale = ternary_codes(self.latent())
            values = (codes * scale).to(self.weight.dtype)
        self._kept = (key, values) if self.keeps_ternary else None
        return values

    def extra_repr(self) -> str:
        """Return what torch shows between the brackets."""
        return f"{super().extra_repr()}, activation_bits={self.activation_bits}"


class HBitLinear(BitLinear):
    """A BitLinear whose input is rotated by a Hadamard matrix before it is quantised.

    Used for the attention's output and the feed-forward's down projection, whose inputs have outlier channels
    that INT4 cannot hold; rotated, every channel carries a share of each. The latent weight is not rotated by
    "activations": it learns in the rotated basis from the start.

    Attributes:
        rotation: "activations", or "both" for Q_w(W Hᵀ) Q(H x).
        hadamard: form of the Hadamard matrix; see `papertrial.efficient.hadamard.hadamard_plan`.
    """

    def __init__(
        self,
        linear: nn.Linear,
        *,
        activation_bits: int | None = 8,
        norm: nn.Module | None = None,
        rotation: Rotation = "activations",
        hadamard: HadamardKind = "sylvester",
    ) -> None:
        """Take over `linear`'s weight and bias.

        Raises:
            BadInputError: as `BitLinear`; or `in_features` has no Hadamard matrix of this form.
        """
        super().__init__(linear, activation_bits=activation_bits, norm=norm)
        self.rotation = rotation
        self.hadamard: HadamardKind = hadamard_plan(self.in_features, hadamard).kind

    def site(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch in_features"]:
        """Return the Hadamard transform of the (normed) input. Source: arXiv 2504.18415, equation 7."""
        return hadamard_transform(super().site(x), kind=self.hadamard)

    def latent(self) -> Float[Tensor, "out_features in_features"]:
        """Return the weight that is ternarised: rotated, too, where `rotation` is "both"."""
        return hadamard_transform(self.weight, kind=self.hadamard) if self.rotation == "both" else self.weight

    def extra_repr(self) -> str:
        """Return what torch shows between the brackets."""
        return f"{super().extra_repr()}, rotation={self.rotation}, hadamard={self.hadamard}"


def keep_ternary_weights(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Compute Q_w(W) once between two steps of `optimizer`, however many batches an update accumulates.

    The kept weights are dropped after every step and whenever a weight was written to or moved. Returns
    a function that ends the keeping.

    Raises:
        BadInputError: the model has no BitLinear.
    """
    layers = bit_linears(model)

    def forget(*_: Any) -> None:
        for layer in layers.values():
            layer.forget_ternary()

    hook = optimizer.register_step_post_hook(forget)
    for layer in layers.values():
        layer.keeps_ternary = True

    def end() -> None:
        hook.remove()
        for layer in layers.values():
            layer.keeps_ternary = False
        forget()

    return end


def bit_linears(model: nn.Module) -> dict[str, BitLinear]:
    """Return the BitLinears and H-BitLinears of a model by name.

    Raises:
        BadInputError: there is none.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, BitLinear)}
    if not layers:
        raise BadInputError(f"{type(model).__name__} has no BitLinear; call use_bitnet(model) first")
    return layers
