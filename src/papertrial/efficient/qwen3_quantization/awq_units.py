"""AWQ's units in a decoder layer: which op is divided, which matrices are multiplied, whose output is inspected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from papertrial.efficient.calibration import BlockByBlock
from papertrial.efficient.layouts import LayerLayout, scale_norm
from papertrial.efficient.qwen3_quantization.awq import (
    AwqOptions,
    Errors,
    Rounding,
    ScaleSearch,
    linear_errors,
    moment_errors,
    search_scales,
)
from papertrial.efficient.qwen3_quantization.inputs import InputStatistics, stride_for
from papertrial.errors import BadInputError

_LEAST_SEQUENCES = 4  # one text is no sample, however long
_PARTS = 8  # of the tokens: as many chances to give up
_LEAST_PART = 128  # tokens: fewer are not worth the start of a module
_SAME = 0.1  # of the output's size; a rounding may turn a router's choice, other tokens' absence changes everything


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


Call = tuple[tuple[Any, ...], dict[str, Any]]
"""What a module is called with: positional and named arguments."""


@dataclass
class Recording:
    """What an inspected module was called with, a part of the tokens at a time, and what it gave.

    Attributes:
        calls: the arguments.
        outputs: what came of them (…, dim).
        inputs: the statistics of all that the module read, looked at again or not.
        by_token: whether tokens were picked out of their sequences.
    """

    calls: list[Call] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    inputs: InputStatistics = field(default_factory=InputStatistics)
    by_token: bool = False


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
def recording(
    layer: LayerLayout, units: Sequence[Unit], blocks: BlockByBlock, options: AwqOptions
) -> Iterator[Mapping[str, Recording]]:
    """Keep some calls and outputs of the inspected modules: `search_tokens` says how many.

    A module that is called with hidden states alone is shown single tokens; one that gets positions or a mask
    too, whole sequences. A linear that is inspected itself needs no recording where all tokens count, nor an
    expert: their second moments say as much.
    """
    kept: dict[str, Recording] = {}
    handles = []
    for unit in units:
        if unit.inspected not in unit.readers or _is_sampled(layer, options):
            kept[unit.inspected] = Recording()
            keep = _keeping(kept[unit.inspected], blocks, options)
            handles.append(layer.linear(unit.inspected).register_forward_hook(keep, with_kwargs=True))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _is_sampled(layer: LayerLayout, options: AwqOptions) -> bool:
    return options.search_tokens is not None and not layer.routers


def _keeping(record: Recording, blocks: BlockByBlock, options: AwqOptions) -> Callable[..., None]:
    """Return a hook that keeps every n-th token, or every n-th sequence, of what its module reads and gives."""
    wanted = options.search_tokens
    length = blocks.tokens // blocks.sequences
    between_tokens = between_sequences = 1
    if wanted is not None:
        between_tokens = stride_for(blocks.tokens, wanted)
        sequences = max(_LEAST_SEQUENCES, -(-wanted // length))
        between_sequences = stride_for(blocks.sequences, sequences)
    kept = -(-blocks.sequences // between_sequences)
    share = max(-(-kept // _PARTS), -(-_LEAST_PART // length))
    passed = 0

    def keep(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        nonlocal passed
        hidden, given = arguments[0] if arguments else named["hidden_states"], _first(output)
        record.inputs.add(hidden)
        alone = len(list(_tensors((arguments, named)))) == 1
        if wanted is not None and alone:
            record.by_token = True
            hidden, given = (one.reshape(-1, one.shape[-1]) for one in (hidden, given))
            chosen = slice(-passed % between_tokens, None, between_tokens)
            if len(hidden[chosen]):
                record.calls.append(((hidden[chosen].unsqueeze(0).clone(),), {}))
                record.outputs.append(given[chosen].unsqueeze(0).clone())
            passed += len(hidden)
            return
        for chosen in _slices(range(-passed % between_sequences, len(hidden), between_sequences), share):
            record.calls.append(cast(Call, _sequences((arguments, dict(named)), chosen, len(hidden))))
            record.outputs.append(given[chosen].clone())
        passed += len(hidden)

    return keep


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _slices(numbers: range, share: int) -> list[slice]:
    """Return the numbers as slices of `share` of them."""
    parts = [numbers[first : first + share] for first in range(0, len(numbers), share)]
    return [slice(part[0], part[-1] + 1, numbers.step) for part in parts]


def _sequences(value: Any, chosen: slice, batch: int) -> Any:
    """Return the arguments of some sequences of a batch: what has a row for each sequence keeps theirs."""
    if isinstance(value, Tensor):
        return value[chosen] if value.ndim > 1 and len(value) == batch else value
    if isinstance(value, (tuple, list)):
        return type(value)(_sequences(part, chosen, batch) for part in value)
    if isinstance(value, dict):
        return {name: _sequences(part, chosen, batch) for name, part in value.items()}
    return value


@torch.no_grad()
def search_unit(
    layer: LayerLayout,
    unit: Unit,
    recorded: Mapping[str, Recording],
    statistics: Mapping[str, InputStatistics],
    options: AwqOptions,
) -> ScaleSearch:
    """Search one unit's scales on the untouched layer.

    `statistics` holds the inputs of each linear, with their second moment where it is inspected itself and was
    not recorded.

    Raises:
        BadInputError: no scales help, or a module gives single tokens another output than whole sequences.
    """
    name = layer.qualified(unit.readers[0])
    if unit.inspected in unit.readers:
        seen, weight = statistics[unit.inspected], layer.weight(unit.inspected)
        record = recorded.get(unit.inspected)
        if record is None:
            errors = moment_errors(weight, seen.moment(), seen.tokens)
        else:
            tokens = [arguments[0].flatten(0, -2) for arguments, _ in record.calls]
            errors = linear_errors(weight, torch.cat(tokens))
        return search_scales(seen.absolute_mean(), errors, options, name)
    record = recorded[unit.inspected]
    mean_absolute = record.inputs.absolute_mean()
    weights = [layer.weight(reader) for reader in unit.readers]
    originals = [weight.detach().clone() for weight in weights]
    try:
        errors = _module_errors(layer, unit, _in_parts(record), originals)
        return search_scales(mean_absolute, errors, options, name)
    finally:
        for weight, original in zip(weights, originals, strict=True):
            weight.copy_(original)


def _in_parts(record: Recording) -> Recording:
    """Return single tokens joined and cut anew; whole sequences as they are."""
    if not record.by_token:
        return record
    inputs = torch.cat([arguments[0] for arguments, _ in record.calls], 1)
    outputs = torch.cat(record.outputs, 1)
    share = max(_LEAST_PART, -(-inputs.shape[1] // _PARTS))
    calls: list[Call] = [((part,), {}) for part in inputs.split(share, 1)]
    return Recording(calls, list(outputs.split(share, 1)), record.inputs, by_token=True)


def _module_errors(layer: LayerLayout, unit: Unit, record: Recording, originals: Sequence[Tensor]) -> Errors:
    """Return the errors of a module whose matrices are rounded in place; who calls this puts them back."""
    module = layer.linear(unit.inspected)
    weights = [layer.weight(name) for name in unit.readers]
    count = sum(output.numel() for output in record.outputs)
    if record.by_token:
        _check_by_token(layer.qualified(unit.inspected), module, record)

    def errors(rounding: Rounding) -> Iterator[float]:
        for weight, original in zip(weights, originals, strict=True):
            weight.copy_(rounding(original))
        for (arguments, named), expected in zip(record.calls, record.outputs, strict=True):
            difference = _first(module(*arguments, **named)).float() - expected.float()
            yield float(difference.square().sum()) / count

    return errors


def _check_by_token(name: str, module: nn.Module, record: Recording) -> None:
    (arguments, named), expected = record.calls[0], record.outputs[0].float()
    apart = (_first(module(*arguments, **named)).float() - expected).norm()
    if not float(apart) <= _SAME * float(expected.norm()):
        raise BadInputError(
            f"{name} gives single tokens another output than whole sequences, though it is called with hidden "
            "states alone; let search_tokens=None look at whole sequences"
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


def _first(output: Any) -> Tensor:
    return cast(Tensor, output if isinstance(output, Tensor) else output[0])
