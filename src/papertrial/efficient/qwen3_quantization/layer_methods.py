"""Each method on one decoder layer: what it looks at, in which order, and what it puts in place of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from papertrial.efficient.accounting import quantized_bytes
from papertrial.efficient.calibration import BlockByBlock
from papertrial.efficient.layouts import LayerLayout
from papertrial.efficient.quantized_linear import QuantizedWeight, quantize_activations
from papertrial.efficient.qwen3_quantization.awq import quantize_clipped
from papertrial.efficient.qwen3_quantization.awq_units import apply_scales, recording, search_unit, units_of
from papertrial.efficient.qwen3_quantization.billm import billm_weight
from papertrial.efficient.qwen3_quantization.gptq import gptq_weight, inverse_factor
from papertrial.efficient.qwen3_quantization.grids import round_weight
from papertrial.efficient.qwen3_quantization.inputs import InputStatistics, relative_error, stride_for
from papertrial.efficient.qwen3_quantization.report import LinearReport, QuantizationReport
from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings
from papertrial.efficient.qwen3_quantization.smoothquant import SMOOTHED_NORMS, smooth_norm

Quantized = dict[str, QuantizedWeight]
"""The quantised weights of a layer by name; those that have no whole-number form are left out."""
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
    """Put the rounded values in a linear's place and report what that changed; `was` is the weight before."""
    values = new.dequantize()
    layer.weight(name).data.copy_(values)
    add_report(layer, name, values, report, was=was, **facts)
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
    seen = _statistics(layer, layer.sequential, blocks, sample=_REPORTED_TOKENS)
    blocks.advance(index, _observers(layer.sequential, seen))
    done = {}
    for name in layer.linears:
        was = layer.weight(name).detach().clone()
        done[name] = round_weight(was, settings.grid(), layer.qualified(name))
        error = _sample_error(was, done[name], seen[name].sample() if seen[name].tokens else None)
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
    done: Quantized = {}
    for sets in _passes(layer, settings):
        seen = _statistics(layer, sets, blocks, moment=True)
        blocks.observe(index, _observers(sets, seen))
        for names in sets:
            done |= _gptq_set(layer, names, seen[names[0]], blocks.sequences, settings, report)
            seen[names[0]].forget()
    blocks.advance(index)
    return done


def _gptq_set(
    layer: LayerLayout,
    names: Sequence[str],
    seen: InputStatistics,
    sequences: int,
    settings: QuantizationSettings,
    report: QuantizationReport,
) -> Quantized:
    if seen.tokens == 0:
        return {name: _fall_back(layer, name, settings, report) for name in names}
    weights = [layer.weight(name).detach().clone() for name in names]
    options, label = settings.gptq(), layer.qualified(names[0])
    hessian = seen.moment().cpu() * (2.0 / sequences)
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
        error = relative_error(done[name].dequantize() - _plain(was), _plain(was), hessian)
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
    seen = _statistics(layer, layer.sequential, blocks, moment=True)
    blocks.observe(index, _observers(layer.sequential, seen))
    for names in layer.sequential:
        fallback = seen[names[0]].tokens == 0
        label, inputs = layer.qualified(names[0]), layer.weight(names[0]).shape[1]
        hessian = torch.eye(inputs) if fallback else seen[names[0]].moment().cpu() * (2.0 / blocks.sequences)
        factor = inverse_factor(hessian, damping=settings.damping, name=label)
        _note_damping(label, factor.damping, settings, report)
        for name in names:
            was = layer.weight(name).detach().clone()
            binary = billm_weight(was, hessian, settings.billm(), factor=factor, name=layer.qualified(name))
            layer.weight(name).data.copy_(binary.weight)
            report.add_binary(binary.bytes, binary.nominal_bits)
            error = (
                math.nan if fallback else relative_error(binary.weight - _plain(was), _plain(was), hessian)
            )
            facts = {"output_error": error, "damping": factor.damping, "fallback": fallback}
            add_report(layer, name, binary.weight, report, was=was, **facts)
        seen[names[0]].forget()
    blocks.advance(index)
    return {}


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
    alone = {unit.inspected for unit in units if unit.inspected in unit.readers}
    seen = _statistics(layer, layer.sequential, blocks, moment_of=alone, sample=options.clip_tokens)
    with recording(layer, units) as recorded:
        blocks.advance(index, _observers(layer.sequential, seen))
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
        error = _sample_error(was, done[name], sample)
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
    seen = _statistics(layer, (*layer.sequential, *_alone(layer.routers)), blocks, sample=_REPORTED_TOKENS)
    blocks.advance(index, _observers((*layer.sequential, *_alone(layer.routers)), seen))
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
        error = _sample_error(was, done[name], sample, settings.rounded_activation_bits)
        put(layer, name, done[name], report, was=was, output_error=error, fallback=sample is None)
    return done


def _passes(layer: LayerLayout, settings: QuantizationSettings) -> list[tuple[tuple[str, ...], ...]]:
    """Return the sets of matrices whose inputs are looked at in one pass; experts run side by side."""
    if not settings.true_sequential:
        return [layer.sequential]
    passes: dict[str, list[tuple[str, ...]]] = {}
    for names in layer.sequential:
        parent, _, last = names[0].rpartition(".")
        stage = "mlp" if any(part.isdigit() for part in parent.split(".")) else parent
        passes.setdefault(f"{stage}.{last}", []).append(names)
    return [tuple(sets) for sets in passes.values()]


def _statistics(
    layer: LayerLayout,
    sets: Sequence[tuple[str, ...]],
    blocks: BlockByBlock,
    *,
    moment: bool = False,
    moment_of: Collection[str] = (),
    sample: int | None = None,
) -> dict[str, InputStatistics]:
    """Return the statistics of each matrix's input: one object for all that read the same one."""
    every = None if sample is None else stride_for(blocks.tokens, sample)
    seen: dict[str, InputStatistics] = {}
    for names in sets:
        shared = InputStatistics(
            moment=moment or any(name in moment_of for name in names), sample_every=every
        )
        seen |= dict.fromkeys(names, shared)
    return seen


def _observers(
    sets: Sequence[tuple[str, ...]], seen: Mapping[str, InputStatistics]
) -> dict[str, Callable[[Tensor], None]]:
    """Return what looks at one matrix of each set."""
    return {names[0]: seen[names[0]].add for names in sets}


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


def _sample_error(
    was: Tensor, new: QuantizedWeight, sample: Tensor | None, activation_bits: int | None = None
) -> float:
    """Return the relative squared error of the output on some tokens; NaN where there are none."""
    if sample is None:
        return math.nan
    expected = sample @ was.float().T
    inputs = sample if activation_bits is None else quantize_activations(sample, activation_bits)
    error = float((inputs @ new.dequantize().to(inputs.device).T - expected).square().sum())
    whole = float(expected.square().sum())
    return error / whole if whole else math.nan


def _alone(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [(name,) for name in names]


def _plain(weight: Tensor) -> Tensor:
    return weight.float().cpu()


METHODS: Mapping[str, LayerMethod] = {
    "rtn": rtn_layer,
    "gptq": gptq_layer,
    "billm": billm_layer,
    "awq": awq_layer,
    "smoothquant": smoothquant_layer,
    "rtn_wa": smoothquant_layer,
}
"""Every method on one layer."""
