"""Grids of whole numbers for a weight, and rounding to them.

A grid has a scale s and a zero point z for each row of a group of columns: ŵ = s · (clip(round(w/s) + z) − z),
codes 0 … Q with Q = 2^bits − 1. The three rules are those of the three released code bases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from papertrial.efficient.packing import check_packed_bits
from papertrial.efficient.quantized_linear import QuantizedWeight, check_group_size
from papertrial.errors import BadInputError, unknown

Rule = Literal["minmax", "symmetric", "free", "absmax"]
"""How a grid is laid over a row.

`minmax`: from the least to the largest weight, zero included (RTN, GPTQ). `symmetric`: the same, mirrored about
zero where a weight is negative. `free`: from the least to the largest, zero included or not (AWQ). `absmax`: from
−max|w| to max|w| with one level less, as SmoothQuant does.
"""

_SHRINKS = 80
_SHRINK_STEP = 0.01
_SHRINK_POWER = 2.4
_LEAST_RANGE = 1e-5


@dataclass(frozen=True)
class GridOptions:
    """What kind of grid.

    Attributes:
        bits: 2, 3, 4 or 8.
        group_size: input channels that share a scale; −1 for one scale a row.
        rule: see `Rule`.
        search: shrink each row's range to the one with the least Σ|ŵ − w|^2.4 of eighty (minmax and
            symmetric only).
        scale_dtype: scales are rounded to this format before anything is rounded to them, so that packing
            changes nothing; None keeps float32, as the study's simulated quantisation does.
    """

    bits: int
    group_size: int = -1
    rule: Rule = "minmax"
    search: bool = False
    scale_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        check_packed_bits(self.bits)
        if self.rule not in get_args(Rule):
            raise unknown("rule", self.rule, get_args(Rule))
        if self.group_size != -1 and self.group_size < 1:
            raise BadInputError(
                f"group_size must be at least 1, or -1 for one scale a row, got {self.group_size}"
            )
        if self.search and self.rule not in ("minmax", "symmetric"):
            raise BadInputError(
                f"the clip search by mean error is for minmax and symmetric grids, not {self.rule}"
            )

    @property
    def levels(self) -> int:
        """Q: the largest code."""
        return (1 << self.bits) - 1

    def group_of_width(self, in_features: int, name: str = "the layer") -> int:
        """Return the group size for a matrix with `in_features` inputs.

        Raises:
            BadInputError: it does not divide them.
        """
        if self.group_size == -1:
            return in_features
        check_group_size(self.group_size, in_features, name)
        return self.group_size


def fit_grid(
    rows: Float[Tensor, "rows columns"], options: GridOptions
) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows 1"]]:
    """Return scale and zero point (whole numbers, as floats) for each row.

    Source: arXiv 2505.02214, section 2.1; the rules are those of the code that its tables were made with.
    """
    if options.rule == "absmax":
        scale = rows.abs().amax(1, keepdim=True).clamp(min=_LEAST_RANGE) / (2 ** (options.bits - 1) - 1)
        return _storable(scale, options), torch.full_like(scale, float(1 << (options.bits - 1)))
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    if options.rule == "free":
        scale = _storable((high - low).clamp(min=_LEAST_RANGE) / options.levels, options)
        return scale, (-(low / scale).round()).clamp(0, options.levels)
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    if options.rule == "symmetric":
        high = torch.maximum(low.abs(), high)
        low = torch.where(low < 0, -high, low)
    empty = (low == 0) & (high == 0)
    low, high = low.masked_fill(empty, -1.0), high.masked_fill(empty, 1.0)
    if options.search:
        return _search(rows, low, high, options)
    return _between(low, high, options)


def round_to_grid(
    weight: Float[Tensor, "*rows columns"], scale: Tensor, zero: Tensor, levels: int
) -> Float[Tensor, "*rows columns"]:
    """Return the codes of `weight`, as floats."""
    return ((weight / scale).round() + zero).clamp(0, levels)


def round_weight(
    weight: Float[Tensor, "out inputs"], options: GridOptions, name: str = "the layer"
) -> QuantizedWeight:
    """Round a weight to its nearest grid points (RTN).

    Raises:
        BadInputError: groups do not divide the inputs, or a weight that is not finite.
    """
    check_finite(weight, name)
    group = options.group_of_width(weight.shape[1], name)
    rows = weight.detach().float().reshape(-1, group)
    scale, zero = fit_grid(rows, options)
    codes = round_to_grid(rows, scale, zero, options.levels).to(torch.uint8).reshape(weight.shape)
    return assemble(codes, scale.reshape(len(weight), -1), zero.reshape(len(weight), -1), options)


def grid_values(weight: Float[Tensor, "out inputs"], options: GridOptions) -> Float[Tensor, "out inputs"]:
    """Return a weight rounded to its grid, as float32: `round_weight(…).dequantize()` without the codes."""
    rows = weight.reshape(-1, options.group_of_width(weight.shape[1]))
    scale, zero = fit_grid(rows, options)
    return ((round_to_grid(rows, scale, zero, options.levels) - zero) * scale).reshape(weight.shape)


def assemble(
    codes: UInt8[Tensor, "out inputs"],
    scales: Float[Tensor, "out groups"],
    zeros: Float[Tensor, "out groups"],
    options: GridOptions,
    group_of: Tensor | None = None,
) -> QuantizedWeight:
    """Return a quantised weight whose scales are in the format they are stored in."""
    stored = scales if options.scale_dtype is None else scales.to(options.scale_dtype)
    return QuantizedWeight(
        codes, stored.contiguous(), zeros.to(torch.uint8).contiguous(), options.bits, group_of
    )


def check_finite(weight: Tensor, name: str) -> None:
    """Raise `BadInputError` for a weight that is not finite."""
    if not bool(torch.isfinite(weight).all()):
        raise BadInputError(f"{name} has weights that are not finite")


def _between(low: Tensor, high: Tensor, options: GridOptions) -> tuple[Tensor, Tensor]:
    scale = _storable((high - low) / options.levels, options)
    if options.rule == "symmetric":
        return scale, torch.full_like(scale, (options.levels + 1) / 2)
    return scale, (-low / scale).round().clamp(0, options.levels)


def _search(rows: Tensor, low: Tensor, high: Tensor, options: GridOptions) -> tuple[Tensor, Tensor]:
    """Return, for each row, the grid over a shrunk range with the least error; the widest wins a tie."""
    best_scale, best_zero = _between(low, high, options)
    best = torch.full_like(best_scale, torch.inf)
    for step in range(_SHRINKS):
        share = 1.0 - step * _SHRINK_STEP
        scale, zero = _between(share * low, share * high, options)
        rounded = (round_to_grid(rows, scale, zero, options.levels) - zero) * scale
        error = (rounded - rows).abs_().pow_(_SHRINK_POWER).sum(1, keepdim=True)
        better = error < best
        best = torch.where(better, error, best)
        best_scale, best_zero = torch.where(better, scale, best_scale), torch.where(better, zero, best_zero)
    return best_scale, best_zero


def _storable(scale: Tensor, options: GridOptions) -> Tensor:
    """Round a scale to the format it is stored in; one too small for the format becomes its least number."""
    if options.scale_dtype is None:
        return scale
    stored = scale.to(options.scale_dtype).float()
    if bool(torch.isinf(stored).any()):
        raise BadInputError(f"scales up to {float(scale.max()):g} do not fit {options.scale_dtype}")
    kind = torch.finfo(options.scale_dtype)
    return stored.clamp(min=kind.smallest_normal * kind.eps)  # the least number above zero
