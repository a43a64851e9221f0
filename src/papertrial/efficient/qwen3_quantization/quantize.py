"""Quantising a model: one decoder layer at a time, any method, in place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from papertrial.efficient.binary_linear import BinaryParts, PackedLinear, replace_by_binary
from papertrial.efficient.calibration import BlockByBlock
from papertrial.efficient.experts import separate_experts
from papertrial.efficient.layouts import DECODER_NAMES, LayerNames, ModelLayout, layout_of
from papertrial.efficient.quantized_linear import replace_by_quantized
from papertrial.efficient.qwen3_quantization.layer_methods import METHODS, Quantized, round_layer
from papertrial.efficient.qwen3_quantization.report import QuantizationReport
from papertrial.efficient.qwen3_quantization.settings import NEED_CALIBRATION, QuantizationSettings
from papertrial.errors import BadInputError


def quantize_model(
    model: nn.Module,
    settings: QuantizationSettings,
    calibration: Int64[Tensor, "sequences tokens"] | None = None,
    *,
    packed: bool = True,
    names: LayerNames = DECODER_NAMES,
    batch_size: int = 8,
    progress: Callable[[int, int], Any] | None = None,
) -> QuantizationReport:
    """Quantise the matrices of a model's decoder layers in place; embeddings, norms, head and routers stay.

    Beside the weights it holds one layer's inputs and what its method remembers of them.

    Args:
        model: a causal language model whose layers `names` describes.
        settings: method and options.
        calibration: token ids; may be left out for rtn and rtn_wa, whose report then lacks output errors.
        packed: put `QuantLinear` (for BiLLM `BinaryLinear`) layers in place of the linears; else the linears
            stay and hold the rounded values. BiLLM's always do with `scale_dtype="float32"`, which is as
            released. Weight-activation methods round activations in packed layers only, and refuse
            `packed=False`.
        names: where the matrices are.
        batch_size: calibration sequences that run at once.
        progress: told how many layers are done, of how many.

    Returns:
        What became of each matrix, and the bytes they take.

    Raises:
        BadInputError: settings that do not fit, no calibration where one is needed, a model that is
            quantised already, weights or activations that are not finite, a Hessian that cannot be factored.
            The message names the layer. The model may be partly quantised then.

    Source: arXiv 2505.02214, section 2.1.
    """
    settings.check()
    _check_request(model, settings, calibration, packed)
    separate_experts(model)
    layout = layout_of(model, names)
    for name in layout.linears:
        settings.grid().group_of_width(_inputs_of(model, name), name)
    report = QuantizationReport()
    blocks = (
        None
        if calibration is None
        else BlockByBlock(model, calibration, layout=layout, batch_size=batch_size)
    )
    for index, layer in enumerate(layout.layers):
        with torch.no_grad():
            if blocks is None:
                done = round_layer(layer, settings, report)
            else:
                done = METHODS[settings.method](layer, blocks, index, settings, report)
        if packed:
            _pack(model, layout, index, done, settings)
        if progress is not None:
            progress(index + 1, len(layout.layers))
    if report.fallbacks and blocks is not None:
        message = f"{report.fallbacks} expert matrices saw no calibration token and were rounded without it"
        report.notes.append(message)
        warnings.warn(f"{message}; calibrate on more, and more varied, text", stacklevel=2)
    return report


def is_quantized(model: nn.Module) -> bool:
    """Say whether a model holds packed layers or was loaded from a quantised checkpoint."""
    config = getattr(model, "config", None)
    return (
        any(isinstance(module, PackedLinear) for module in model.modules())
        or getattr(config, "quantization_config", None) is not None
    )


def _pack(
    model: nn.Module, layout: ModelLayout, index: int, done: Quantized, settings: QuantizationSettings
) -> None:
    layer = layout.layers[index]
    for name, weight in done.items():
        if isinstance(weight, BinaryParts):
            replace_by_binary(model, layer.qualified(name), weight)
        else:
            replace_by_quantized(model, layer.qualified(name), weight, settings.rounded_activation_bits)


def _check_request(
    model: nn.Module, settings: QuantizationSettings, calibration: Tensor | None, packed: bool
) -> None:
    if is_quantized(model):
        raise BadInputError(
            f"this {type(model).__name__} is quantised already; load it in full precision first"
        )
    if calibration is None and settings.method in NEED_CALIBRATION:
        raise BadInputError(f"{settings.method} looks at activations: give calibration token ids")
    if not packed and settings.rounded_activation_bits is not None:
        raise BadInputError(
            f"{settings.method} rounds activations, which plain linears cannot; leave packed=True"
        )


def _inputs_of(model: nn.Module, name: str) -> int:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return int(weight.shape[1])
