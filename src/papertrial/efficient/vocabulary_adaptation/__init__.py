"""SAVA and its peers: another tokenizer for a language model. Source: arXiv 2504.17025."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.efficient.vocabulary_adaptation.adapt import adapt_vocabulary
    from papertrial.efficient.vocabulary_adaptation.alignment import SAVA, Translation, fit_translation
    from papertrial.efficient.vocabulary_adaptation.canonical import TokenForm, token_forms
    from papertrial.efficient.vocabulary_adaptation.continued import (
        MixedBatches,
        continued_training_optimizer,
    )
    from papertrial.efficient.vocabulary_adaptation.generation import GenerationSpeed, generation_speed
    from papertrial.efficient.vocabulary_adaptation.matching import VocabularyMatch, match_vocabularies
    from papertrial.efficient.vocabulary_adaptation.pieces import FVT
    from papertrial.efficient.vocabulary_adaptation.prompts import (
        SquadExample,
        answer_prompts,
        rouge_l,
        squad_prompt,
        translation_prompt,
    )
    from papertrial.efficient.vocabulary_adaptation.random_rows import RandomRows
    from papertrial.efficient.vocabulary_adaptation.report import AdaptationReport
    from papertrial.efficient.vocabulary_adaptation.similarity import CLP
    from papertrial.efficient.vocabulary_adaptation.structure import prefix_anchors, structure_similarity
    from papertrial.efficient.vocabulary_adaptation.tokens_per_word import Fertility, fertility
    from papertrial.efficient.vocabulary_adaptation.union import union_tokenizer

__all__ = [
    "CLP",
    "FVT",
    "SAVA",
    "AdaptationReport",
    "Fertility",
    "GenerationSpeed",
    "MixedBatches",
    "RandomRows",
    "SquadExample",
    "TokenForm",
    "Translation",
    "VocabularyMatch",
    "adapt_vocabulary",
    "answer_prompts",
    "continued_training_optimizer",
    "fertility",
    "fit_translation",
    "generation_speed",
    "match_vocabularies",
    "prefix_anchors",
    "rouge_l",
    "squad_prompt",
    "structure_similarity",
    "token_forms",
    "translation_prompt",
    "union_tokenizer",
]

_MODULE_OF = {
    "AdaptationReport": "report",
    "CLP": "similarity",
    "FVT": "pieces",
    "Fertility": "tokens_per_word",
    "GenerationSpeed": "generation",
    "MixedBatches": "continued",
    "RandomRows": "random_rows",
    "SAVA": "alignment",
    "SquadExample": "prompts",
    "TokenForm": "canonical",
    "Translation": "alignment",
    "VocabularyMatch": "matching",
    "adapt_vocabulary": "adapt",
    "answer_prompts": "prompts",
    "continued_training_optimizer": "continued",
    "fertility": "tokens_per_word",
    "fit_translation": "alignment",
    "generation_speed": "generation",
    "match_vocabularies": "matching",
    "prefix_anchors": "structure",
    "rouge_l": "prompts",
    "squad_prompt": "prompts",
    "structure_similarity": "structure",
    "token_forms": "canonical",
    "translation_prompt": "prompts",
    "union_tokenizer": "union",
}

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
