"""How each family of released process reward models is asked and read, and loading them so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from papertrial.errors import BadInputError, unknown
from papertrial.models import load_causal_lm, load_token_classifier, load_tokenizer
from papertrial.posttrain.chat_layouts import ChatSeparatedSteps, Turns
from papertrial.posttrain.step_forward import StepForward
from papertrial.posttrain.step_heads import load_with_head
from papertrial.posttrain.step_judges import (
    Judge,
    between_tokens,
    gain_of_value,
    margin_of_good,
    mean_log_probability,
    mean_logit,
    probability_of_good,
    probability_of_token,
    three_way,
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
    MAX_TOKENS,
    ModelScorer,
    classification_head,
    forward_of,
    language_head,
)

HeadKind = Literal["classifier", "language-model", "layers"]


@dataclass(frozen=True)
class Convention:
    """How one family of released models is asked and read.

    Attributes:
        layout: how a solution is written.
        head: where the outputs come from: a token classifier's head, a language model's, or `layers`.
        read: makes scores of outputs, given the tokenizer.
        validity_threshold, redundancy_threshold: of the released evaluation.
        layers: the head's linear layers in the checkpoint, for `head="layers"`.
        labels: outputs of a token classifier.
    """

    layout: Layout
    head: HeadKind
    read: Callable[[PreTrainedTokenizerBase], Judge]
    validity_threshold: float = 0.5
    redundancy_threshold: float = 0.5
    layers: tuple[str, ...] = ()
    labels: int = 2


def _always(judge: Judge) -> Callable[[PreTrainedTokenizerBase], Judge]:
    return lambda tokenizer: judge


def _last_token(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return int(tokenizer(text, add_special_tokens=False)["input_ids"][-1])


CONVENTIONS: Mapping[str, Convention] = {
    "trl": Convention(SeparatedSteps("\n"), "classifier", _always(probability_of_good)),
    "math-shepherd": Convention(
        TaggedSteps(),
        "language-model",
        lambda tokenizer: between_tokens(_last_token(tokenizer, "+"), _last_token(tokenizer, "-")),
    ),
    "qwen-prm": Convention(
        ChatSeparatedSteps(), "layers", _always(probability_of_good), layers=("score.0", "score.2")
    ),
    "reasoneval": Convention(
        StepEnds(), "layers", _always(three_way), redundancy_threshold=0.15, layers=("score_head",)
    ),
    "skywork": Convention(
        LastTagTokenSteps(),
        "layers",
        _always(gain_of_value),
        validity_threshold=-0.05,
        layers=("v_head.summary",),
    ),
    "llemma": Convention(HeadedSteps(), "language-model", _always(mean_logit)),
    "rlhflow": Convention(
        Turns(), "language-model", lambda tokenizer: probability_of_token(_last_token(tokenizer, "+"))
    ),
    "pure": Convention(
        SeparatedSteps("\n\n", begin=False, inside="\n"),
        "classifier",
        _always(margin_of_good),
        validity_threshold=0.0,
    ),
    "log-probability": Convention(
        Likelihoods(), "language-model", _always(mean_log_probability), validity_threshold=-1.0
    ),
}
_FAMILIES = {
    "math-shepherd": "math-shepherd",
    "qwen2.5-math-prm": "qwen-prm",
    "reasoneval": "reasoneval",
    "skywork-o1-open-prm": "skywork",
    "llemma": "llemma",
    "llama3.1-8b-prm": "rlhflow",
    "pure-prm": "pure",
    "qwen2.5-math-7b-prm800k": "pure",
}


def convention_of(name: str) -> str:
    """Return the convention that a released model's name implies (the last part of a path or hub id).

    Raises:
        BadInputError: a name that implies none.
    """
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    for family, convention in _FAMILIES.items():
        if family in last:
            return convention
    raise BadInputError(
        f"cannot tell how {name!r} wants its steps; name the convention: {', '.join(sorted(CONVENTIONS))}"
    )


def load_step_scorer(
    name: str,
    convention: str | None = None,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    tokens_per_batch: int = 8192,
    share_prefix: bool = True,
    max_tokens: int = MAX_TOKENS,
) -> ModelScorer:
    """Load a process reward model, or a language model, as a step scorer.

    Args:
        name: a folder or hub id.
        convention: one of `CONVENTIONS`; None tells it from the name.
        dtype: number format of the weights.
        device: where the model goes.
        tokens_per_batch: the largest number of tokens, padding included, in one forward pass.
        share_prefix: whether solutions of one question share its keys and values.
        max_tokens: a longer solution is `Unscored`.

    Raises:
        BadInputError: a convention that is not known or not told by the name; a model that cannot be
            loaded, or has no head of that convention.
    """
    key = convention or convention_of(name)
    if key not in CONVENTIONS:
        raise unknown("convention", key, CONVENTIONS)
    chosen = CONVENTIONS[key]
    tokenizer = load_tokenizer(name)
    if chosen.head == "layers":
        backbone, head = load_with_head(name, chosen.layers, dtype=dtype, device=device)
        forward = StepForward(backbone, head, tokens_per_batch=tokens_per_batch, share_prefix=share_prefix)
    elif chosen.head == "classifier":
        model = load_token_classifier(name, chosen.labels, dtype=dtype, device=device)
        forward = forward_of(model, classification_head(model), tokens_per_batch, share_prefix)
    else:
        model = load_causal_lm(name, dtype=dtype, device=device)
        forward = forward_of(model, language_head(model), tokens_per_batch, share_prefix)
    return ModelScorer(
        forward,
        tokenizer,
        chosen.layout,
        chosen.read(tokenizer),
        validity_threshold=chosen.validity_threshold,
        redundancy_threshold=chosen.redundancy_threshold,
        max_tokens=max_tokens,
    )
