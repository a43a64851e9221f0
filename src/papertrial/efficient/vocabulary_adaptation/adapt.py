"""Replacing a model's vocabulary: the way in for users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.efficient.vocabulary_adaptation.alignment import SAVA
from papertrial.efficient.vocabulary_adaptation.install import install_rows, vocabulary_modules
from papertrial.efficient.vocabulary_adaptation.matching import VocabularyMatch, match_vocabularies
from papertrial.efficient.vocabulary_adaptation.pieces import FVT
from papertrial.efficient.vocabulary_adaptation.random_rows import RandomRows
from papertrial.efficient.vocabulary_adaptation.report import AdaptationReport
from papertrial.efficient.vocabulary_adaptation.rows import Initialiser, NewRows, RowProblem, assemble
from papertrial.efficient.vocabulary_adaptation.similarity import CLP
from papertrial.errors import BadInputError, unknown
from papertrial.models import parameter_count

METHODS: Mapping[str, Any] = {"random": RandomRows, "fvt": FVT, "clp": CLP, "sava": SAVA}
"""The methods by name, each with its paper's settings."""


def adapt_vocabulary(
    model: PreTrainedModel,
    source_tokenizer: PreTrainedTokenizerBase,
    target_tokenizer: PreTrainedTokenizerBase,
    method: str | Initialiser = "sava",
    helper: PreTrainedModel | None = None,
    *,
    helper_tokenizer: PreTrainedTokenizerBase | None = None,
    head: str = "auto",
) -> tuple[PreTrainedModel, AdaptationReport]:
    """Give `model` the vocabulary of `target_tokenizer`, in place; return it with a report.

    Rows of shared tokens are copied, the others made by `method`; embedding and untied head each get rows of
    their own, fitted apart. Everything is computed in float32 at least and cast to the model's format at the
    end. Its old tokenizer no longer fits the model: save the target's beside it.

    Args:
        model: any causal language model of transformers, with plain weights.
        source_tokenizer: the model's own.
        target_tokenizer: what it is to speak; `union_tokenizer(source, target)` keeps the old tokens too.
        method: "random", "fvt", "clp", "sava", or one of their classes with settings.
        helper: a model that speaks `helper_tokenizer`; needed by CLP and SAVA. Its width may differ.
        helper_tokenizer: the helper's own; `target_tokenizer` if not given.
        head: "auto" gives the head rows of its own where it is untied; "separate" fails where it is tied.

    Raises:
        BadInputError: an unknown method, no helper where one is needed, no shared tokens, a tokenizer that is
            not the model's or a helper that lacks tokens of the target, quantised or offloaded embeddings, a
            tied head with `head="separate"`.

    Source: arXiv 2504.17025, section 3.
    """
    chosen = initialiser(method)
    if chosen.needs_helper and helper is None:
        raise BadInputError(
            f"{chosen.name} needs a helper model that has the target's tokenizer; fvt needs none"
        )
    if head not in ("auto", "separate"):
        raise BadInputError(f"head must be 'auto' or 'separate', got {head!r}")
    embedding, own_head = vocabulary_modules(model)
    if head == "separate" and own_head is None:
        raise BadInputError("head='separate' was asked for, but the model's head is tied to its embedding")
    match = match_vocabularies(source_tokenizer, target_tokenizer)
    old_rows = embedding.num_embeddings
    _check_rows("model", old_rows, len(match.source_forms))
    weights = [embedding.weight, *([] if own_head is None else [own_head.weight])]
    helpers = _helper_rows(helper, helper_tokenizer, match, len(weights)) if chosen.needs_helper else None
    problems = [
        _problem(weight.detach(), match, None if helpers is None else helpers[place])
        for place, weight in enumerate(weights)
    ]
    with torch.no_grad():
        made = chosen.new_rows(problems)
        filled = [assemble(problem, rows) for problem, rows in zip(problems, made, strict=True)]
    _check_finite(filled, chosen.name)
    sizes = parameter_count(model), _bytes(weights)
    notes = _row_notes(old_rows, len(match.source_forms), helper_tokenizer)
    notes += install_rows(model, match, filled[0], filled[1] if len(filled) > 1 else None)
    return model, _report(model, chosen.name, match, made, old_rows, sizes, notes)


def initialiser(method: str | Initialiser) -> Initialiser:
    """Return the method called so, with its paper's settings; a method is returned as it is.

    Raises:
        BadInputError: there is no method of that name.
    """
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    return METHODS[method]()


def _check_rows(what: str, rows: int, tokens: int) -> None:
    if rows < tokens:
        raise BadInputError(
            f"the {what}'s embedding has {rows} rows for a tokenizer of {tokens} ids: is it the {what}'s own?"
        )


def _problem(
    weight: Tensor,
    match: VocabularyMatch,
    helper: tuple[Tensor, Int64[Tensor, " target"]] | None,
) -> RowProblem:
    """Return the task for one matrix, in float32 at least."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    source = weight[: len(match.source_forms)].to(dtype)
    if helper is None:
        return RowProblem(source, match, None, match.shared)
    rows, helper_of = helper
    placed = rows.to(source)[helper_of.clamp(min=0).to(source.device)]
    placed[helper_of.to(source.device) < 0] = 0.0
    return RowProblem(
        source, match, placed, torch.nonzero((match.source_of >= 0) & (helper_of >= 0)).flatten()
    )


def _helper_rows(
    helper: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    match: VocabularyMatch,
    matrices: int,
) -> list[tuple[Float[Tensor, "helper width"], Int64[Tensor, " target"]]]:
    """Return for each matrix the helper's rows, and for each target id the helper's, or -1."""
    if helper is None:
        raise BadInputError("a helper model is needed")
    embedding, own_head = vocabulary_modules(helper, "helper")
    if tokenizer is None:
        helper_of = torch.arange(len(match.target_forms))
        _check_rows("helper", embedding.num_embeddings, len(match.target_forms))
    else:
        found = match_vocabularies(tokenizer, match.target_tokenizer)
        helper_of = found.source_of
        _check_rows("helper", embedding.num_embeddings, len(found.source_forms))
    missing = [number for number in match.new.tolist() if helper_of[number] < 0]
    missing = [number for number in missing if match.target_forms[number] is not None]
    if missing:
        shown = ", ".join(repr(match.target_forms[number].text) for number in missing[:3])
        raise BadInputError(
            f"the helper's tokenizer lacks {len(missing)} of the target's new tokens ({shown}); "
            "give a helper that has the target's tokenizer"
        )
    head = embedding if own_head is None else own_head
    return [(module.weight.detach(), helper_of) for module in (embedding, head)[:matrices]]


def _check_finite(matrices: list[Tensor], method: str) -> None:
    for name, matrix in zip(("embedding", "head"), matrices, strict=False):
        if not bool(torch.isfinite(matrix).all()):
            raise BadInputError(
                f"{method} made rows of the {name} that are not finite; are the models' weights?"
            )


def _row_notes(rows: int, tokens: int, helper_tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
    notes = []
    if rows > tokens:
        notes.append(f"the old embedding had {rows} rows for {tokens} tokens: its padding rows were ignored")
    if helper_tokenizer is not None:
        notes.append("helper rows were found by what their tokens mean, not by their ids")
    return notes


def _bytes(weights: list[Any]) -> int:
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _report(
    model: PreTrainedModel,
    method: str,
    match: VocabularyMatch,
    made: list[NewRows],
    old_rows: int,
    before: tuple[int, int],
    notes: list[str],
) -> AdaptationReport:
    embedding, head = vocabulary_modules(model)
    provenance = ["copied" if source >= 0 else "" for source in match.source_of.tolist()]
    sources = {
        number: [(source, 1.0)] for number, source in enumerate(match.source_of.tolist()) if source >= 0
    }
    for place, number in enumerate(match.new.tolist()):
        provenance[number] = made[0].provenance[place]
        if made[0].sources:
            sources[number] = made[0].sources[place]
    weights = [embedding.weight, *([] if head is None else [head.weight])]
    return AdaptationReport(
        method=method,
        source_tokens=len(match.source_forms),
        source_rows=old_rows,
        target_tokens=len(match.target_forms),
        shared=len(match.shared),
        tied=head is None,
        provenance=provenance,
        parameters=(before[0], parameter_count(model)),
        vocabulary_bytes=(before[1], _bytes(weights)),
        duplicates=match.duplicates,
        new_special_tokens=match.new_special_tokens,
        lost_special_tokens=match.lost_special_tokens,
        notes=notes,
        facts={
            name: rows.facts for name, rows in zip(("embedding", "head"), made, strict=False) if rows.facts
        },
        sources=sources,
    )
