"""GPTQ: round one input channel at a time and let the channels not yet rounded make up for the error.

Source: arXiv 2210.17323; settings and order of steps as in arXiv 2505.02214, section 2.1, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from papertrial.efficient.quantized_linear import QuantizedWeight
from papertrial.efficient.qwen3_quantization.grids import GridOptions, assemble, check_finite, fit_grid
from papertrial.errors import BadInputError
from papertrial.threads import over_rows

_MOST_DAMPING = 1.0
_DAMPING_STEP = 10.0
_ROWS_A_THREAD = 256  # at least: handing fewer over costs more than it saves

GridOrder = Literal["released", "zeroed-first"]
"""When grids that cover whole rows are fitted: before dead channels are zeroed (released), or after."""


@dataclass(frozen=True)
class GptqOptions:
    """How GPTQ runs; the defaults are the study's.

    Attributes:
        grid: of the codes. Never the clip search: the released code fits GPTQ's grids without it.
        act_order: channels by falling diagonal of the Hessian instead of as they stand.
        damping: added to the diagonal, as a share of its mean.
        block: columns whose errors are collected before the rest of the matrix is corrected.
        static_groups: fit every group's grid on the original weight in the original order, so that groups
            stay consecutive under `act_order`. Not in the released code.
        grid_order: see `GridOrder`.
    """

    grid: GridOptions
    act_order: bool = True
    damping: float = 0.01
    block: int = 128
    static_groups: bool = False
    grid_order: GridOrder = "released"

    def __post_init__(self) -> None:
        if not 0.0 < self.damping <= _MOST_DAMPING:
            raise BadInputError(f"damping must lie above 0 and up to {_MOST_DAMPING:g}, got {self.damping}")
        if self.block < 1:
            raise BadInputError(f"block must be at least 1, got {self.block}")


@dataclass(frozen=True)
class InverseFactor:
    """U, upper triangular with Uᵀ U = H⁻¹, and what was done to H before.

    Attributes:
        upper: U, of the permuted channels.
        order: the channel at each place.
        dead: channels (in their own order) that were never active.
        damping: the share that made H positive definite.
    """

    upper: Float[Tensor, "inputs inputs"]
    order: Int64[Tensor, " inputs"]
    dead: Bool[Tensor, " inputs"]
    damping: float


def inverse_factor(
    hessian: Float[Tensor, "inputs inputs"],
    *,
    damping: float = 0.01,
    act_order: bool = False,
    name: str = "the layer",
) -> InverseFactor:
    """Return the factor of the damped inverse Hessian.

    H is turned round, factored once and the triangle inverted; chol(H⁻¹) is then never formed by way of
    H⁻¹, which is half the work and keeps more digits. Where H is not positive definite (fewer tokens than
    channels, all tokens alike), the damping is raised tenfold, up to 1.

    Raises:
        BadInputError: H is not finite, no channel is active, or no damping up to 1 helps.
    """
    if not bool(torch.isfinite(hessian).all()):
        raise BadInputError(f"the Hessian of {name} is not finite")
    h = hessian.float().cpu()
    diagonal = h.diagonal().clone()
    dead = diagonal == 0
    if bool(dead.all()):
        raise BadInputError(f"no input of {name} is ever active: the calibration shows it nothing")
    diagonal[dead] = 1.0
    order = torch.arange(len(h))
    if act_order:
        order = torch.argsort(diagonal, descending=True, stable=True)
    turned = order.flip(0)
    mean = float(diagonal[order].mean())
    given = damping
    while damping <= _MOST_DAMPING:
        upper = _upper_factor(h, diagonal + damping * mean, turned)
        if upper is not None:
            return InverseFactor(upper, order, dead, damping)
        damping *= _DAMPING_STEP
    raise BadInputError(
        f"the Hessian of {name} is not positive definite even with damping {_MOST_DAMPING:g} (from {given:g}); "
        "calibrate on more, and more varied, text"
    )


def _upper_factor(h: Tensor, diagonal: Tensor, turned: Tensor) -> Tensor | None:
    """Return the factor with another diagonal, or None.

    The matrices are as large as weights: each step writes over what the one before it left. Columns stand
    together, as LAPACK has it, for else it would copy.
    """
    damped = h[turned[:, None], turned].T  # symmetric
    damped.diagonal().copy_(diagonal[turned])
    failed = torch.empty(0, dtype=torch.int32)
    torch.linalg.cholesky_ex(damped, out=(damped, failed))
    if int(failed):
        return None
    triangle = damped.flip(0, 1)
    del damped
    upper = torch.eye(len(h)).T
    torch.linalg.solve_triangular(triangle, upper, upper=True, out=upper)
    return upper if bool(torch.isfinite(upper).all()) else None


def gptq_weight(
    weight: Float[Tensor, "out inputs"],
    hessian: Float[Tensor, "channels channels"],
    options: GptqOptions,
    *,
    factor: InverseFactor | None = None,
    name: str = "the layer",
) -> QuantizedWeight:
    """Quantise a weight so that W x changes little over the tokens that made the Hessian.

    Matrices that read one input may be stacked: rows do not depend on each other.

    Args:
        weight: W.
        hessian: 2/N Σ x xᵀ; its scale does not matter.
        options: grid, order and damping.
        factor: of this Hessian, where several calls share it.
        name: for messages.

    Raises:
        BadInputError: as `inverse_factor`; also groups that do not divide the inputs.

    Source: arXiv 2210.17323, Algorithm 1, with the order of steps of the code of arXiv 2505.02214.
    """
    check_finite(weight, name)
    inputs = weight.shape[1]
    if len(hessian) != inputs:
        raise BadInputError(f"{name} reads {inputs} inputs, its Hessian is of {len(hessian)}")
    group = options.grid.group_of_width(inputs, name)
    if factor is None:
        factor = inverse_factor(hessian, damping=options.damping, act_order=options.act_order, name=name)
    original = weight.detach().float().cpu()  # the column loop is compiled for the CPU
    if options.grid_order == "zeroed-first":
        original = original.masked_fill(factor.dead, 0.0)
    grids = _Grids(options, group, original, factor.order)
    work = original[:, factor.order].contiguous().masked_fill_(factor.dead[factor.order], 0.0)
    del original
    codes = torch.empty(work.shape, dtype=torch.uint8)
    for first in range(0, inputs, options.block):
        last = min(first + options.block, inputs)
        scales, zeros, slot_of = grids.for_columns(work, first, last)
        errors = _quantize_block(
            work, codes, factor.upper, scales, zeros, slot_of, options.grid.levels, first, last
        )
        work[:, last:].addmm_(errors, factor.upper[first:last, last:], alpha=-1.0)
    inverse = torch.argsort(factor.order)
    return assemble(
        codes[:, inverse],
        torch.cat(grids.scales, 1),
        torch.cat(grids.zeros, 1),
        options.grid,
        grids.group_of(inverse),
    )


class _Grids:
    """The grids of a matrix: fixed at the start, or fitted when a group's first column comes up."""

    def __init__(self, options: GptqOptions, group: int, original: Tensor, order: Tensor) -> None:
        self.options, self.group, self.order = options.grid, group, order
        self.scales: list[Tensor] = []
        self.zeros: list[Tensor] = []
        inputs = original.shape[1]
        self.fixed = group == inputs or options.static_groups
        self.consecutive = self.fixed or not options.act_order
        if self.fixed:
            for first in range(0, inputs, group):
                self._fit(original[:, first : first + group])

    def _fit(self, columns: Tensor) -> None:
        scale, zero = fit_grid(columns, self.options)
        self.scales.append(scale)
        self.zeros.append(zero)

    def for_columns(self, work: Tensor, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return scales and zeros (rows, slots) and each column's slot; groups that begin here are fitted now.

        A group's grid sees what earlier blocks corrected and not what this one does.
        """
        places = torch.arange(first, last)
        if self.fixed:
            groups = self.order[first:last] // self.group
        else:
            groups = places // self.group
            for start in range(-(-first // self.group) * self.group, last, self.group):
                self._fit(work[:, start : start + self.group])
        used, slot_of = torch.unique(groups, return_inverse=True)
        scales = torch.cat([self.scales[int(g)] for g in used], 1)
        return scales, torch.cat([self.zeros[int(g)] for g in used], 1), slot_of

    def group_of(self, inverse: Tensor) -> Tensor | None:
        """Return the group of each channel, or None where groups are consecutive."""
        return None if self.consecutive else (inverse // self.group).to(torch.int32)


def _quantize_block(
    work: Tensor,
    codes: Tensor,
    upper: Tensor,
    scales: Tensor,
    zeros: Tensor,
    slot_of: Tensor,
    levels: int,
    first: int,
    last: int,
) -> Tensor:
    """Quantise columns first … last of `work`, write their codes, and return the errors (rows, columns)."""
    from papertrial.efficient.qwen3_quantization.gptq_kernels import quantize_columns

    block = work[:, first:last].contiguous().numpy()
    rows, columns = block.shape
    block_codes = np.empty((rows, columns), dtype=np.uint8)
    errors = np.empty((rows, columns), dtype=np.float32)
    factor = upper[first:last, first:last].contiguous().numpy()
    grid = (scales.contiguous().numpy(), zeros.contiguous().numpy(), slot_of.numpy(), levels)

    def quantize(some: slice) -> None:
        quantize_columns(block, factor, *grid, block_codes, errors, some.start, some.stop)

    over_rows(quantize, block.shape, least=_ROWS_A_THREAD * columns)
    codes[:, first:last] = torch.from_numpy(block_codes)
    return torch.from_numpy(errors)
