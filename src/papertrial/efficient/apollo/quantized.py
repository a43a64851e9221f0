"""Q-APOLLO: the low-rank weights live as int8 codes; a float weight exists only while it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from papertrial.efficient.apollo.checks import check_choice
from papertrial.efficient.apollo.optimizer import Apollo, move_scaled
from papertrial.efficient.apollo.projection import first_seed
from papertrial.errors import BadInputError

GROUP_SIZE = 128
ROUNDINGS = ("stochastic", "nearest")
_SMALLEST_RANGE = 1e-5
_LEVELS = 255


def quantize(
    weight: Float[Tensor, "a b"], generator: torch.Generator | None = None
) -> tuple[UInt8[Tensor, "groups size"], Float[Tensor, "groups 1"], UInt8[Tensor, "groups 1"]]:
    """Return uint8 codes, scales and zero points of a weight, in groups of 128 consecutive elements.

    w ≈ (code − zero) · scale with scale = max(max − min, 1e-5) / 255 over each group of the row-major
    weight. The range always includes 0: for a group of one sign the released rule, which does not, clips
    the zero point and with it the weights.

    Args:
        weight: of any float dtype; the arithmetic is float32.
        generator: rounds stochastically (floor plus a Bernoulli draw of the fraction, unbiased); without
            one, to nearest.

    Raises:
        BadInputError: the number of elements is no multiple of 128.

    Source: arXiv 2412.05270, table 8 (the INT8 weights of Q-GaLore, arXiv 2407.08296).
    """
    if weight.numel() % GROUP_SIZE:
        raise BadInputError(
            f"a weight of shape {tuple(weight.shape)} has {weight.numel()} elements, which groups of {GROUP_SIZE} "
            "do not divide; leave it out of the target"
        )
    grouped = weight.detach().to(torch.float32).reshape(-1, GROUP_SIZE)
    low = grouped.amin(1, keepdim=True).clamp(max=0)
    high = grouped.amax(1, keepdim=True).clamp(min=0)
    scale = (high - low).clamp(min=_SMALLEST_RANGE) / _LEVELS
    zero = (-(low / scale).round()).clamp(0, _LEVELS)
    levels = grouped / scale
    if generator is None:
        levels = levels.round()
    else:
        draws = torch.rand(levels.shape, generator=generator, device=levels.device)
        levels = (levels + draws).floor()
    codes = (levels + zero).clamp_(0, _LEVELS)
    return codes.to(torch.uint8), scale, zero.to(torch.uint8)


def dequantize(
    codes: UInt8[Tensor, "groups size"], scale: Float[Tensor, "groups 1"], zero: UInt8[Tensor, "groups 1"]
) -> Float[Tensor, "groups size"]:
    """Return (code − zero) · scale in float32."""
    return (codes.to(torch.float32) - zero.to(torch.float32)) * scale


class _Int8Product(torch.autograd.Function):
    """x Wᵀ with W made from its codes in the forward and again in the backward pass, never kept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, handle: Tensor, layer: Int8Linear) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(inputs)
        return F.linear(inputs, layer.float_weight())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        (inputs,) = ctx.saved_tensors
        weight = ctx.layer.float_weight()
        gradient = gradient.to(weight.dtype)  # under autocast it comes in the lower precision
        to_inputs, to_weight = None, None
        if ctx.needs_input_grad[0]:
            to_inputs = (gradient @ weight).to(inputs.dtype)
        if ctx.needs_input_grad[1]:
            rows = gradient.reshape(-1, gradient.shape[-1])
            to_weight = rows.T @ inputs.reshape(-1, inputs.shape[-1]).to(weight.dtype)
        return to_inputs, to_weight, None


class Int8Linear(nn.Linear):
    """A linear layer whose weight is stored as uint8 codes.

    `weight` is a parameter of the full shape on one element of storage: it carries the gradient, which is
    that of the dequantised weight, and hooks; its values mean nothing. `float_weight` has the values.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        """Quantise a linear layer, to nearest; its bias is kept as it is."""
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight = nn.Parameter(_placeholder(linear.weight), requires_grad=linear.weight.requires_grad)
        self.bias = linear.bias
        codes, scale, zero = quantize(linear.weight)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)

    def float_weight(self) -> Float[Tensor, "a b"]:
        """Return the dequantised weight in the layer's dtype."""
        values = dequantize(self.codes, self.scale.float(), self.zero)
        return values.reshape(self.weight.shape).to(self.weight.dtype)

    def store(self, weight: Float[Tensor, "a b"], generator: torch.Generator | None) -> None:
        """Quantise a new weight in place of the old, with a scale and zero point of its own."""
        for buffer, value in zip(
            (self.codes, self.scale, self.zero), quantize(weight, generator), strict=True
        ):
            buffer.copy_(value)

    def forward(self, input: Tensor) -> Tensor:
        """Return input · Wᵀ + bias with the dequantised weight."""
        product = _Int8Product.apply(input, self.weight, self)
        return product if self.bias is None else product + self.bias

    def dequantized(self) -> nn.Linear:
        """Return an ordinary linear layer with this one's values."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(self.float_weight(), requires_grad=self.weight.requires_grad)
        linear.bias = self.bias
        return linear

    def _apply(self, fn: Any, recurse: bool = True) -> Int8Linear:
        super()._apply(fn, recurse)
        self.weight.data = _placeholder(self.weight)  # moving would have written out the full shape
        self.scale = self.scale.float()
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[prefix + "weight"]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        missing = rest[2]
        if prefix + "weight" in missing:
            missing.remove(prefix + "weight")


def quantize_linears(model: nn.Module, target: Sequence[str] = ("attn", "mlp")) -> list[Int8Linear]:
    """Replace, in place, every linear layer whose name contains one of `target` by its int8 form.

    Call it before `param_groups`, with the same target; give the layers returned to `QApollo`.

    Raises:
        BadInputError: no layer matches, or groups of 128 elements do not divide one that does.
    """
    layers = []
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and any(part in name for part in target):
            layer = Int8Linear(module)
            model.set_submodule(name, layer)
            layers.append(layer)
    if not layers:
        raise BadInputError(
            f"no linear layer of {type(model).__name__} has a name with any of {tuple(target)}"
        )
    return layers


def dequantize_linears(model: nn.Module) -> None:
    """Replace, in place, every int8 layer by an ordinary linear one, for saving and serving."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Int8Linear):
            model.set_submodule(name, module.dequantized())


class QApollo(Apollo):
    """APOLLO on int8 weights: each step dequantises, moves the weight in float, and quantises again.

    The optimizer's own state is that of APOLLO, in float32. The bias correction sits inside R̃.

    Args:
        params: as for `Apollo`; weights of `layers` step on their codes, all others as usual.
        layers: what `quantize_linears` returned.
        rounding: `stochastic`, which keeps updates smaller than a level alive on average, or `nearest`.
        lr: peak learning rate.
        eps: 1e-8 as in the released Q-APOLLO.
        weight_decay: 0.01 as in the released Q-APOLLO, for groups that do not set their own.
        options: all others of `Apollo`.

    Raises:
        BadInputError: as `Apollo`; also a layer whose weight is in no group.

    Source: arXiv 2412.05270, table 8; the place of the bias correction follows the released code.
    """

    def __init__(
        self,
        params: Any,
        layers: Sequence[Int8Linear],
        *,
        rounding: str = "stochastic",
        lr: float = 0.01,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **options: Any,
    ) -> None:
        check_choice("rounding", rounding, ROUNDINGS, "QApollo")
        self._layers = {layer.weight: layer for layer in layers}
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay, correct_inside=True, **options)
        self.defaults["rounding"] = rounding
        steppable = {
            parameter for group in self.param_groups if "rank" in group for parameter in group["params"]
        }
        strays = [layer for weight, layer in self._layers.items() if weight not in steppable]
        if strays:
            raise BadInputError(
                f"{len(strays)} of {len(self._layers)} int8 layers are in no low-rank group, the first {strays[0]}; "
                "give quantize_linears and param_groups the same target"
            )

    def _move(
        self, parameter: Tensor, gradient: Tensor, coefficients: Tensor, decay: float, group: dict[str, Any]
    ) -> None:
        layer = self._layers.get(parameter)
        if layer is None:
            super()._move(parameter, gradient, coefficients, decay, group)
            return
        weight = dequantize(layer.codes, layer.scale, layer.zero).reshape(gradient.shape)
        move_scaled(weight, gradient.to(weight.dtype), coefficients, decay)
        layer.store(weight, self._rounding_generator(parameter, group))

    def _rounding_generator(self, parameter: Tensor, group: dict[str, Any]) -> torch.Generator | None:
        """Return a generator that depends on run, parameter and step alone, so that resuming repeats it."""
        if self.defaults["rounding"] == "nearest":
            return None
        index = next(index for index, candidate in enumerate(group["params"]) if candidate is parameter)
        number = group["first_number"] + index
        seed = first_seed(number, 1 + group["seed"]) ^ self.state[parameter]["step"]
        return torch.Generator(device=parameter.device).manual_seed(seed)


def _placeholder(like: Tensor) -> Tensor:
    """Return a tensor of the same shape, dtype and device on a single element of storage."""
    return torch.zeros((), dtype=like.dtype, device=like.device).expand(like.shape)
