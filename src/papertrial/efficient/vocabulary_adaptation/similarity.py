"""CLP: a new token's row is a mean of all shared tokens' rows, weighted by similarity in the helper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from papertrial.efficient.vocabulary_adaptation.matching import VocabularyMatch
from papertrial.efficient.vocabulary_adaptation.random_rows import RandomRows
from papertrial.efficient.vocabulary_adaptation.rows import NewRows, RowProblem
from papertrial.errors import BadInputError

_BLOCK = 1024  # new tokens at once: 64 MB of similarities to 16,000 shared tokens
_SHOWN = 5  # heaviest sources that a report keeps for a token
_NEAR_ZERO = 0.01


@dataclass(frozen=True)
class CLP:
    """Cross-lingual and progressive transfer: weights are cosine similarities in the helper's space.

    As published, the similarities to all shared tokens are divided by their sum. They may be negative and
    their sum near zero, and then the row is enormous; the guard prevents that.

    Attributes:
        guard: "clip" sets negative similarities to zero (and takes the nearest token where none is
            positive); "top-k" keeps the `top_k` largest of those; "none" is the published formula.
        top_k: how many tokens "top-k" keeps.
        misplaced: put the shared rows where the released command line puts them by default: at the *source's*
            ids in the target's matrix, over random rows. For comparison only.

    Source: arXiv 2504.17025, section 3.1, after arXiv 2301.09626.
    """

    name: ClassVar[str] = "clp"
    needs_helper: ClassVar[bool] = True
    guard: str = "clip"
    top_k: int = 10
    misplaced: bool = False

    def __post_init__(self) -> None:
        if self.guard not in ("clip", "top-k", "none"):
            raise BadInputError(f"guard must be 'clip', 'top-k' or 'none', got {self.guard!r}")
        if self.top_k < 1:
            raise BadInputError(f"top_k must be at least 1, got {self.top_k}")

    def new_rows(self, problems: Sequence[RowProblem]) -> list[NewRows]:
        """Return the weighted means for each matrix, its weights from the same matrix of the helper."""
        made = [self._weighted(problem) for problem in problems]
        if not self.misplaced:
            return made
        drawn = misplaced_rows(problems)
        return [
            NewRows(one.values, one.provenance, one.sources, one.facts, shared)
            for one, shared in zip(made, drawn, strict=True)
        ]

    def _weighted(self, problem: RowProblem) -> NewRows:
        if problem.helper is None:
            raise BadInputError("clp needs a helper model that has the target's tokenizer")
        source_ids = problem.match.source_of[problem.anchors]
        rows = problem.source_rows(problem.anchors)
        anchors = functional.normalize(problem.helper[problem.anchors], dim=1)
        values, sources = [], []
        negative = cancelled = without_positive = 0
        for block in problem.match.new.split(_BLOCK):
            similarity = functional.normalize(problem.helper[block], dim=1) @ anchors.T
            negative += int((similarity < 0).any(1).sum())
            cancelled += int((similarity.sum(1).abs() < _NEAR_ZERO * similarity.abs().sum(1)).sum())
            without_positive += int((similarity <= 0).all(1).sum())
            weights = similarity_weights(similarity, self.guard, self.top_k)
            values.append(weights @ rows)
            heaviest = weights.abs().topk(min(_SHOWN, weights.shape[1]), dim=1).indices
            picked = weights.gather(1, heaviest).tolist()
            for ids, kept in zip(source_ids[heaviest.cpu()].tolist(), picked, strict=True):
                sources.append(list(zip(ids, kept, strict=True)))
        return NewRows(
            torch.cat(values) if values else problem.source.new_zeros(0, problem.source.shape[1]),
            ["weighted"] * len(problem.match.new),
            sources,
            {
                "rows with a negative similarity": negative,
                "rows whose similarities nearly cancel": cancelled,
                "rows without a positive similarity": without_positive,
            },
        )


def similarity_weights(
    similarity: Float[Tensor, "new anchors"], guard: str = "clip", top_k: int = 10
) -> Float[Tensor, "new anchors"]:
    """Return weights that sum to 1 in each row."""
    if guard == "none":
        return similarity / similarity.sum(1, keepdim=True)
    weights = similarity.clamp(min=0)
    if guard == "top-k" and top_k < similarity.shape[1]:
        kept = weights.topk(top_k, dim=1)
        weights = torch.zeros_like(weights).scatter_(1, kept.indices, kept.values)
    lonely = weights.sum(1) == 0
    if lonely.any():  # nothing is on this token's side: the nearest alone
        nearest = similarity[lonely].argmax(1, keepdim=True)
        weights[lonely] = torch.zeros_like(weights[lonely]).scatter_(1, nearest, 1.0)
    return weights / weights.sum(1, keepdim=True)


def misplaced_rows(problems: Sequence[RowProblem]) -> list[Float[Tensor, "shared width"]]:
    """Return what the released command line puts in the shared rows: the source's row of the same *number*.

    A target id that is also the source id of some shared token gets that token's row; the others stay drawn.

    Raises:
        BadInputError: a shared token's source id lies outside the target matrix; released, it stops there.
    """
    match = problems[0].match
    written = match.source_of[match.shared]
    if int(written.max()) >= len(match.source_of):
        raise BadInputError(
            f"the released CLP writes to row {int(written.max())} of a matrix of {len(match.source_of)}; "
            "use misplaced=False"
        )
    everything = [
        RowProblem(one.source, _all_new(one), one.helper, one.anchors) for one in problems
    ]  # the released draw covers every target row
    rows = []
    for problem, drawn in zip(problems, RandomRows().new_rows(everything), strict=True):
        hit = torch.isin(match.shared, written).to(problem.source.device)
        shared = match.shared.to(problem.source.device)
        there = problem.source[shared.clamp(max=len(problem.source) - 1)]
        rows.append(torch.where(hit[:, None], there, drawn.values[shared]))
    return rows


def _all_new(problem: RowProblem) -> VocabularyMatch:
    return replace(problem.match, source_of=torch.full_like(problem.match.source_of, -1))
