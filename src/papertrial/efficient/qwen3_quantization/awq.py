"""AWQ: scale the channels that matter up before rounding, and clip what matters least.

Source: arXiv 2306.00978; units, ranges and order of steps as in the code of arXiv 2505.02214.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.efficient.quantized_linear import QuantizedWeight
from papertrial.efficient.qwen3_quantization.grids import GridOptions, grid_values, round_weight
from papertrial.errors import BadInputError

_LEAST_SCALE = 1e-4
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
        search_sequences: look at the outputs for so many sequences only, in whole batches; all where none is
            given.
    """

    grid: GridOptions
    ratios: int = 20
    clip: bool = True
    clip_steps: int = 20
    clip_tried: int = 10
    clip_tokens: int = 512
    search_sequences: int | None = None

    def __post_init__(self) -> None:
        if self.grid.rule != "free":
            object.__setattr__(self, "grid", replace(self.grid, rule="free", search=False))
        for name in ("ratios", "clip_steps", "clip_tried", "clip_tokens"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
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
        losses: the mean squared error of the inspected output, by ratio.
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
    mean_absolute: Float[Tensor, " inputs"],
    loss_of: Callable[[Callable[[Tensor], Tensor]], float],
    options: AwqOptions,
    name: str = "the layer",
) -> ScaleSearch:
    """Return the channel scales with the least output error; the first ratio wins a tie.

    Args:
        mean_absolute: mean |x| over all calibration tokens.
        loss_of: gives the inspected output's mean squared error when every weight W of the unit is
            replaced by what the function it is given makes of W.
        options: grid and number of ratios.
        name: for messages.

    Raises:
        BadInputError: no ratio gives a finite error.

    Source: arXiv 2306.00978, section 3.2.
    """
    losses: dict[float, float] = {}
    best: ScaleSearch | None = None
    for step in range(options.ratios):
        ratio = step / options.ratios
        scales = channel_scales(mean_absolute, ratio)
        losses[ratio] = loss_of(partial(scaled_rounding, scales=scales, grid=options.grid))
        if losses[ratio] < (losses[best.ratio] if best else torch.inf):
            best = ScaleSearch(scales, ratio, losses)
    if best is None:
        raise BadInputError(f"no scale gives {name} a finite output error")
    return best


def scaled_rounding(
    weight: Float[Tensor, "out inputs"], scales: Float[Tensor, " inputs"], grid: GridOptions
) -> Float[Tensor, "out inputs"]:
    """Return Q(W · c) / c."""
    return grid_values(weight.float() * scales, grid) / scales


def moment_loss(
    weight: Float[Tensor, "out inputs"], moment: Float[Tensor, "inputs inputs"], tokens: int
) -> Callable[[Callable[[Tensor], Tensor]], float]:
    """Return the loss of a unit that is one matrix: mean (Δ x)² over tokens and outputs = tr(Δ M Δᵀ) / (tokens · out).

    It needs Σ x xᵀ alone: no token is looked at again, whatever their number.
    """
    original = weight.detach().float()

    def loss(rounding: Callable[[Tensor], Tensor]) -> float:
        change = rounding(original) - original
        return float(((change @ moment) * change).sum()) / (tokens * len(original))

    return loss


def clip_limits(
    weight: Float[Tensor, "out inputs"], sample: Float[Tensor, "tokens inputs"], options: AwqOptions
) -> Float[Tensor, "out groups"]:
    """Return for each row and group the limit ±m with the least error of that group's share of the output.

    The error of a share is Δ_g (X_gᵀ X_g) Δ_gᵀ / tokens, so each group's tokens are multiplied out once for
    all limits; the released code goes through the tokens again for each.

    Source: arXiv 2306.00978, its code; ranges as in arXiv 2505.02214's.
    """
    group = options.grid.group_of_width(weight.shape[1])
    grouped = weight.detach().float().unflatten(1, (-1, group)).transpose(0, 1)  # groups, out, group
    tokens = sample.float().unflatten(1, (-1, group)).transpose(0, 1)  # groups, tokens, group
    moments = tokens.transpose(1, 2) @ tokens / tokens.shape[1]
    largest = grouped.abs().amax(2)
    best, limits = torch.full_like(largest, torch.inf), largest.clone()
    per_group = replace(options.grid, group_size=-1)
    for step in range(options.clip_tried):
        limit = largest * (1.0 - step / options.clip_steps)
        clipped = grouped.clamp(-limit.unsqueeze(2), limit.unsqueeze(2))
        change = grid_values(clipped.reshape(-1, group), per_group).reshape(grouped.shape) - grouped
        error = ((change @ moments) * change).sum(2)
        better = error < best
        best, limits = torch.where(better, error, best), torch.where(better, limit, limits)
    return limits.T.contiguous()


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
