"""One evaluation for every language model: perplexity, characters, divergence, multiple choice, MMLU."""

from __future__ import annotations

from papertrial.efficient.evaluation.characters import (
    bits_per_byte,
    bits_per_character,
    document_log_likelihoods,
)
from papertrial.efficient.evaluation.choices import ChoiceScores, Question, answer_questions
from papertrial.efficient.evaluation.divergence import Divergence, divergence
from papertrial.efficient.evaluation.likelihood import Continuation, continuation_likelihoods, encode_pair
from papertrial.efficient.evaluation.lm_eval_adapter import lm_eval_tasks
from papertrial.efficient.evaluation.mmlu import MmluScores, evaluate_mmlu
from papertrial.efficient.evaluation.mmlu_files import MmluRow, MmluSubject, load_mmlu
from papertrial.efficient.evaluation.perplexity import Perplexity, perplexity
from papertrial.efficient.evaluation.streams import STREAM_RULES, StreamRule, token_stream

__all__ = [
    "STREAM_RULES",
    "ChoiceScores",
    "Continuation",
    "Divergence",
    "MmluRow",
    "MmluScores",
    "MmluSubject",
    "Perplexity",
    "Question",
    "StreamRule",
    "answer_questions",
    "bits_per_byte",
    "bits_per_character",
    "continuation_likelihoods",
    "divergence",
    "document_log_likelihoods",
    "encode_pair",
    "evaluate_mmlu",
    "lm_eval_tasks",
    "load_mmlu",
    "perplexity",
    "token_stream",
]
