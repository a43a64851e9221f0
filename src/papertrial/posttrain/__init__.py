"""Post-training: rewards, preferences, reinforcement learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papertrial.lazy import lazily

if TYPE_CHECKING:
    from papertrial.posttrain.chat_layouts import (
        ChatSeparatedSteps,
        Turns,
    )
    from papertrial.posttrain.critic import (
        CriticScorer,
        generate_answers,
    )
    from papertrial.posttrain.parsing import (
        find_json_object,
        find_tag,
    )
    from papertrial.posttrain.step_conventions import (
        CONVENTIONS,
        Convention,
        convention_of,
        load_step_scorer,
    )
    from papertrial.posttrain.step_forward import (
        StepForward,
    )
    from papertrial.posttrain.step_heads import (
        load_with_head,
    )
    from papertrial.posttrain.step_layouts import (
        HeadedSteps,
        LastTagTokenSteps,
        Layout,
        Likelihoods,
        SeparatedSteps,
        StepEnds,
        TaggedSteps,
    )
    from papertrial.posttrain.step_models import (
        ModelScorer,
        classifier_scorer,
        log_probability_scorer,
    )
    from papertrial.posttrain.step_reading import (
        Reading,
    )
    from papertrial.posttrain.steps import (
        Solution,
        StepLabels,
        StepScorer,
        StepScores,
        Unscored,
        judge,
        without_step_number,
    )

_MODULE_OF = {
    "CONVENTIONS": "step_conventions",
    "ChatSeparatedSteps": "chat_layouts",
    "Convention": "step_conventions",
    "CriticScorer": "critic",
    "HeadedSteps": "step_layouts",
    "LastTagTokenSteps": "step_layouts",
    "Layout": "step_layouts",
    "Likelihoods": "step_layouts",
    "ModelScorer": "step_models",
    "Reading": "step_reading",
    "SeparatedSteps": "step_layouts",
    "Solution": "steps",
    "StepEnds": "step_layouts",
    "StepForward": "step_forward",
    "StepLabels": "steps",
    "StepScorer": "steps",
    "StepScores": "steps",
    "TaggedSteps": "step_layouts",
    "Turns": "chat_layouts",
    "Unscored": "steps",
    "classifier_scorer": "step_models",
    "convention_of": "step_conventions",
    "find_json_object": "parsing",
    "find_tag": "parsing",
    "generate_answers": "critic",
    "judge": "steps",
    "load_step_scorer": "step_conventions",
    "load_with_head": "step_heads",
    "log_probability_scorer": "step_models",
    "without_step_number": "steps",
}

__all__ = [
    "CONVENTIONS",
    "ChatSeparatedSteps",
    "Convention",
    "CriticScorer",
    "HeadedSteps",
    "LastTagTokenSteps",
    "Layout",
    "Likelihoods",
    "ModelScorer",
    "Reading",
    "SeparatedSteps",
    "Solution",
    "StepEnds",
    "StepForward",
    "StepLabels",
    "StepScorer",
    "StepScores",
    "TaggedSteps",
    "Turns",
    "Unscored",
    "classifier_scorer",
    "convention_of",
    "find_json_object",
    "find_tag",
    "generate_answers",
    "judge",
    "load_step_scorer",
    "load_with_head",
    "log_probability_scorer",
    "without_step_number",
]

# A room's trial and card are read without torch.
__getattr__ = lazily(__name__, _MODULE_OF)
