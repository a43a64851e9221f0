"""PRMBench: which kinds of wrong steps a process reward model misses. Source: arXiv 2501.03124."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.posttrain.prmbench.chance import (
        BernoulliScorer,
        ConstantScorer,
        chance_prm_score,
    )
    from papertrial.posttrain.prmbench.classes import (
        CLASSES,
        GROUPS,
        ErrorClass,
    )
    from papertrial.posttrain.prmbench.evaluation import (
        Evaluation,
        evaluate,
        evaluate_scores,
        tune_threshold,
    )
    from papertrial.posttrain.prmbench.metrics import (
        Labels,
        Report,
        Scores,
        Sheet,
        evaluate_labels,
        lay_out,
        make_sheet,
    )
    from papertrial.posttrain.prmbench.oracle import (
        DerivationOracle,
    )
    from papertrial.posttrain.prmbench.procedural import (
        make_rows,
    )
    from papertrial.posttrain.prmbench.rows import (
        Item,
        Oddities,
        items_of,
        read_rows,
        write_rows,
    )
    from papertrial.posttrain.prmbench.surface import (
        LengthRule,
        SurfaceScorer,
        split_by_problem,
        surface_features,
    )
    from papertrial.posttrain.prmbench.thresholds import (
        ThresholdSweep,
        auroc,
        sweep_thresholds,
    )

_MODULE_OF = {
    "BernoulliScorer": "chance",
    "CLASSES": "classes",
    "ConstantScorer": "chance",
    "DerivationOracle": "oracle",
    "ErrorClass": "classes",
    "Evaluation": "evaluation",
    "GROUPS": "classes",
    "Item": "rows",
    "Labels": "metrics",
    "LengthRule": "surface",
    "Oddities": "rows",
    "Report": "metrics",
    "Scores": "metrics",
    "Sheet": "metrics",
    "SurfaceScorer": "surface",
    "ThresholdSweep": "thresholds",
    "auroc": "thresholds",
    "chance_prm_score": "chance",
    "evaluate": "evaluation",
    "evaluate_labels": "metrics",
    "evaluate_scores": "evaluation",
    "items_of": "rows",
    "lay_out": "metrics",
    "make_rows": "procedural",
    "make_sheet": "metrics",
    "read_rows": "rows",
    "split_by_problem": "surface",
    "surface_features": "surface",
    "sweep_thresholds": "thresholds",
    "tune_threshold": "evaluation",
    "write_rows": "rows",
}

__all__ = [
    "CLASSES",
    "GROUPS",
    "BernoulliScorer",
    "ConstantScorer",
    "DerivationOracle",
    "ErrorClass",
    "Evaluation",
    "Item",
    "Labels",
    "LengthRule",
    "Oddities",
    "Report",
    "Scores",
    "Sheet",
    "SurfaceScorer",
    "ThresholdSweep",
    "auroc",
    "chance_prm_score",
    "evaluate",
    "evaluate_labels",
    "evaluate_scores",
    "items_of",
    "lay_out",
    "make_rows",
    "make_sheet",
    "read_rows",
    "split_by_problem",
    "surface_features",
    "sweep_thresholds",
    "tune_threshold",
    "write_rows",
]

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
