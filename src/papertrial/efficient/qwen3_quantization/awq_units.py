"""AWQ's units in a decoder layer: which op is divided, which matrices are multiplied, whose output is inspected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from papertrial.efficient.layouts import LayerLayout, scale_norm
from papertrial.efficient.qwen3_quantization.awq import AwqOptions, ScaleSearch, moment_loss, search_scales
from papertrial.efficient.qwen3_quantization.inputs import InputStatistics


@dataclass(frozen=True)
class Unit:
    """One scale search.

    Attributes:
        previous: the norm or linear whose output is divided.
        readers: the linears whose columns are multiplied, and which are rounded while searching.
        exact: routers that read the same channels: multiplied too, never rounded.
        inspected: the module whose output decides; a reader itself where that is one linear.
    """

    previous: str
    readers: tuple[str, ...]
    exact: tuple[str, ...]
    inspected: str


@dataclass
class Recording:
    """What an inspected module was called with, batch by batch, and what it gave."""

    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    outputs: list[Tensor]

    def inputs(self) -> list[Tensor]:
        """Return the hidden states of each call."""
        return [arguments[0] if arguments else named["hidden_states"] for arguments, named in self.calls]


def units_of(layer: LayerLayout) -> tuple[list[Unit], list[str]]:
    """Return a layer's units and notes on those that cannot be: v → o needs equal shapes, so never under GQA."""
    units, notes = [], []
    for norm, names in layer.norm_groups.items():
        readers = tuple(name for name in names if name in layer.linears)
        exact = tuple(name for name in names if name in layer.routers)
        units.append(Unit(norm, readers, exact, layer.inspected.get(readers[0], readers[0])))
    for reader, source in layer.chains.items():
        before, after = layer.weight(source), layer.weight(reader)
        if source.endswith("v_proj") and before.shape != after.shape:
            notes.append(
                f"{layer.qualified(source)} → {reader} is not scaled: shapes {tuple(before.shape)} and "
                f"{tuple(after.shape)} differ (grouped-query attention)"
            )
        elif before.shape[0] == after.shape[1]:
            units.append(Unit(source, (reader,), (), reader))
    return units, notes


@contextmanager
def recording(layer: LayerLayout, units: Sequence[Unit]) -> Iterator[Mapping[str, Recording]]:
    """Keep the calls and outputs of every inspected module that is more than one linear."""
    kept = {unit.inspected: Recording([], []) for unit in units if unit.inspected not in unit.readers}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            kept[name].calls.append((arguments, dict(named)))
            kept[name].outputs.append(_first(output))

        return keep

    handles = [layer.linear(name).register_forward_hook(hook(name), with_kwargs=True) for name in kept]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def search_unit(
    layer: LayerLayout,
    unit: Unit,
    recorded: Mapping[str, Recording],
    statistics: Mapping[str, InputStatistics],
    options: AwqOptions,
) -> ScaleSearch:
    """Search one unit's scales on the untouched layer.

    `statistics` holds the inputs of each linear, with their second moment where it is inspected itself.
    """
    name = layer.qualified(unit.readers[0])
    if unit.inspected in unit.readers:
        seen = statistics[unit.inspected]
        loss = moment_loss(layer.weight(unit.inspected), seen.moment(), seen.tokens)
        return search_scales(seen.absolute_mean(), loss, options, name)
    record = recorded[unit.inspected]
    everything = InputStatistics()
    for inputs in record.inputs():
        everything.add(inputs)
    return search_scales(
        everything.absolute_mean(), _module_loss(layer, unit, record, options), options, name
    )


def apply_scales(layer: LayerLayout, unit: Unit, scales: Tensor) -> None:
    """Divide the previous op and multiply the columns that read it: the layer computes what it did."""
    previous = layer.linear(unit.previous)
    if isinstance(previous, nn.Linear):
        with torch.no_grad():
            divisor = scales.to(previous.weight.dtype)
            previous.weight.div_(divisor[:, None])
            if previous.bias is not None:
                previous.bias.div_(divisor)
    else:
        scale_norm(previous, 1.0 / scales, adds_one=unit.previous in layer.offset_norms)
    with torch.no_grad():
        for name in (*unit.readers, *unit.exact):
            weight = layer.weight(name)
            weight.mul_(scales.to(weight.dtype))


def _module_loss(
    layer: LayerLayout, unit: Unit, record: Recording, options: AwqOptions
) -> Callable[[Callable[[Tensor], Tensor]], float]:
    module = layer.linear(unit.inspected)
    weights = [layer.weight(name) for name in unit.readers]

    @torch.no_grad()
    def loss(rounding: Callable[[Tensor], Tensor]) -> float:
        originals = [weight.detach().clone() for weight in weights]
        total, count, sequences = 0.0, 0, 0
        try:
            for weight, original in zip(weights, originals, strict=True):
                weight.copy_(rounding(original).to(original.dtype))
            for (arguments, named), expected in zip(record.calls, record.outputs, strict=True):
                if options.search_sequences is not None and sequences >= options.search_sequences:
                    break
                difference = _first(module(*arguments, **named)).float() - expected.float()
                total += float(difference.square().sum())
                count += difference.numel()
                sequences += len(expected)
        finally:
            for weight, original in zip(weights, originals, strict=True):
                weight.copy_(original)
        return total / count

    return loss


def _first(output: Any) -> Tensor:
    return cast(Tensor, output if isinstance(output, Tensor) else output[0])
