"""Preference optimisation in stages: M0 → M1 → M2, each by DPO or SimPO, each held to the model it began with.

Source: arXiv 2412.04862, figure 2. Which algorithm serves in which stage is not disclosed there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from papertrial.efficient.exaone_3_5.pairs import PreferencePair
from papertrial.errors import BadInputError, unknown
from papertrial.preference import (
    completion_log_probabilities,
    dpo_loss,
    mean_log_probability,
    sequence_log_probability,
    simpo_loss,
)
from papertrial.training import TrainingHistory, train

Algorithm = Literal["dpo", "simpo"]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        algorithm: "dpo" (the reference is the model that enters the stage) or "simpo" (none).
        steps: updates.
        lr: peak learning rate; 5e-7 is customary at 7B.
        batch: pairs an update.
        beta: 0.1 for DPO and 2.0 for SimPO, if None.
        gamma: margin of SimPO.
    """

    algorithm: str = "dpo"
    steps: int = 100
    lr: float = 1e-4
    batch: int = 32
    beta: float | None = None
    gamma: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no stage could be."""
        if self.algorithm not in get_args(Algorithm):
            raise unknown("preference algorithm", self.algorithm, get_args(Algorithm))
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise BadInputError(f"lr must be above 0, got {self.lr}")

    @property
    def strength(self) -> float:
        """β, as given or as usual."""
        return self.beta if self.beta is not None else {"dpo": 0.1, "simpo": 2.0}[self.algorithm]


@dataclass(frozen=True)
class EncodedPairs:
    """Prompts with completions as padded token ids; row i of chosen and of rejected are one pair.

    Attributes:
        chosen: ids (pairs, length), padded on the right.
        chosen_completion: which of them belong to the completion.
        rejected: the same of the rejected completions.
        rejected_completion: which of them belong to the completion.
    """

    chosen: Int64[Tensor, "pairs chosen_length"]
    chosen_completion: Bool[Tensor, "pairs chosen_length"]
    rejected: Int64[Tensor, "pairs rejected_length"]
    rejected_completion: Bool[Tensor, "pairs rejected_length"]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.chosen)


def encode_pairs(
    pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> EncodedPairs:
    """Turn pairs into ids: prompt, then completion and end of text, which count.

    Args:
        pairs: texts; a chat's prompt is already in the model's own form.
        tokenizer: with an end-of-text token.
        max_length: refuse longer ones. A completion is never cut: a cut one would be learned as whole.

    Raises:
        BadInputError: no pair, no end-of-text token, an empty prompt, or a pair that is too long.
    """
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise BadInputError(
            f"the tokenizer {type(tokenizer).__name__} has no end-of-text token; set eos_token"
        )
    if not pairs:
        raise BadInputError("there are no preference pairs")
    prompts = [tokenizer.encode(pair.prompt, add_special_tokens=False) for pair in pairs]
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise BadInputError(
                f"pair {number} has an empty prompt, so nothing predicts its completion's start"
            )
    sides = []
    for side in ("chosen", "rejected"):
        texts = [tokenizer.encode(getattr(pair, side), add_special_tokens=False) for pair in pairs]
        rows = [[*prompt, *text, end] for prompt, text in zip(prompts, texts, strict=True)]
        longest = max(len(row) for row in rows)
        if max_length is not None and longest > max_length:
            raise BadInputError(
                f"a {side} completion with its prompt has {longest} tokens, the most is {max_length}"
            )
        sides += [*pad_completions(rows, [len(prompt) for prompt in prompts], end)]
    return EncodedPairs(*sides)


def pad_completions(
    rows: Sequence[Sequence[int]], prompt_lengths: Sequence[int], padding: int
) -> tuple[Int64[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    """Return rows of ids padded on the right, and which ids belong to the completion."""
    length = max(len(row) for row in rows)
    tokens = torch.full((len(rows), length), padding, dtype=torch.int64)
    completion = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, (row, start) in enumerate(zip(rows, prompt_lengths, strict=True)):
        tokens[number, : len(row)] = torch.tensor(row)
        completion[number, start : len(row)] = True
    return tokens, completion


def log_probabilities(
    model: nn.Module, tokens: Int64[Tensor, "rows length"], completion: Bool[Tensor, "rows length"]
) -> Float[Tensor, "rows length"]:
    """Return the model's log-probability of every completion token.

    Rows are padded on the right, where causal attention never looks from a token that counts: no mask is
    needed, and position ids run from 0.
    """
    device = next(model.parameters()).device
    logits = model(input_ids=tokens.to(device), use_cache=False).logits
    return completion_log_probabilities(logits, tokens.to(device), completion.to(device))


def reference_log_probabilities(
    model: nn.Module, pairs: EncodedPairs, batch: int = 64
) -> Float[Tensor, "pairs two"]:
    """Return the log-probabilities of all chosen (column 0) and rejected (column 1) completions, without gradient.

    Taken once before a stage: the reference then needs no second copy of the weights.
    """
    was_training = model.training
    model.eval()
    columns = []
    try:
        with torch.no_grad():
            for tokens, completion in (
                (pairs.chosen, pairs.chosen_completion),
                (pairs.rejected, pairs.rejected_completion),
            ):
                parts = [
                    sequence_log_probability(
                        log_probabilities(model, a, b), b.to(next(model.parameters()).device)
                    )
                    for a, b in zip(tokens.split(batch), completion.split(batch), strict=True)
                ]
                columns.append(torch.cat(parts).cpu())
    finally:
        model.train(was_training)
    return torch.stack(columns, dim=1)


def stage_loss(model: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> Float[Tensor, ""]:
    """Return the mean loss of a batch of pairs.

    Args:
        model: the policy.
        batch: `chosen`, `chosen_completion`, `rejected`, `rejected_completion` and, for DPO, `reference`
            (pairs, 2), the entering model's log-probabilities.
        stage: algorithm and strength.
    """
    chosen, rejected = (
        (log_probabilities(model, batch[side], batch[f"{side}_completion"]), batch[f"{side}_completion"])
        for side in ("chosen", "rejected")
    )
    if stage.algorithm == "dpo":
        sums = [sequence_log_probability(*side) for side in (chosen, rejected)]
        return dpo_loss(*sums, *batch["reference"].to(sums[0]).unbind(1), beta=stage.strength).mean()
    means = [mean_log_probability(*side) for side in (chosen, rejected)]
    return simpo_loss(*means, beta=stage.strength, gamma=stage.gamma).mean()


def run_stage(
    model: nn.Module,
    pairs: EncodedPairs,
    stage: Stage,
    *,
    seed: int = 0,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> TrainingHistory:
    """Take a model through one stage, in place, with AdamW, a linear warm-up and no decay.

    Works with any causal language model. For DPO the reference is `model` as it is now.
    """
    reference = reference_log_probabilities(model, pairs) if stage.algorithm == "dpo" else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.lr, weight_decay=0.0)
    return train(
        model,
        _batches(pairs, reference, stage.batch, seed),
        optimizer,
        steps=stage.steps,
        schedule="constant",
        clip=1.0,
        loss=lambda policy, batch: stage_loss(policy, batch, stage),
        on_step=on_step,
    )


def run_stages(
    model: nn.Module,
    stages: Sequence[Stage],
    pairs: EncodedPairs | Callable[[nn.Module, int], EncodedPairs],
    *,
    seed: int = 0,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> list[TrainingHistory]:
    """Take a model through stages one after the other: M0 → M1 → M2, in place.

    Args:
        model: M0, after supervised fine-tuning.
        stages: at least one. Each has its own optimiser and, for DPO, its own reference.
        pairs: the same for all stages, or a function of the entering model and the stage's number that makes
            fresh ones.
        seed: of the order of pairs.
        on_step: called with the step counted over all stages, and its values.

    Raises:
        BadInputError: no stage. A stage that diverges is the last that is run.
    """
    if not stages:
        raise BadInputError("at least one stage is needed")
    histories: list[TrainingHistory] = []
    for number, stage in enumerate(stages):
        given = pairs if isinstance(pairs, EncodedPairs) else pairs(model, number)
        before = sum(one.steps for one in stages[:number])
        report = None if on_step is None else _shifted(on_step, before)
        histories.append(run_stage(model, given, stage, seed=seed + number, on_step=report))
        if histories[-1].diverged_at is not None:
            return histories
    return histories


def frozen_copy(model: nn.Module) -> nn.Module:
    """Return a copy that does not train: a stage's entering model, to measure a distance to."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def _shifted(
    on_step: Callable[[int, Mapping[str, float]], None], before: int
) -> Callable[[int, Mapping[str, float]], None]:
    return lambda step, values: on_step(before + step, values)


def _batches(pairs: EncodedPairs, reference: Tensor | None, size: int, seed: int) -> Iterator[dict[str, Any]]:
    """Give batches for ever: all pairs in a new order each round, cut to the longest row of the batch."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.empty(0, dtype=torch.int64)
    while True:
        while len(rows) < size:
            rows = torch.cat([rows, torch.randperm(len(pairs), generator=generator)])
        taken, rows = rows[:size], rows[size:]
        batch = {}
        for side in ("chosen", "rejected"):
            completion = getattr(pairs, f"{side}_completion")[taken]
            length = int(completion.any(0).nonzero().max()) + 1
            batch[side] = getattr(pairs, side)[taken][:, :length]
            batch[f"{side}_completion"] = completion[:, :length]
        if reference is not None:
            batch["reference"] = reference[taken]
        yield batch
