"""The task that every method solves: rows for the tokens that the source does not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from papertrial.efficient.vocabulary_adaptation.matching import VocabularyMatch

Facts = dict[str, int | float | str]
"""What a method tells about its work, by name."""


@dataclass(frozen=True)
class RowProblem:
    """One matrix to fill: the input embedding, or the head.

    Attributes:
        source: the source model's rows, one for each token of its tokenizer, in at least float32.
        match: which target tokens the source has.
        helper: a model's rows that has the target's tokens, in the order of the target's ids; rows of tokens
            that the helper has not are zero. None where there is no helper.
        anchors: target ids that both source and helper have; the shared ones without a helper.
    """

    source: Float[Tensor, "source width"]
    match: VocabularyMatch
    helper: Float[Tensor, "target helper_width"] | None
    anchors: Int64[Tensor, " anchors"]

    def source_rows(self, target_ids: Int64[Tensor, " some"]) -> Float[Tensor, "some width"]:
        """Return the source's rows of shared target ids."""
        return self.source[self.match.source_of[target_ids].to(self.source.device)]


@dataclass(frozen=True)
class NewRows:
    """What a method gives for one matrix.

    Attributes:
        values: a row for each new target id, in the order of `match.new`.
        provenance: how each of them was made, one word each.
        sources: the source ids and weights each is a mean of; empty where it is none, the five heaviest
            where they are thousands.
        facts: what the method tells about its work.
        shared: rows for the shared target ids where the method does not copy them as it should (the released
            CLP); None otherwise.
    """

    values: Float[Tensor, "new width"]
    provenance: list[str]
    sources: list[list[tuple[int, float]]] = field(default_factory=list)
    facts: Facts = field(default_factory=dict)
    shared: Float[Tensor, "shared width"] | None = None


@runtime_checkable
class Initialiser(Protocol):
    """A method that makes rows for new tokens.

    Attributes:
        name: as the report calls it.
        needs_helper: whether it reads the helper's rows.
    """

    name: ClassVar[str]
    needs_helper: ClassVar[bool]

    def new_rows(self, problems: Sequence[RowProblem]) -> list[NewRows]:
        """Return the new rows of each matrix: the embedding first, then an untied head."""


def spread(rows: Float[Tensor, "rows width"]) -> tuple[Float[Tensor, " width"], Float[Tensor, " width"]]:
    """Return each column's mean and unbiased standard deviation."""
    return rows.mean(0), rows.std(0, correction=1)


def assemble(problem: RowProblem, made: NewRows) -> Float[Tensor, "target width"]:
    """Return the whole target matrix: the source's rows of shared tokens, and the new ones."""
    match = problem.match
    shared, new = match.shared.to(problem.source.device), match.new.to(problem.source.device)
    matrix = torch.empty(
        len(match.source_of),
        problem.source.shape[1],
        dtype=problem.source.dtype,
        device=problem.source.device,
    )
    matrix[shared] = problem.source_rows(match.shared) if made.shared is None else made.shared
    matrix[new] = made.values
    return matrix
