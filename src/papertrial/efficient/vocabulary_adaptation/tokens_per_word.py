"""Fertility: how many tokens a tokenizer needs for a word."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from papertrial.errors import BadInputError, MissingExtraError, unknown

Splitter = Callable[[str], Sequence[str]]
"""Cuts a text into words."""

_WORD = re.compile(r"\w+|[^\w\s]")
_CHUNK = 256  # documents tokenised at once


@dataclass(frozen=True)
class Fertility:
    """Tokens per word, by both definitions.

    Attributes:
        mean_of_ratios: mean over documents of tokens / words, as in the paper.
        ratio_of_sums: all tokens / all words: a long document weighs more.
        characters_per_token: of all documents together.
        documents: how many were counted.
        skipped: documents without a word, left out.
        splitter: what cut the words.
    """

    mean_of_ratios: float
    ratio_of_sums: float
    characters_per_token: float
    documents: int
    skipped: int
    splitter: str


def fertility(
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    *,
    splitter: str | Splitter = "regex",
    language: str = "italian",
) -> Fertility:
    r"""Count tokens (special ones left out) against words.

    Args:
        tokenizer: cuts the tokens.
        documents: texts.
        splitter: "regex" takes runs of word characters and single signs (`\w+|[^\w\s]`) and is the same
            everywhere; "nltk" is NLTK's `word_tokenize`, the paper's, and needs NLTK with its sentence data;
            or a function of your own.
        language: for NLTK.

    Raises:
        BadInputError: an unknown splitter, no document with a word, or NLTK's data is not there.
        MissingExtraError: NLTK is not installed.

    Source: arXiv 2504.17025, section 4.1 and table 2.
    """
    cut = splitter_called(splitter, language)
    shares, tokens, words, characters = [], 0, 0, 0
    for first in range(0, len(documents), _CHUNK):
        chunk = [(document, len(cut(document))) for document in documents[first : first + _CHUNK]]
        counted = [(document, count) for document, count in chunk if count]
        if not counted:
            continue
        encoded = tokenizer(
            [document for document, _ in counted],
            add_special_tokens=False,
            return_attention_mask=False,
            verbose=False,
        )
        for (document, count), ids in zip(counted, encoded["input_ids"], strict=True):
            shares.append(len(ids) / count)
            tokens, words, characters = tokens + len(ids), words + count, characters + len(document)
    if not shares:
        raise BadInputError(f"none of the {len(documents)} documents holds a word")
    return Fertility(
        mean_of_ratios=math.fsum(shares) / len(shares),
        ratio_of_sums=tokens / words,
        characters_per_token=characters / tokens,
        documents=len(shares),
        skipped=len(documents) - len(shares),
        splitter=splitter if isinstance(splitter, str) else getattr(splitter, "__name__", "own"),
    )


def splitter_called(splitter: str | Splitter, language: str) -> Splitter:
    """Return the function that cuts words; one that is given is returned as it is.

    Raises:
        BadInputError: an unknown name, or NLTK without the data of `language`.
        MissingExtraError: NLTK is not installed.
    """
    if not isinstance(splitter, str):
        return splitter
    if splitter == "regex":
        return _WORD.findall
    if splitter != "nltk":
        raise unknown("splitter", splitter, ("regex", "nltk"))
    try:
        from nltk.tokenize import word_tokenize
    except ImportError as problem:
        raise MissingExtraError("nltk", "evaluation") from problem
    try:
        word_tokenize("a", language=language)
    except LookupError as problem:
        raise BadInputError(
            f"NLTK has no sentence data for {language!r} here (nltk.download('punkt_tab')); use splitter='regex'"
        ) from problem
    return lambda text: word_tokenize(text, language=language)
