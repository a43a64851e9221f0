"""AWQ: scale the channels that matter up before rounding, and clip what matters least.

Source: arXiv 2306.00978; units, ranges and order of steps as in the code of arXiv 2505.02214.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.efficient.quantized_linear import QuantizedWeight
from papertrial.efficient.qwen3_quantization.grids import (
    GridOptions,
    fit_grid,
    grid_values,
    round_to_grid,
    round_weight,
)
from papertrial.errors import BadInputError
from papertrial.threads import over_rows

Rounding = Callable[[Tensor], Tensor]
"""Makes of a weight (rows, inputs) what one choice of scales leaves of it. Rows do not depend on each other."""
Errors = Callable[[Rounding], Iterator[float]]
"""Yields the parts of an output's mean squared error under a rounding, none below zero, which add up to it."""

_LEAST_SCALE = 1e-4
# torch's own threads keep turning for some milliseconds after a product; with less to do, waiting for a processor costs
# more than the loop.
_VALUES_A_THREAD = 1 << 22
_ROW_PARTS, _LEAST_ROWS = 8, 64
_PROBED = 4
_UNCLIPPED = ("q_", "k_", "qkv_")  # scores are products of two roundings: clipping either hurts both


@dataclass(frozen=True)
class AwqOptions:
    """How AWQ runs; the defaults are the released ones.

    Attributes:
        grid: of the codes; its rule is set to `free`, without the clip search by mean error.
        ratios: how many exponents are tried, from 0 in equal steps up to but not at 1; 1 switches the
            scale search off.
        clip: whether to search for clipping limits.
        clip_steps: a limit is max|w| · (1 − i / clip_steps) …
        clip_tried: … for i below this.
        clip_tokens: at least so many tokens decide on a limit, and under twice as many.
        search_tokens: at least so many tokens, evenly spread, decide on scales, and under twice as many; of
            modules that look from one token at others, such as attention, whole sequences of at least so many
            tokens in all, and at least four sequences. All tokens where none is given, as in the released code.
    """

    grid: GridOptions
    ratios: int = 20
    clip: bool = True
    clip_steps: int = 20
    clip_tried: int = 10
    clip_tokens: int = 512
    search_tokens: int | None = 512

    def __post_init__(self) -> None:
        if self.grid.rule != "free":
            object.__setattr__(self, "grid", replace(self.grid, rule="free", search=False))
        for name in ("ratios", "clip_steps", "clip_tried", "clip_tokens"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.search_tokens is not None and self.search_tokens < 1:
            raise BadInputError(f"search_tokens must be at least 1, got {self.search_tokens}")
        if self.clip_tried > self.clip_steps:
            raise BadInputError(
                f"clip_tried must be at most clip_steps = {self.clip_steps}, got {self.clip_tried}"
            )


@dataclass(frozen=True)
class ScaleSearch:
    """What a search found.

    Attributes:
        scales: what each input channel is divided by and each column multiplied by (inputs,).
        ratio: the exponent that gave them.
        losses: the mean squared error of the inspected output, by ratio; of a ratio that was given up, the
            part that had been counted by then.
    """

    scales: Float[Tensor, " inputs"]
    ratio: float
    losses: Mapping[float, float] = field(default_factory=dict)


def channel_scales(mean_absolute: Float[Tensor, " inputs"], ratio: float) -> Float[Tensor, " inputs"]:
    """Return c = clamp(a^ratio, 1e-4) over √(max c · min c).

    Source: arXiv 2306.00978, equation 5; the norming is the released code's.
    """
    scales = mean_absolute.float().pow(ratio).clamp(min=_LEAST_SCALE)
    return scales / (scales.max() * scales.min()).sqrt()


def search_scales(
    mean_absolute: Float[Tensor, " inputs"], errors: Errors, options: AwqOptions, name: str = "the layer"
) -> ScaleSearch:
    """Return the channel scales with the least output error; the first ratio wins a tie.

    An error is a sum of parts that are never negative. The first part of every fourth ratio shows where the
    least may be; then all are counted, the nearest to there first, each until it exceeds the least whole error so
    far: a ratio that is given up could not have won, so the choice is that of counting everything.

    Args:
        mean_absolute: mean |x| over all calibration tokens.
        errors: of the inspected output when every weight W of the unit is replaced by what the rounding makes
            of W; see `Errors`.
        options: grid and number of ratios.
        name: for messages.

    Raises:
        BadInputError: no ratio gives a finite error.

    Source: arXiv 2306.00978, section 3.2.
    """
    roundings = []
    for step in range(options.ratios):
        scales = channel_scales(mean_absolute, step / options.ratios)
        roundings.append(partial(scaled_rounding, scales=scales, grid=options.grid))
    promise = {step: _counted(errors, roundings[step], parts=1) for step in range(0, options.ratios, _PROBED)}
    start = min(promise, key=lambda step: promise[step])
    counted, best, least = [torch.inf] * options.ratios, -1, torch.inf
    for step in sorted(range(options.ratios), key=lambda step: abs(step - start)):
        counted[step] = _counted(errors, roundings[step], limit=least)
        if counted[step] < least or (counted[step] == least and step < best):
            best, least = step, counted[step]
    if best < 0:
        raise BadInputError(f"no scale gives {name} a finite output error")
    losses = {step / options.ratios: error for step, error in enumerate(counted)}
    return ScaleSearch(roundings[best].keywords["scales"], best / options.ratios, losses)


def _counted(
    errors: Errors, rounding: Rounding, *, parts: int | None = None, limit: float = torch.inf
) -> float:
    """Return the sum of the parts, of so many of them, or until it exceeds `limit` or is NaN."""
    total = 0.0
    for number, part in enumerate(errors(rounding)):
        total += part
        if not total <= limit or number + 1 == parts:
            break
    return total


def scaled_rounding(
    weight: Float[Tensor, "out inputs"], scales: Float[Tensor, " inputs"], grid: GridOptions
) -> Float[Tensor, "out inputs"]:
    """Return Q(W · c) / c."""
    if weight.device.type != "cpu":
        return grid_values(weight.float() * scales, grid) / scales
    from papertrial.efficient.qwen3_quantization.awq_kernels import round_scaled, scaled_ranges

    group = grid.group_of_width(weight.shape[1])
    values, columns = weight.detach().float().contiguous(), scales.detach().float().contiguous().numpy()
    low, high = torch.empty(2, len(values), values.shape[1] // group)
    output = torch.empty_like(values)
    source, into = values.numpy(), output.numpy()
    ends = low.numpy(), high.numpy()

    def find(rows: slice) -> None:
        scaled_ranges(source, columns, group, *ends, rows.start, rows.stop)

    over_rows(find, source.shape, least=_VALUES_A_THREAD)
    fitted = tuple(one.numpy() for one in _grid_between(low, high, grid))

    def round_off(rows: slice) -> None:
        round_scaled(source, columns, *fitted, grid.levels, group, into, rows.start, rows.stop)

    over_rows(round_off, source.shape, least=_VALUES_A_THREAD)
    return output


def _grid_between(low: Tensor, high: Tensor, grid: GridOptions) -> tuple[Tensor, Tensor]:
    """Return scale and zero point of groups that lie between `low` and `high`: all that a grid depends on."""
    scale, zero = fit_grid(torch.stack([low, high], -1).reshape(-1, 2), grid)
    return scale.reshape(low.shape).contiguous(), zero.reshape(low.shape).contiguous()


def linear_errors(weight: Float[Tensor, "out inputs"], inputs: Float[Tensor, "tokens inputs"]) -> Errors:
    """Return the errors of a unit that is one matrix, on given tokens, a share of its rows at a time.

    Σ (Δ x)² = tr(Δ M Δᵀ) with M = Σ x xᵀ: beyond as many tokens as inputs, their number no longer counts.
    """
    x = inputs.detach().float()
    if len(x) >= x.shape[1]:
        return moment_errors(weight, x.T @ x, len(x))
    return _row_errors(weight, len(x), lambda change: (change @ x.T).square_().sum())


def moment_errors(
    weight: Float[Tensor, "out inputs"], moment: Float[Tensor, "inputs inputs"], tokens: int
) -> Errors:
    """Return the errors of a unit that is one matrix: tr(Δ M Δᵀ) with M = Σ x xᵀ, a share of its rows at a time."""
    return _row_errors(weight, tokens, lambda change: ((change @ moment) * change).sum())


def _row_errors(weight: Tensor, tokens: int, squares: Callable[[Tensor], Tensor]) -> Errors:
    original = weight.detach().float()
    shares = original.split(max(_LEAST_ROWS, -(-len(original) // _ROW_PARTS)))

    def errors(rounding: Rounding) -> Iterator[float]:
        for rows in shares:
            yield float(squares(rounding(rows) - rows)) / (tokens * len(original))

    return errors


def clip_limits(
    weight: Float[Tensor, "out inputs"], sample: Float[Tensor, "tokens inputs"], options: AwqOptions
) -> Float[Tensor, "out groups"]:
    """Return for each row and group the limit ±m with the least error of that group's share of the output.

    The error of a share is Δ_g (X_gᵀ X_g) Δ_gᵀ / tokens, so each group's tokens are multiplied out once for
    all limits; the released code goes through the tokens again for each.

    Source: arXiv 2306.00978, its code; ranges as in arXiv 2505.02214's.
    """
    group = options.grid.group_of_width(weight.shape[1])
    values = weight.detach().float().contiguous()
    grouped = values.unflatten(1, (-1, group))  # out, groups, group
    tokens = sample.float().unflatten(1, (-1, group)).transpose(0, 1)  # groups, tokens, group
    moments = tokens.transpose(1, 2) @ tokens / tokens.shape[1]
    low, high = grouped.amin(2), grouped.amax(2)
    largest = torch.maximum(low.abs(), high.abs())
    best, limits = torch.full_like(largest, torch.inf), largest.clone()
    for step in range(options.clip_tried):
        limit = largest * (1.0 - step / options.clip_steps)
        scale, zero = _grid_between(low.clamp(-limit, limit), high.clamp(-limit, limit), options.grid)
        change = _clipped_change(values, limit, scale, zero, options.grid)
        error = ((change @ moments) * change).sum(2).T
        better = error < best
        best, limits = torch.where(better, error, best), torch.where(better, limit, limits)
    return limits


def _clipped_change(
    weight: Tensor, limit: Tensor, scale: Tensor, zero: Tensor, grid: GridOptions
) -> Float[Tensor, "groups out group"]:
    """Return Q(clamp(W, ±limit)) − W; limit, scale and zero (out, groups)."""
    if weight.device.type != "cpu":
        return _plain_clipped_change(weight, limit, scale, zero, grid)
    from papertrial.efficient.qwen3_quantization.awq_kernels import clipped_changes

    rows, groups = limit.shape
    change = torch.empty(groups, rows, weight.shape[1] // groups)
    given = [one.contiguous().numpy() for one in (weight, limit, scale, zero)]
    into = change.numpy()

    def work(some: slice) -> None:
        clipped_changes(*given, grid.levels, into, some.start, some.stop)

    over_rows(work, given[0].shape, least=_VALUES_A_THREAD)
    return change


def _plain_clipped_change(
    weight: Tensor, limit: Tensor, scale: Tensor, zero: Tensor, grid: GridOptions
) -> Float[Tensor, "groups out group"]:
    grouped = weight.unflatten(1, (limit.shape[1], -1))
    bounds, scale, zero = limit.unsqueeze(2), scale.unsqueeze(2), zero.unsqueeze(2)
    codes = round_to_grid(grouped.clamp(-bounds, bounds), scale, zero, grid.levels)
    return ((codes - zero) * scale - grouped).transpose(0, 1)


def clip_weight(
    weight: Float[Tensor, "out inputs"], limits: Float[Tensor, "out groups"]
) -> Float[Tensor, "out inputs"]:
    """Return a weight clamped to ±limit in each row and group."""
    bounds = limits.unsqueeze(2)
    return weight.float().unflatten(1, (limits.shape[1], -1)).clamp(-bounds, bounds).flatten(1)


def clips(name: str) -> bool:
    """Say whether the limits of the linear called `name` are searched: not for queries and keys."""
    return not name.rpartition(".")[2].startswith(_UNCLIPPED)


def quantize_clipped(
    name: str, weight: Tensor, sample: Tensor | None, options: AwqOptions
) -> tuple[QuantizedWeight, Tensor]:
    """Clip where that is asked for and tokens are there, and round; return the codes and the clipped weight."""
    clipped = weight.detach().float()
    if options.clip and clips(name) and sample is not None:
        clipped = clip_weight(clipped, clip_limits(clipped, sample, options))
    return round_weight(clipped, options.grid, name), clipped
