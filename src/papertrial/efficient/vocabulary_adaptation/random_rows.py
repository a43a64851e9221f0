"""Random rows: each dimension drawn around the source's mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from papertrial.efficient.vocabulary_adaptation.rows import NewRows, RowProblem, spread


@dataclass(frozen=True)
class RandomRows:
    """Draw each dimension from a normal with the mean and standard deviation of the source's column.

    Every target row is drawn, the embedding's before the head's, and those of shared tokens are thrown away,
    so that the numbers are those of the released recipe. (Released, it stops with a NameError.)

    Attributes:
        seed: of numpy's generator.

    Source: arXiv 2504.17025, section 3.1.
    """

    name: ClassVar[str] = "random"
    needs_helper: ClassVar[bool] = False
    seed: int = 42

    def new_rows(self, problems: Sequence[RowProblem]) -> list[NewRows]:
        """Return drawn rows for each matrix."""
        generator = np.random.RandomState(self.seed)
        return [self._drawn(problem, generator) for problem in problems]

    def _drawn(self, problem: RowProblem, generator: np.random.RandomState) -> NewRows:
        mean, deviation = (one.cpu().numpy() for one in spread(problem.source))
        size = (len(problem.match.source_of), problem.source.shape[1])
        drawn = torch.from_numpy(generator.normal(mean, deviation, size)).to(problem.source)
        new = problem.match.new
        return NewRows(drawn[new.to(drawn.device)], ["drawn"] * len(new))
