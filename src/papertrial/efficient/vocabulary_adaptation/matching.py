"""Which tokens of the target vocabulary the source has too."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from papertrial.efficient.vocabulary_adaptation.canonical import (
    ROLES,
    TokenForm,
    special_roles,
    token_forms,
    token_strings,
    writing_of,
)
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class VocabularyMatch:
    """Two vocabularies laid over each other.

    Attributes:
        source_of: for each target id the source id that means the same, or -1.
        source_tokenizer: the old tokenizer.
        target_tokenizer: the new one.
        source_forms: normal form of each source id.
        target_forms: normal form of each target id; None where the target has no token at an id.
        duplicates: groups of target ids that mean the same; each keeps its own row.
        new_special_tokens: control tokens that only the target has.
        lost_special_tokens: control tokens that only the source has: a chat template may use them.
    """

    source_of: Int64[Tensor, " target"]
    source_tokenizer: PreTrainedTokenizerBase
    target_tokenizer: PreTrainedTokenizerBase
    source_forms: list[TokenForm | None]
    target_forms: list[TokenForm | None]
    duplicates: list[list[int]] = field(default_factory=list)
    new_special_tokens: list[str] = field(default_factory=list)
    lost_special_tokens: list[str] = field(default_factory=list)

    @property
    def shared(self) -> Int64[Tensor, " shared"]:
        """The target ids whose token the source has."""
        return torch.nonzero(self.source_of >= 0).flatten()

    @property
    def new(self) -> Int64[Tensor, " new"]:
        """The target ids whose token the source has not."""
        return torch.nonzero(self.source_of < 0).flatten()


def match_vocabularies(
    source_tokenizer: PreTrainedTokenizerBase, target_tokenizer: PreTrainedTokenizerBase
) -> VocabularyMatch:
    """Find for each target token the source token that means the same.

    A special token goes by its role first (end, beginning, unknown, padding); then a token written alike in
    both and meaning the same; then the first source token of the same normal form. Two target tokens of one
    meaning are both kept, with a warning.

    The released code compares strings after replacing two names and one mark, and for two of its four methods
    compares them as they are, so that a byte-level and a SentencePiece vocabulary share little.

    Raises:
        BadInputError: no token is shared.

    Source: arXiv 2504.17025, section 3.1.
    """
    forms = token_forms(source_tokenizer), token_forms(target_tokenizer)
    found = _source_ids(source_tokenizer, target_tokenizer, *forms)
    if not any(number >= 0 for number in found):
        raise BadInputError(
            f"the vocabularies share no token: {_described(source_tokenizer)}, against "
            f"{_described(target_tokenizer)}; is one of them without word marks, or another tokenizer's?"
        )
    match = VocabularyMatch(
        source_of=torch.tensor(found),
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        source_forms=forms[0],
        target_forms=forms[1],
        duplicates=_duplicates(forms[1]),
        new_special_tokens=_only_special(forms[1], {n for n, source in enumerate(found) if source >= 0}),
        lost_special_tokens=_only_special(forms[0], set(found)),
    )
    _warn_of_duplicates(match)
    return match


def _source_ids(
    source_tokenizer: PreTrainedTokenizerBase,
    target_tokenizer: PreTrainedTokenizerBase,
    source_forms: list[TokenForm | None],
    target_forms: list[TokenForm | None],
) -> list[int]:
    """Return for each target id the source id that means the same, or -1."""
    first_of: dict[TokenForm, int] = {}
    for number, form in enumerate(source_forms):
        if form is not None:
            first_of.setdefault(form, number)
    written = {
        token: number for number, token in enumerate(token_strings(source_tokenizer)) if token is not None
    }
    found = [-1] * len(target_forms)
    for number, (token, form) in enumerate(zip(token_strings(target_tokenizer), target_forms, strict=True)):
        if form is None or token is None:
            continue
        same = written.get(token, -1)
        found[number] = same if same >= 0 and source_forms[same] == form else first_of.get(form, -1)
    source_roles, target_roles = special_roles(source_tokenizer), special_roles(target_tokenizer)
    for role in reversed(ROLES):  # the first role of a token that has several is written last
        if role in target_roles and role in source_roles:
            found[target_roles[role]] = source_roles[role]
    return found


def _described(tokenizer: PreTrainedTokenizerBase) -> str:
    return f"{len(tokenizer)} tokens written {writing_of(tokenizer)}"


def _duplicates(forms: list[TokenForm | None]) -> list[list[int]]:
    groups: dict[TokenForm, list[int]] = {}
    for number, form in enumerate(forms):
        if form is not None:
            groups.setdefault(form, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def _only_special(forms: list[TokenForm | None], matched: set[int]) -> list[str]:
    return [
        form.text
        for number, form in enumerate(forms)
        if form is not None and form.kind == "special" and number not in matched
    ]


def _warn_of_duplicates(match: VocabularyMatch) -> None:
    if match.duplicates:
        names = token_strings(match.target_tokenizer)
        shown = ", ".join(
            " = ".join(repr(names[number]) for number in group) for group in match.duplicates[:3]
        )
        warnings.warn(
            f"{len(match.duplicates)} groups of target tokens mean the same, each keeps its row: {shown}",
            stacklevel=3,
        )
