"""Summarising a paper: of its own sentences, by a chat model, or by a summarising model."""

from __future__ import annotations

from papertrial.digest.summarising.entries import Backend, summarise, summarise_day
from papertrial.digest.summarising.extractive import extract_summary
from papertrial.digest.summarising.language import LANGUAGES, language_problem
from papertrial.digest.summarising.opening import open_backend
from papertrial.digest.summarising.prompts import (
    FIVE_ROLES,
    THREE_PARTS_PROMPT,
    Prompt,
    prompt_for,
    read_prompt,
)
from papertrial.digest.summarising.seq2seq import Seq2SeqSummariser
from papertrial.digest.summarising.textrank import rank_sentences

__all__ = [
    "FIVE_ROLES",
    "LANGUAGES",
    "THREE_PARTS_PROMPT",
    "Backend",
    "Prompt",
    "Seq2SeqSummariser",
    "extract_summary",
    "language_problem",
    "open_backend",
    "prompt_for",
    "rank_sentences",
    "read_prompt",
    "summarise",
    "summarise_day",
]
