"""What a method looks at before it rounds a layer: which inputs, in which passes, and the errors they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from torch import Tensor

from papertrial.efficient.calibration import BlockByBlock
from papertrial.efficient.layouts import LayerLayout
from papertrial.efficient.quantized_linear import QuantizedWeight, quantize_activations
from papertrial.efficient.qwen3_quantization.inputs import InputStatistics, stride_for
from papertrial.efficient.qwen3_quantization.settings import QuantizationSettings


def passes(layer: LayerLayout, settings: QuantizationSettings) -> list[tuple[tuple[str, ...], ...]]:
    """Return the sets of matrices whose inputs are looked at in one pass; experts run side by side."""
    if not settings.true_sequential:
        return [layer.sequential]
    found: dict[str, list[tuple[str, ...]]] = {}
    for names in layer.sequential:
        parent, _, last = names[0].rpartition(".")
        stage = "mlp" if any(part.isdigit() for part in parent.split(".")) else parent
        found.setdefault(f"{stage}.{last}", []).append(names)
    return [tuple(sets) for sets in found.values()]


def input_statistics(
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


def observers(
    sets: Sequence[tuple[str, ...]], seen: Mapping[str, InputStatistics]
) -> dict[str, Callable[[Tensor], None]]:
    """Return what looks at one matrix of each set."""
    return {names[0]: seen[names[0]].add for names in sets}


def sample_error(
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


def alone(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return sets of one matrix each."""
    return [(name,) for name in names]


def plain(weight: Tensor) -> Tensor:
    """Return a weight as float32 on the CPU."""
    return weight.float().cpu()
