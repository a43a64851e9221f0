"""SAVA: a new token's row is the helper's row, carried over by a map fitted on the shared tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from papertrial.efficient.vocabulary_adaptation.aligners import AffineMap, fit_aligner, standardise
from papertrial.efficient.vocabulary_adaptation.rows import NewRows, RowProblem
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class Translation:
    """A fitted map from the helper's rows to the source's space.

    Attributes:
        mean_x: of the anchors' helper rows, by dimension.
        deviation_x: their standard deviation.
        mean_y: of the anchors' source rows.
        deviation_y: their standard deviation.
        norm: mean length of the standardised source anchors.
        aligner: between the standardised, normalised rows.
        error: mean squared error of the aligner on the anchors.
    """

    mean_x: Float[Tensor, " helper_width"]
    deviation_x: Float[Tensor, " helper_width"]
    mean_y: Float[Tensor, " width"]
    deviation_y: Float[Tensor, " width"]
    norm: Float[Tensor, ""]
    aligner: AffineMap
    error: float

    def __call__(self, rows: Float[Tensor, "rows helper_width"]) -> Float[Tensor, "rows width"]:
        """Return the helper's rows in the source's space."""
        unit = functional.normalize((rows - self.mean_x) / self.deviation_x, dim=1)
        return self.aligner(unit) * self.norm * self.deviation_y + self.mean_y


def fit_translation(
    helper: Float[Tensor, "anchors helper_width"],
    source: Float[Tensor, "anchors width"],
    aligner: str = "sgd",
    *,
    steps: int = 1000,
    lr: float = 1e-3,
    ridge: float = 1e-3,
    seed: int = 42,
) -> Translation:
    """Standardise both sides by dimension, normalise every row, and fit the aligner between them.

    Raises:
        BadInputError: as `fit_aligner`.

    Source: arXiv 2504.17025, section 3.1 and appendix A.
    """
    if len(helper) < 2:
        raise BadInputError(f"at least 2 anchors are needed, got {len(helper)}")
    (mean_x, deviation_x), (mean_y, deviation_y) = standardise(helper), standardise(source)
    x = functional.normalize((helper - mean_x) / deviation_x, dim=1)
    standard_y = (source - mean_y) / deviation_y
    y = functional.normalize(standard_y, dim=1)
    fitted = fit_aligner(x, y, aligner, steps=steps, lr=lr, ridge=ridge, seed=seed)
    error = float(functional.mse_loss(fitted(x), y))
    norm = standard_y.norm(dim=1).mean()
    return Translation(mean_x, deviation_x, mean_y, deviation_y, norm, fitted, error)


@dataclass(frozen=True)
class SAVA:
    """Semantic alignment vocabulary adaptation: map the helper's rows into the source's space.

    Attributes:
        aligner: "sgd" as published, "matrix", "ridge", "ortho" or "rotation"; see `fit_aligner`.
        anchors: how many of the shared tokens the map is fitted on, drawn at random; all if not given.
        steps: Adam steps of "sgd".
        lr: their learning rate.
        ridge: penalty of "ridge".
        seed: of the aligner's first weights and of drawn anchors.

    Source: arXiv 2504.17025, section 3.1 and appendix A.
    """

    name: ClassVar[str] = "sava"
    needs_helper: ClassVar[bool] = True
    aligner: str = "sgd"
    anchors: int | None = None
    steps: int = 1000
    lr: float = 1e-3
    ridge: float = 1e-3
    seed: int = 42

    def new_rows(self, problems: Sequence[RowProblem]) -> list[NewRows]:
        """Return mapped rows for each matrix, each with a map of its own."""
        return [self._mapped(problem) for problem in problems]

    def _mapped(self, problem: RowProblem) -> NewRows:
        if problem.helper is None:
            raise BadInputError("sava needs a helper model that has the target's tokenizer")
        chosen = self._anchors(problem.anchors)
        translation = fit_translation(
            problem.helper[chosen],
            problem.source_rows(chosen),
            self.aligner,
            steps=self.steps,
            lr=self.lr,
            ridge=self.ridge,
            seed=self.seed,
        )
        return NewRows(
            translation(problem.helper[problem.match.new]),
            ["mapped"] * len(problem.match.new),
            facts={"anchors": len(chosen), "alignment error": translation.error},
        )

    def _anchors(self, shared: Int64[Tensor, " shared"]) -> Int64[Tensor, " anchors"]:
        if self.anchors is None:
            return shared
        if not 2 <= self.anchors <= len(shared):
            raise BadInputError(
                f"anchors must be between 2 and the {len(shared)} shared tokens, got {self.anchors}"
            )
        order = torch.randperm(len(shared), generator=torch.Generator().manual_seed(self.seed))
        return shared[order[: self.anchors]]
