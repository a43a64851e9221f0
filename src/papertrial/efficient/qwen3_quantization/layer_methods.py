"""Each method on one decoder layer: what it looks at, in which order, and what it puts in place of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from papertrial.efficient.accounting import quantized_bytes
from papertrial.efficient.binary_linear import BinaryParts
from papertrial.efficient.calibration import BlockByBlock
from papertrial.efficient.layouts import LayerLayout
from papertrial.efficient.quantized_linear import QuantizedWeight
from papertrial.efficient.qwen3_quantization.awq import quantize_clipped
from papertrial.efficient.qwen3_quantization.awq_units import apply_scales, recording, search_unit, units_of
from papertrial.efficient.qwen3_quantization.billm import billm_weight
from papertrial.efficient.qwen3_quantization.gptq import gptq_weight, inverse_factor
from papertrial.efficient.qwen3_quantization.grids import round_weight
from papertrial.efficient.qwen3_quantization.inputs import InputStatistics, relative_error
from papertrial.efficient.qwen3_quantization.layer_inputs import (
    alone,
    input_statistics,
    observers,
    passes,
    plain,
    sample_error,
)
from papertrial.efficient.qwen3_quantization.report import LinearReport, QuantizationReport
from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings
from papertrial.efficient.qwen3_quantization.smoothquant import SMOOTHED_NORMS, smooth_norm

Quantized = Mapping[str, QuantizedWeight | BinaryParts]
"""The quantised weights of a layer by name; those that have no packed form are left out."""
LayerMethod = Callable[[LayerLayout, BlockByBlock, int, QuantizationSettings, QuantizationReport], Quantized]

_REPORTED_TOKENS = 512  # enough tokens to rank matrices by their error


def put(
    layer: LayerLayout,
    name: str,
    new: QuantizedWeight,
    report: QuantizationReport,
    *,
    was: Tensor,
    **facts: Any,
) -> None:
    """Put the rounded values in a linear's place and report what that changes.

    `was` is the weight before, and may be the one that is written over.
    """
    values = new.dequantize()
    add_report(layer, name, values, report, was=was, **facts)
    layer.weight(name).data.copy_(values)
    report.size += quantized_bytes(new)


def add_report(
    layer: LayerLayout, name: str, values: Tensor, report: QuantizationReport, *, was: Tensor, **facts: Any
) -> None:
    """Add a matrix to the report."""
    norm = float(was.float().square().sum())
    change = float((values.to(was.device) - was.float()).square().sum()) / norm if norm else math.nan
    report.linears.append(LinearReport(layer.qualified(name), change, **facts))


def round_layer(layer: LayerLayout, settings: QuantizationSettings, report: QuantizationReport) -> Quantized:
    """RTN without calibration."""
    done = {}
    for name in layer.linears:
        was = layer.weight(name).detach().clone()
        done[name] = round_weight(was, settings.grid(), layer.qualified(name))
        put(layer, name, done[name], report, was=was)
    return done


def rtn_layer(
    layer: LayerLayout,
    blocks: BlockByBlock,
    index: int,
    settings: QuantizationSettings,
    report: QuantizationReport,
) -> Quantized:
    """RTN, with the errors of the outputs on the calibration; that changes nothing of what it does."""
    seen = input_statistics(layer, layer.sequential, blocks, sample=_REPORTED_TOKENS)
    blocks.advance(index, observers(layer.sequential, seen))
    done = {}
    for name in layer.linears:
        was = layer.weight(name).detach().clone()
        done[name] = round_weight(was, settings.grid(), layer.qualified(name))
        error = sample_error(was, done[name], seen[name].sample() if seen[name].tokens else None)
        put(layer, name, done[name], report, was=was, output_error=error, fallback=not seen[name].tokens)
    return done


def gptq_layer(
    layer: LayerLayout,
    blocks: BlockByBlock,
    index: int,
    settings: QuantizationSettings,
    report: QuantizationReport,
) -> Quantized:
    """GPTQ, set after set, each on inputs made by what is quantised already; matrices of a set are solved as one."""
    done: dict[str, QuantizedWeight] = {}
    for sets in passes(layer, settings):
        seen = input_statistics(layer, sets, blocks, moment=True)
        blocks.observe(index, observers(sets, seen))
        for names in sets:
            done |= _gptq_set(layer, names, seen[names[0]], blocks.sequences, settings, report)
    blocks.advance(index)
    return done


def _gptq_set(
    layer: LayerLayout,
    names: Sequence[str],
    seen: InputStatistics,
    sequences: int,
    settings: QuantizationSettings,
    report: QuantizationReport,
) -> dict[str, QuantizedWeight]:
    if seen.tokens == 0:
        return {name: _fall_back(layer, name, settings, report) for name in names}
    weights = [layer.weight(name).detach() for name in names]
    options, label = settings.gptq(), layer.qualified(names[0])
    hessian = seen.take_moment().cpu().mul_(2.0 / sequences)
    factor = inverse_factor(hessian, damping=options.damping, act_order=options.act_order, name=label)
    _note_damping(label, factor.damping, settings, report)
    stacked = gptq_weight(torch.cat(weights), hessian, options, factor=factor, name=label)
    done = {}
    heights = [len(weight) for weight in weights]
    parts = zip(
        *(part.split(heights) for part in (stacked.codes, stacked.scales, stacked.zeros)), strict=True
    )
    for name, was, (codes, scales, zeros) in zip(names, weights, parts, strict=True):
        done[name] = QuantizedWeight(codes, scales, zeros, stacked.bits, stacked.group_of)
        error = relative_error(done[name].dequantize() - plain(was), plain(was), hessian)
        put(layer, name, done[name], report, was=was, output_error=error, damping=factor.damping)
    return done


def billm_layer(
    layer: LayerLayout,
    blocks: BlockByBlock,
    index: int,
    settings: QuantizationSettings,
    report: QuantizationReport,
) -> Quantized:
    """BiLLM: one pass for all matrices of the layer, then all of them.

    An expert that no token reached is binarised as if its inputs were white: no error is passed on.
    """
    done: dict[str, BinaryParts] = {}
    seen = input_statistics(layer, layer.sequential, blocks, moment=True)
    blocks.observe(index, observers(layer.sequential, seen))
    for names in layer.sequential:
        fallback = seen[names[0]].tokens == 0
        label, inputs = layer.qualified(names[0]), layer.weight(names[0]).shape[1]
        hessian = (
            torch.eye(inputs) if fallback else seen[names[0]].take_moment().cpu().mul_(2.0 / blocks.sequences)
        )
        factor = inverse_factor(hessian, damping=settings.damping, name=label)
        _note_damping(label, factor.damping, settings, report)
        for name in names:
            was = layer.weight(name).detach().clone()
            binary = billm_weight(was, hessian, settings.billm(), factor=factor, name=layer.qualified(name))
            layer.weight(name).data.copy_(binary.weight)
            report.add_binary(binary.bytes, binary.nominal_bits)
            if binary.parts is not None:
                done[name] = binary.parts
            error = math.nan if fallback else relative_error(binary.weight - plain(was), plain(was), hessian)
            facts = {"output_error": error, "damping": factor.damping, "fallback": fallback}
            add_report(layer, name, binary.weight, report, was=was, **facts)
    blocks.advance(index)
    return done


def awq_layer(
    layer: LayerLayout,
    blocks: BlockByBlock,
    index: int,
    settings: QuantizationSettings,
    report: QuantizationReport,
) -> Quantized:
    """AWQ: all units searched on the untouched layer and its untouched inputs, then scaled, clipped and rounded."""
    options = settings.awq()
    units, notes = units_of(layer)
    report.notes.extend(notes)
    with recording(layer, units, blocks, options) as recorded:
        lone = {unit.inspected for unit in units} - set(recorded)
        seen = input_statistics(layer, layer.sequential, blocks, moment_of=lone, sample=options.clip_tokens)
        blocks.advance(index, observers(layer.sequential, seen))
    reached = [u for u in units if u.inspected not in u.readers or seen[u.inspected].tokens]
    searches = [search_unit(layer, unit, recorded, seen, options) for unit in reached]
    scales = {name: s.scales for unit, s in zip(reached, searches, strict=True) for name in unit.readers}
    for unit, search in zip(reached, searches, strict=True):
        apply_scales(layer, unit, search.scales)
    done = {}
    for name in layer.linears:
        was = layer.weight(name).detach().clone()
        sample = None
        if seen[name].tokens:
            sample = seen[name].sample() / scales.get(name, 1.0)
        done[name], _ = quantize_clipped(layer.qualified(name), was, sample, options)
        error = sample_error(was, done[name], sample)
        put(layer, name, done[name], report, was=was, output_error=error, fallback=sample is None)
    return done


def smoothquant_layer(
    layer: LayerLayout,
    blocks: BlockByBlock,
    index: int,
    settings: QuantizationSettings,
    report: QuantizationReport,
) -> Quantized:
    """SmoothQuant, or for rtn_wa the same rounding without smoothing."""
    seen = input_statistics(
        layer, (*layer.sequential, *alone(layer.routers)), blocks, sample=_REPORTED_TOKENS
    )
    blocks.advance(index, observers((*layer.sequential, *alone(layer.routers)), seen))
    scales: dict[str, Tensor] = {}
    for norm, readers in layer.norm_groups.items():
        # A router reads every token; of the experts, each reads only its own.
        everything = seen[next((name for name in readers if name in layer.routers), readers[0])]
        smoothed = settings.method == "smoothquant" and norm in SMOOTHED_NORMS
        if smoothed and everything.absolute_max is not None:
            found = smooth_norm(layer, norm, everything.absolute_max, settings.alpha)
            scales |= dict.fromkeys(readers, found)
    done = {}
    for name in layer.linears:
        was = layer.weight(name).detach().clone()
        done[name] = round_weight(was, settings.grid(), layer.qualified(name))
        sample = seen[name].sample() / scales.get(name, 1.0) if seen[name].tokens else None
        error = sample_error(was, done[name], sample, settings.rounded_activation_bits)
        put(layer, name, done[name], report, was=was, output_error=error, fallback=sample is None)
    return done


def _fall_back(
    layer: LayerLayout, name: str, settings: QuantizationSettings, report: QuantizationReport
) -> QuantizedWeight:
    was = layer.weight(name).detach().clone()
    rounded = round_weight(was, settings.grid(), layer.qualified(name))
    put(layer, name, rounded, report, was=was, fallback=True)
    return rounded


def _note_damping(
    label: str, damping: float, settings: QuantizationSettings, report: QuantizationReport
) -> None:
    if damping > settings.damping:
        report.notes.append(f"{label}: damping raised from {settings.damping:g} to {damping:g}")


METHODS: Mapping[str, LayerMethod] = {
    "rtn": rtn_layer,
    "gptq": gptq_layer,
    "billm": billm_layer,
    "awq": awq_layer,
    "smoothquant": smoothquant_layer,
    "rtn_wa": smoothquant_layer,
}
"""Every method on one layer."""
