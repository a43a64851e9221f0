"""APOLLO: AdamW-level training with SGD-like optimizer memory. Source: arXiv 2412.05270."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.efficient.apollo.checks import NonFiniteGradientError
    from papertrial.efficient.apollo.galore import GaLore
    from papertrial.efficient.apollo.groups import param_groups
    from papertrial.efficient.apollo.layerwise import LayerwiseSteps
    from papertrial.efficient.apollo.optimizer import Apollo
    from papertrial.efficient.apollo.quantized import (
        Int8Linear,
        QApollo,
        dequantize_linears,
        quantize_linears,
    )

__all__ = [
    "Apollo",
    "GaLore",
    "Int8Linear",
    "LayerwiseSteps",
    "NonFiniteGradientError",
    "QApollo",
    "dequantize_linears",
    "param_groups",
    "quantize_linears",
]

_MODULE_OF = {
    "Apollo": "optimizer",
    "GaLore": "galore",
    "Int8Linear": "quantized",
    "LayerwiseSteps": "layerwise",
    "NonFiniteGradientError": "checks",
    "QApollo": "quantized",
    "dequantize_linears": "quantized",
    "param_groups": "groups",
    "quantize_linears": "quantized",
}

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
