"""EXAONE 3.5: decontamination, context extension, staged preferences, and the models without remote code.

Source: arXiv 2412.04862.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.efficient.exaone_3_5.architecture import (
        config_of_size,
        exaone_config,
        llama_config,
        parameters_of,
        training_compute,
    )
    from papertrial.efficient.exaone_3_5.averages import group_averages, macro_mean, published_averages
    from papertrial.efficient.exaone_3_5.benchmarks import load_items
    from papertrial.efficient.exaone_3_5.chat import chat_text
    from papertrial.efficient.exaone_3_5.corpus import Job, decontaminate
    from papertrial.efficient.exaone_3_5.decontamination import Decontaminator, Leak, Rule
    from papertrial.efficient.exaone_3_5.haystacks import HaystackGrid, evaluate_haystacks
    from papertrial.efficient.exaone_3_5.instructions import Instruction, Knowledge, build_instructions
    from papertrial.efficient.exaone_3_5.long_context import Extension, ReplayMix, extend_context, set_context
    from papertrial.efficient.exaone_3_5.long_rag import LongRagScores, score_long_rag
    from papertrial.efficient.exaone_3_5.miss_rate import (
        catch_probability,
        chunked_catch_probability,
        gpt4_catch_probability,
    )
    from papertrial.efficient.exaone_3_5.normalisation import normalise
    from papertrial.efficient.exaone_3_5.pairs import (
        PreferencePair,
        build_pairs,
        kendall_tau,
        load_pairs,
        save_pairs,
    )
    from papertrial.efficient.exaone_3_5.pool import Copy, Pool, TestItem
    from papertrial.efficient.exaone_3_5.stages import Stage, encode_pairs, run_stage, run_stages
    from papertrial.efficient.exaone_3_5.weights import (
        LicenceNotice,
        export_checkpoint,
        from_pretrained,
        import_checkpoint,
    )

__all__ = [
    "Copy",
    "Decontaminator",
    "Extension",
    "HaystackGrid",
    "Instruction",
    "Job",
    "Knowledge",
    "Leak",
    "LicenceNotice",
    "LongRagScores",
    "Pool",
    "PreferencePair",
    "ReplayMix",
    "Rule",
    "Stage",
    "TestItem",
    "build_instructions",
    "build_pairs",
    "catch_probability",
    "chat_text",
    "chunked_catch_probability",
    "config_of_size",
    "decontaminate",
    "encode_pairs",
    "evaluate_haystacks",
    "exaone_config",
    "export_checkpoint",
    "extend_context",
    "from_pretrained",
    "gpt4_catch_probability",
    "group_averages",
    "import_checkpoint",
    "kendall_tau",
    "llama_config",
    "load_items",
    "load_pairs",
    "macro_mean",
    "normalise",
    "parameters_of",
    "published_averages",
    "run_stage",
    "run_stages",
    "save_pairs",
    "score_long_rag",
    "set_context",
    "training_compute",
]

_MODULE_OF = {
    "config_of_size": "architecture",
    "exaone_config": "architecture",
    "llama_config": "architecture",
    "parameters_of": "architecture",
    "training_compute": "architecture",
    "group_averages": "averages",
    "macro_mean": "averages",
    "published_averages": "averages",
    "load_items": "benchmarks",
    "chat_text": "chat",
    "Job": "corpus",
    "decontaminate": "corpus",
    "Decontaminator": "decontamination",
    "Leak": "decontamination",
    "Rule": "decontamination",
    "HaystackGrid": "haystacks",
    "evaluate_haystacks": "haystacks",
    "Instruction": "instructions",
    "Knowledge": "instructions",
    "build_instructions": "instructions",
    "Extension": "long_context",
    "ReplayMix": "long_context",
    "extend_context": "long_context",
    "set_context": "long_context",
    "LongRagScores": "long_rag",
    "score_long_rag": "long_rag",
    "catch_probability": "miss_rate",
    "chunked_catch_probability": "miss_rate",
    "gpt4_catch_probability": "miss_rate",
    "normalise": "normalisation",
    "PreferencePair": "pairs",
    "build_pairs": "pairs",
    "kendall_tau": "pairs",
    "load_pairs": "pairs",
    "save_pairs": "pairs",
    "Copy": "pool",
    "Pool": "pool",
    "TestItem": "pool",
    "Stage": "stages",
    "encode_pairs": "stages",
    "run_stage": "stages",
    "run_stages": "stages",
    "LicenceNotice": "weights",
    "export_checkpoint": "weights",
    "from_pretrained": "weights",
    "import_checkpoint": "weights",
}

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
