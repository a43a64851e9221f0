"""What quantising did to each matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from papertrial.efficient.accounting import WeightBytes


@dataclass(frozen=True)
class LinearReport:
    """One matrix.

    Attributes:
        name: qualified.
        weight_error: Σ(Ŵ − W)² / Σ W²; W as it was when it was rounded, so after any scaling.
        output_error: Σ‖ŷ − y‖² / Σ‖y‖² over calibration tokens; NaN where there are none.
        damping: the share of the Hessian's mean diagonal that had to be added; NaN without a Hessian.
        fallback: whether it was plainly rounded because no calibration token reached it.
    """

    name: str
    weight_error: float
    output_error: float = math.nan
    damping: float = math.nan
    fallback: bool = False


@dataclass
class QuantizationReport:
    """What was done to a model.

    Attributes:
        linears: every quantised matrix, in the order in which it was done.
        size: bytes of the quantised matrices, with scales, zero points, indices and masks.
        notes: what a user must know: units that could not be scaled, raised damping, experts without tokens.
        nominal_bits: bits a weight as BiLLM counts them; None for other methods.
    """

    linears: list[LinearReport] = field(default_factory=list)
    size: WeightBytes = field(default_factory=WeightBytes)
    notes: list[str] = field(default_factory=list)
    nominal_bits: float | None = None

    def add_binary(self, size: WeightBytes, nominal_bits: float) -> None:
        """Count a binarised matrix: its bytes, and its nominal bits into the mean over all weights."""
        before = 0.0 if self.nominal_bits is None else self.nominal_bits * self.size.weights
        self.size += size
        self.nominal_bits = (before + nominal_bits * size.weights) / self.size.weights

    @property
    def fallbacks(self) -> int:
        """How many matrices no calibration token reached."""
        return sum(linear.fallback for linear in self.linears)

    def worst(self, count: int = 5) -> list[LinearReport]:
        """Return the matrices with the largest error of the output; of the weight where no output was seen."""

        def error(linear: LinearReport) -> float:
            return linear.weight_error if math.isnan(linear.output_error) else linear.output_error

        return sorted(self.linears, key=error, reverse=True)[:count]

    def table(self) -> list[dict[str, float | str | bool]]:
        """Return a row for each matrix."""
        return [dict(vars(linear)) for linear in self.linears]
