"""Turn a transformers model into a BitNet v2 and switch its activations between INT8 and INT4.

Source: arXiv 2504.18415, section 2; layer choice in section 2.2.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from papertrial.efficient.bitnet_v2.linear import BitLinear, HBitLinear, Rotation, bit_linears
from papertrial.efficient.bitnet_v2.quantizers import check_bits
from papertrial.efficient.hadamard import HadamardKind, hadamard_plan, hadamard_transform
from papertrial.efficient.layers import Replacement, replace_linears
from papertrial.errors import BadInputError, unknown

CONFIG_KEY = "papertrial_bitnet"
"""Where a model's configuration records how it was made a BitNet."""

_OWN_SUB_NORMS = {"o_proj": "attn_sub_norm", "down_proj": "ffn_sub_norm"}  # of transformers' BitNet


@dataclass(frozen=True)
class BitNetOptions:
    """How a model is made a BitNet; recorded in its configuration.

    Attributes:
        activation_bits: 8 or 4.
        rotation: "activations" (the method), "both" (weights too), "none" (BitNet b1.58).
        hadamard: "strict" for powers of two only, or a kind of `papertrial.efficient.hadamard`.
        rotated: patterns of the layers with sub-norm and rotation.
        sub_norm: whether those layers get a sub-norm where the model has none of its own.
        norm_eps: of such sub-norms.
        bias: "refuse" or "keep" biases; the paper's models have none.
        skip: patterns of layers that stay as they are.
    """

    activation_bits: int = 8
    rotation: str = "activations"
    hadamard: str = "strict"
    rotated: tuple[str, ...] = ("o_proj", "down_proj")
    sub_norm: bool = True
    norm_eps: float = 1e-5
    bias: str = "refuse"
    skip: tuple[str, ...] = ("lm_head",)

    def check(self) -> None:
        """Raise `BadInputError` where an option cannot be."""
        check_bits(self.activation_bits)
        for name, known in (
            ("rotation", ("activations", "both", "none")),
            ("hadamard", ("strict", "auto", "sylvester", "block", "paley")),
            ("bias", ("refuse", "keep")),
        ):
            if getattr(self, name) not in known:
                raise unknown(name, str(getattr(self, name)), known)

    def as_json(self) -> dict[str, Any]:
        """Return the options as a configuration file keeps them."""
        return {**asdict(self), "rotated": list(self.rotated), "skip": list(self.skip)}

    @property
    def kind(self) -> HadamardKind:
        """The form of the Hadamard matrices."""
        return "sylvester" if self.hadamard == "strict" else cast(HadamardKind, self.hadamard)


class FreshOptimizerWarning(UserWarning):
    """Stage 2 begins with an optimizer that has no state: the paper goes on with that of stage 1."""


class RotatedWeightWarning(UserWarning):
    """A weight was rotated and will be ternarised anew: the model no longer computes what it did."""


def use_bitnet(
    model: PreTrainedModel,
    options: BitNetOptions | None = None,
    *,
    fold_rotation: bool = False,
) -> Replacement:
    """Replace all linear layers of `model` in place: H-BitLinear where `rotated` says, BitLinear elsewhere.

    Embeddings and the output head stay in full precision. On transformers' BitNet the model's own sub-norms
    serve; on Llama, Mistral, Qwen and others H-BitLinear owns one, with a gain of ones to be trained.
    A model that was trained without rotation computes something else afterwards: go on training it.

    Args:
        model: any language model of linear layers; its weights become the latent weights.
        options: the defaults of `BitNetOptions` if not given.
        fold_rotation: rotate the weights of rotated layers once, in place, so that a model trained without
            rotation computes nearly what it did (its weights are still ternarised anew); warns.

    Returns:
        What was replaced; `restore()` puts the linear layers back.

    Raises:
        BadInputError: a rotated layer's input has no Hadamard matrix of the asked form, or is an embedding or
            the output head; a layer has a bias; weights are quantised already; or an option is unknown.
    """
    options = options or BitNetOptions()
    options.check()
    _check_rotated(model, options)

    def make(name: str, linear: nn.Linear) -> BitLinear:
        _check_linear(name, linear, options)
        if not _is_rotated(name, options):
            return BitLinear(
                linear, activation_bits=options.activation_bits, norm=getattr(linear, "rms_norm", None)
            )
        norm = _sub_norm(model, name, linear, options)
        if options.rotation == "none":
            return BitLinear(linear, activation_bits=options.activation_bits, norm=norm)
        return HBitLinear(
            linear,
            activation_bits=options.activation_bits,
            norm=norm,
            rotation=cast(Rotation, options.rotation),
            hadamard=_plan_kind(name, linear, options),
        )

    replacement = replace_linears(model, make, skip=options.skip)
    if fold_rotation:
        _fold(replacement)
    setattr(model.config, CONFIG_KEY, options.as_json())
    return replacement


def set_activation_bits(
    model: nn.Module, bits: int, *, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Quantise the input of every BitLinear and H-BitLinear to `bits` from now on.

    Args:
        model: after `use_bitnet`.
        bits: 8 or 4.
        optimizer: the one that goes on; warns where it has no state, since stage 2 continues that of stage 1.

    Raises:
        BadInputError: `bits` is neither 8 nor 4, or the model has no BitLinear.

    Source: arXiv 2504.18415, section 2.3.
    """
    check_bits(bits)
    layers = bit_linears(model)
    if optimizer is not None and bits == 4 and not optimizer.state:
        warnings.warn(
            "the optimizer has no state yet: stage 2 (INT4) continues with the moments of stage 1 (INT8)",
            FreshOptimizerWarning,
            stacklevel=2,
        )
    for layer in layers.values():
        layer.activation_bits = bits
    config = getattr(model, "config", None)
    recorded = getattr(config, CONFIG_KEY, None)
    if recorded is not None:
        setattr(config, CONFIG_KEY, {**recorded, "activation_bits": bits})


def recorded_options(config: Any) -> BitNetOptions:
    """Return the options that a model's configuration records.

    Raises:
        BadInputError: it records none.
    """
    recorded = getattr(config, CONFIG_KEY, None)
    if recorded is None:
        raise BadInputError(f"the configuration has no {CONFIG_KEY!r}: this model was not made by use_bitnet")
    known = {name: value for name, value in recorded.items() if name in BitNetOptions.__dataclass_fields__}
    return BitNetOptions(**{**known, "rotated": tuple(known["rotated"]), "skip": tuple(known["skip"])})


def _is_rotated(name: str, options: BitNetOptions) -> bool:
    return any(fnmatchcase(name, p) or fnmatchcase(name, f"*.{p}") for p in options.rotated)


def _check_rotated(model: PreTrainedModel, options: BitNetOptions) -> None:
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    for name, module in model.named_modules(remove_duplicate=False):
        if any(module is end for end in ends) and _is_rotated(name, options):
            raise BadInputError(
                f"rotated names {name}, which is the embedding or the output head; those stay in full precision"
            )


def _check_linear(name: str, linear: nn.Linear, options: BitNetOptions) -> None:
    if isinstance(linear, BitLinear):
        raise BadInputError(f"{name} is a BitLinear already; restore() the first replacement")
    if not linear.weight.is_floating_point():
        raise BadInputError(
            f"the weight of {name} is {linear.weight.dtype}, quantised already; training needs latent weights"
        )
    if linear.bias is not None and options.bias == "refuse":
        raise BadInputError(
            f"{name} has a bias, and BitNet's layers have none; bias='keep' keeps it in full precision"
        )


def _plan_kind(name: str, linear: nn.Linear, options: BitNetOptions) -> HadamardKind:
    try:
        return hadamard_plan(linear.in_features, options.kind).kind
    except BadInputError as problem:
        alternative = "hadamard='paley' or hadamard='block'" if options.hadamard == "strict" else "'auto'"
        raise BadInputError(
            f"{name} has {linear.in_features} inputs, no size for hadamard={options.hadamard!r} ({problem}); "
            f"try {alternative}"
        ) from problem


def _sub_norm(model: nn.Module, name: str, linear: nn.Linear, options: BitNetOptions) -> nn.Module | None:
    """Return the norm that the layer is to own: none where the model has one just before it."""
    parent, _, own = name.rpartition(".")
    if hasattr(model.get_submodule(parent), _OWN_SUB_NORMS.get(own, "")) or not options.sub_norm:
        return getattr(linear, "rms_norm", None)
    weight = linear.weight
    return nn.RMSNorm(linear.in_features, eps=options.norm_eps, device=weight.device, dtype=weight.dtype)


def _fold(replacement: Replacement) -> None:
    rotated = {n: m for n, m in replacement.replaced.items() if isinstance(m, HBitLinear)}
    with torch.no_grad():
        for layer in rotated.values():
            layer.weight.copy_(hadamard_transform(layer.weight, kind=layer.hadamard))
    warnings.warn(
        f"the weights of {len(rotated)} layers were rotated and are ternarised anew: expect a higher loss until "
        "training has gone on",
        RotatedWeightWarning,
        stacklevel=3,
    )
