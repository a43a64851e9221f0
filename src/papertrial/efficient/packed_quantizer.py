"""Our format of packed models, as transformers wants a quantisation method told.

Importing this module makes it known: `AutoModelForCausalLM.from_pretrained` then gives the packed model. Without
it transformers warns that the method is unknown and draws the packed weights at random.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from papertrial.efficient.binary_linear import BinaryLinear
from papertrial.efficient.experts import separate_experts
from papertrial.efficient.quantized_linear import QuantLinear
from papertrial.errors import BadInputError

QUANT_METHOD = "papertrial"
"""What config.json calls it."""

_FORMAT_VERSION = 1


@register_quantization_config(QUANT_METHOD)
class PackedConfig(QuantizationConfigMixin):
    """What config.json says of a packed model.

    Attributes:
        method: how the codes were found ("gptq", …); for people.
        bits, group_size, activation_bits: of every packed layer; group_size −1 is one scale a row. With 1 bit
            the layers are binarised, and group_size is the columns of a block.
        ordered: whether columns stand in another order than the inputs.
        scale_dtype: the number format of the scales.
        modules: the packed layers.
    """

    def __init__(
        self,
        method: str = "",
        bits: int = 4,
        group_size: int = -1,
        activation_bits: int | None = None,
        ordered: bool = False,
        scale_dtype: str = "float16",
        modules: tuple[str, ...] | list[str] = (),
        **other: Any,
    ) -> None:
        """Take the fields of config.json; `other` holds what the base class writes beside them."""
        self.quant_method = QUANT_METHOD  # type: ignore[assignment]  # an enumeration of transformers' own
        self.version = other.get("version", _FORMAT_VERSION)
        if self.version != _FORMAT_VERSION:
            raise BadInputError(
                f"this checkpoint has format version {self.version}; {_FORMAT_VERSION} is read here"
            )
        self.method, self.bits, self.group_size = method, bits, group_size
        self.activation_bits, self.ordered, self.scale_dtype = activation_bits, ordered, scale_dtype
        self.modules = list(modules)


@register_quantizer(QUANT_METHOD)
class PackedQuantizer(HfQuantizer):
    """Puts empty packed layers into a model before its weights are read. transformers calls it."""

    requires_calibration = True
    quantization_config: PackedConfig

    def _process_model_before_weight_loading(self, model: nn.Module, **_: Any) -> None:
        settings = self.quantization_config
        separate_experts(model)
        for name in settings.modules:
            linear = cast(nn.Linear, model.get_submodule(name))
            group = linear.in_features if settings.group_size == -1 else settings.group_size
            shape: dict[str, Any] = {
                "bias": linear.bias is not None,
                "dtype": linear.weight.dtype,
                "scale_dtype": getattr(torch, settings.scale_dtype),
                "device": "meta",
            }
            packed: nn.Module
            if settings.bits == BinaryLinear.bits:
                packed = BinaryLinear(linear.in_features, linear.out_features, group, **shape)
            else:
                shape |= {"ordered": settings.ordered, "activation_bits": settings.activation_bits}
                packed = QuantLinear(linear.in_features, linear.out_features, settings.bits, group, **shape)
            model.set_submodule(name, packed)

    def get_new_dtype(self, converter: Any, param: Any, dtype: torch.dtype | None) -> torch.dtype | None:
        """Return the format in which a tensor is read: as the empty layer has it, so that scales keep theirs."""
        return dtype

    def is_serializable(self) -> bool:
        """Say that a packed model can be saved."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Say that whole numbers have no gradient."""
        return False
