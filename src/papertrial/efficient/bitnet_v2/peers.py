"""transformers' own packed layer put into a model: what packed inference is held against."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from papertrial.efficient.bitnet_v2.packing import pack_ternary
from papertrial.efficient.bitnet_v2.quantizers import ternary_codes
from papertrial.efficient.layers import Replacement, replace_linears

_MODULE = "transformers.integrations.bitnet"


def transformers_bitnet() -> Any:
    """Return transformers' module of BitNet layers.

    Importing it loads torch's compiler, which takes seconds and warns that a part of its own is deprecated.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        return import_module(_MODULE)


def loaded_transformers_bitnet() -> Any | None:
    """Return that module if it is loaded already; if it is not, no model holds a layer of it."""
    return sys.modules.get(_MODULE)


def use_transformers_packed(model: PreTrainedModel) -> Replacement:
    """Replace the linear layers of a full-precision model in place by transformers' packed `BitLinear` (INT8).

    Its `weight_scale` is 1/α, by which it divides.
    """

    def make(name: str, linear: nn.Linear) -> nn.Module:
        codes, scale = ternary_codes(linear.weight)
        layer = transformers_bitnet().BitLinear(
            linear.in_features, linear.out_features, linear.bias is not None, dtype=linear.weight.dtype
        )
        layer.weight.copy_(pack_ternary(codes))
        layer.weight_scale.fill_(1 / float(scale))
        if linear.bias is not None:
            layer.bias.copy_(linear.bias.detach())
        return layer

    return replace_linears(model, make)
