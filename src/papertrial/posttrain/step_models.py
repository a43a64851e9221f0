"""Process reward models and language models as step scorers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.errors import BadInputError
from papertrial.posttrain.step_forward import StepForward, vocabulary_size
from papertrial.posttrain.step_judges import Judge, mean_log_probability, probability_of_good
from papertrial.posttrain.step_layouts import Layout, Likelihoods, SeparatedSteps
from papertrial.posttrain.steps import (
    OnScored,
    Solution,
    StepScorer,
    StepScores,
    Unscored,
    checked_solutions,
)

MAX_TOKENS = 2048  # of the released evaluation


class ModelScorer(StepScorer):
    """A model as a step scorer: laid out, run once for each solution, and read.

    Args:
        forward: runs backbone and head.
        tokenizer: the model's.
        layout: how a solution is written.
        read: makes scores of the outputs at the places that the layout reads.
        validity_threshold, redundancy_threshold: above them a step is good, or redundant.
        max_tokens: a longer solution is `Unscored`; nothing is ever cut off.
    """

    def __init__(
        self,
        forward: StepForward,
        tokenizer: PreTrainedTokenizerBase,
        layout: Layout,
        read: Judge,
        *,
        validity_threshold: float = 0.5,
        redundancy_threshold: float = 0.5,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        if max_tokens < 1:
            raise BadInputError(f"max_tokens must be at least 1, got {max_tokens}")
        self.forward = forward
        self.tokenizer = tokenizer
        self.layout = layout
        self.read = read
        self.validity_threshold = validity_threshold
        self.redundancy_threshold = redundancy_threshold
        self.max_tokens = max_tokens

    def score_all(
        self, solutions: Sequence[Solution], on_scored: OnScored | None = None
    ) -> list[StepScores | Unscored]:
        """See `StepScorer.score_all`."""
        readings = [self.layout(self.tokenizer, solution) for solution in checked_solutions(solutions)]
        results: list[StepScores | Unscored] = [
            Unscored(f"{len(reading.ids)} tokens, and at most {self.max_tokens} are read")
            for reading in readings
        ]
        fitting = [at for at, reading in enumerate(readings) if len(reading.ids) <= self.max_tokens]
        total = len(readings)

        def tell(done: int) -> None:
            if on_scored is not None:
                on_scored(done + total - len(fitting), total)

        outputs = self.forward(
            [readings[at] for at in fitting], [solutions[at].question for at in fitting], on_done=tell
        )
        for at, values in zip(fitting, outputs, strict=True):
            results[at] = self._checked(self.read(values, readings[at]), solutions[at])
        return results

    def _checked(self, scores: StepScores, solution: Solution) -> StepScores:
        if len(scores.validity) != len(solution.steps):
            raise BadInputError(f"{solution}: {len(solution.steps)} steps but {len(scores.validity)} scores")
        return scores


def classifier_scorer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    separator: str = "\n",
    layout: Layout | None = None,
    validity_threshold: float = 0.5,
    tokens_per_batch: int = 8192,
    share_prefix: bool = True,
    max_tokens: int = MAX_TOKENS,
) -> ModelScorer:
    """Return the scorer of a two-way token classifier (what TRL's `PRMTrainer` trains); class 1 is good."""
    forward = forward_of(model, classification_head(model), tokens_per_batch, share_prefix)
    return ModelScorer(
        forward,
        tokenizer,
        layout or SeparatedSteps(separator),
        probability_of_good,
        validity_threshold=validity_threshold,
        max_tokens=max_tokens,
    )


def log_probability_scorer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    validity_threshold: float = -1.0,
    separator: str = "\n",
    tokens_per_batch: int = 8192,
    share_prefix: bool = True,
    max_tokens: int = MAX_TOKENS,
) -> ModelScorer:
    """Return a language model as a scorer: the mean log-probability of each step's tokens, in nats."""
    forward = forward_of(model, language_head(model), tokens_per_batch, share_prefix)
    return ModelScorer(
        forward,
        tokenizer,
        Likelihoods(separator),
        mean_log_probability,
        validity_threshold=validity_threshold,
        max_tokens=max_tokens,
    )


def forward_of(
    model: PreTrainedModel, head: nn.Module, tokens_per_batch: int, share_prefix: bool
) -> StepForward:
    """Return backbone and head run apart, after checking that together they are the whole model.

    Raises:
        BadInputError: an architecture that scales or caps what its head returns; reading the head alone
            would miss that.
    """
    backbone = cast(PreTrainedModel, model.base_model)
    probe = torch.arange(4, device=model.device)[None] % vocabulary_size(backbone)
    with torch.inference_mode():
        whole = model.eval()(input_ids=probe).logits
        apart = head(backbone(input_ids=probe).last_hidden_state)
    if not torch.allclose(whole, apart, rtol=0.02, atol=0.02):
        raise BadInputError(
            f"{type(model).__name__} changes its head's outputs afterwards; it cannot be read so"
        )
    return StepForward(backbone, head, tokens_per_batch=tokens_per_batch, share_prefix=share_prefix)


def classification_head(model: PreTrainedModel) -> nn.Module:
    """Return the head of a token classifier: `score` of decoders, as transformers calls it.

    Raises:
        BadInputError: a model without one.
    """
    head = getattr(model, "score", None)
    if not isinstance(head, nn.Module):
        raise BadInputError(f"{type(model).__name__} has no head named score; it is no decoder with one")
    return head


def language_head(model: PreTrainedModel) -> nn.Module:
    """Return the output embeddings of a language model.

    Raises:
        BadInputError: a model without them.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise BadInputError(f"{type(model).__name__} has no language model head")
    return head
