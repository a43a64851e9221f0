"""FVT: a new token's row is the mean of the rows of its pieces under the source tokenizer."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from papertrial.efficient.vocabulary_adaptation.canonical import WORD_MARK, TokenForm
from papertrial.efficient.vocabulary_adaptation.matching import VocabularyMatch
from papertrial.efficient.vocabulary_adaptation.rows import Facts, NewRows, RowProblem
from papertrial.errors import BadInputError

Pieces = list[list[int]]


@dataclass(frozen=True)
class FVT:
    """Fast vocabulary transfer: average the source rows of the new token's pieces.

    The head averages the same pieces as the embedding. A token without pieces (bytes that the source cannot
    write) gets the mean of all source rows.

    Attributes:
        prefix_space: "none" cuts exactly the token's own text; "source" lets the source tokenizer add the
            leading mark that it adds to every text, as the released code does: `reva` then averages the mark
            and its letters.
        literal_mark: hand the source tokenizer the mark "▁" in place of a space and a space in place of "_",
            as the released code does. Harmless for a SentencePiece source; a byte-level one reads the mark's
            three bytes into every word.

    Source: arXiv 2504.17025, section 3.1.
    """

    name: ClassVar[str] = "fvt"
    needs_helper: ClassVar[bool] = False
    prefix_space: str = "none"
    literal_mark: bool = False

    def __post_init__(self) -> None:
        if self.prefix_space not in ("none", "source"):
            raise BadInputError(f"prefix_space must be 'none' or 'source', got {self.prefix_space!r}")

    def new_rows(self, problems: Sequence[RowProblem]) -> list[NewRows]:
        """Return the mean of the pieces' rows for each matrix."""
        pieces = piece_ids(problems[0].match, self.prefix_space, self.literal_mark)
        empty = sum(not one for one in pieces)
        facts: Facts = {
            "tokens without pieces": empty,
            "mean pieces": sum(map(len, pieces)) / max(1, len(pieces) - empty),
        }
        provenance = ["pieces" if one else "mean" for one in pieces]
        sources = [[(number, 1 / len(one)) for number in one] for one in pieces]
        return [NewRows(_means(problem.source, pieces), provenance, sources, facts) for problem in problems]


def _means(source: Tensor, pieces: Pieces) -> Tensor:
    """Return the mean of the source rows of each token's pieces; of all rows where there are none."""
    if not pieces:
        return source.new_zeros(0, source.shape[1])
    lengths = torch.tensor([len(one) for one in pieces], device=source.device)
    flat = torch.tensor([number for one in pieces for number in one], dtype=torch.int64, device=source.device)
    starts = lengths.cumsum(0) - lengths
    rows = functional.embedding_bag(flat, source, starts, mode="mean")
    return torch.where((lengths > 0)[:, None], rows, source.mean(0))


def piece_ids(match: VocabularyMatch, prefix_space: str = "none", literal_mark: bool = False) -> Pieces:
    """Return the source ids of each new target token's text, without special tokens; empty where it has none."""
    forms = [match.target_forms[number] for number in match.new.tolist()]
    texts = [_text(form, literal_mark) for form in forms]
    pieces = _encode(match.source_tokenizer, texts, prefix_space)
    byte_ids = _byte_ids(match)
    limit = len(match.source_forms)
    for place, form in enumerate(forms):
        if form is not None and form.kind in ("byte", "bytes"):
            known = [byte_ids.get(byte) for byte in form.data]
            pieces[place] = [one for one in known if one is not None] if None not in known else []
        pieces[place] = [one for one in pieces[place] if one < limit]
    return pieces


def _text(form: TokenForm | None, literal_mark: bool) -> str:
    if form is None or form.kind in ("byte", "bytes"):
        return ""
    if literal_mark and form.kind == "text":
        return form.text.replace(" ", WORD_MARK).replace("_", " ")
    return form.text


def _byte_ids(match: VocabularyMatch) -> dict[int, int]:
    """Return the source id of each byte that is a token by itself."""
    return {
        form.data[0]: number
        for number, form in enumerate(match.source_forms)
        if form is not None and form.kind == "byte"
    }


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], prefix_space: str) -> Pieces:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if prefix_space == "none" and backend is None:
        warnings.warn(
            f"{type(tokenizer).__name__} is a slow tokenizer: its leading mark cannot be left out",
            stacklevel=4,
        )
    if prefix_space == "source" or backend is None:
        filled = [number for number, text in enumerate(texts) if text]
        pieces: Pieces = [[] for _ in texts]
        if filled:
            found = tokenizer([texts[number] for number in filled], add_special_tokens=False, verbose=False)
            for number, ids in zip(filled, found["input_ids"], strict=True):
                pieces[number] = list(ids)
        return pieces
    bare = without_prefix(backend)
    return [found.ids for found in bare.encode_batch(texts, add_special_tokens=False)]


def without_prefix(backend: Tokenizer) -> Tokenizer:
    """Return a copy of a fast tokenizer that encodes a text as it stands: no leading mark, no special token."""
    settings = json.loads(backend.to_str())
    settings |= {"post_processor": None, "truncation": None, "padding": None}
    settings["normalizer"] = _without_prepend(settings["normalizer"])
    _switch_off_prefix(settings["pre_tokenizer"])
    return Tokenizer.from_str(json.dumps(settings))


def _without_prepend(normalizer: Any) -> Any:
    if not normalizer or normalizer["type"] == "Prepend":
        return None
    if normalizer["type"] == "Sequence":
        kept = [one for one in map(_without_prepend, normalizer["normalizers"]) if one]
        return {**normalizer, "normalizers": kept}
    return normalizer


def _switch_off_prefix(pre_tokenizer: Any) -> None:
    for part in [pre_tokenizer, *(pre_tokenizer or {}).get("pretokenizers", [])]:
        if part and part["type"] == "Metaspace":
            part["prepend_scheme"] = "never"
        if part and part["type"] == "ByteLevel":
            part["add_prefix_space"] = False
