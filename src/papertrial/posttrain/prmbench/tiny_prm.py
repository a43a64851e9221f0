"""Training a process reward model of toy size, on labels of either kind.

Source of the two kinds of labels: arXiv 2305.20050 (PRM800K) labels up to the first error; arXiv 2312.08935
(Math-Shepherd) labels every step. The targets lie where TRL's `PRMTrainer` puts them: on the last token of
step and separator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.errors import BadInputError, unknown
from papertrial.models import load_causal_lm, load_token_classifier, seeded
from papertrial.posttrain.prmbench.procedural import SEPARATOR
from papertrial.posttrain.prmbench.rows import Item
from papertrial.posttrain.step_layouts import Layout, Likelihoods, SeparatedSteps
from papertrial.posttrain.steps import Solution
from papertrial.training import TrainingHistory, train

Regime = Literal["first-error", "all-steps"]
REGIMES: tuple[Regime, ...] = ("first-error", "all-steps")
LAYOUT = SeparatedSteps(SEPARATOR)
IGNORED = -100
# Attention that starts far from uniform finds what repeats within a few hundred steps; at transformers'
# 0.02 it does not.
SIZES: Mapping[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "initializer_range": 0.08,
}


def step_targets(steps: int, errors: Sequence[int], regime: str) -> list[int]:
    """Return 1 for a good step, 0 for a wrong one, −100 for a step that has no label.

    Args:
        steps: how many.
        errors: 1-based places of the wrong ones.
        regime: "all-steps" labels each; "first-error" none after the first wrong one.

    Raises:
        BadInputError: another regime, or an error outside the solution.
    """
    if regime not in REGIMES:
        raise unknown("label regime", regime, REGIMES)
    if any(not 1 <= place <= steps for place in errors):
        raise BadInputError(f"errors must lie between 1 and {steps}, got {list(errors)}")
    targets = [int(place not in errors) for place in range(1, steps + 1)]
    if regime == "first-error" and errors:
        first = min(errors)
        targets[first:] = [IGNORED] * (steps - first)
    return targets


def classifier_examples(
    items: Sequence[Item], tokenizer: PreTrainedTokenizerBase, regime: str, layout: Layout = LAYOUT
) -> list[dict[str, list[int]]]:
    """Return token ids and labels of every item, labels at the places that the layout reads."""
    examples = []
    for item in items:
        reading = layout(tokenizer, item.solution())
        labels = [IGNORED] * len(reading.ids)
        targets = step_targets(len(item.steps), item.errors, regime)
        for place, step in zip(reading.read_at, reading.step_of, strict=True):
            labels[place] = targets[step]
        examples.append({"input_ids": list(reading.ids), "labels": labels})
    return examples


def language_examples(
    texts: Sequence[tuple[str, list[str]]], tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, list[int]]]:
    """Return token ids and labels for predicting every token of the steps (not of the question)."""
    examples = []
    for question, steps in texts:
        reading = Likelihoods(SEPARATOR)(tokenizer, Solution(question, tuple(steps)))
        begun = reading.read_at[0] + 1
        examples.append(
            {"input_ids": list(reading.ids), "labels": [IGNORED] * begun + list(reading.ids[begun:])}
        )
    return examples


def padded_batches(
    examples: Sequence[dict[str, list[int]]], batch_size: int, seed: int
) -> Iterator[dict[str, Int[Tensor, "batch length"]]]:
    """Yield batches without end, every example once before any comes again, those of like length together.

    Raises:
        BadInputError: no examples, or a batch size below 1.
    """
    if not examples or batch_size < 1:
        raise BadInputError(
            f"batches need examples and a size of at least 1, got {len(examples)}, {batch_size}"
        )
    rng = np.random.default_rng(seed)
    lengths = np.array([len(one["input_ids"]) for one in examples])
    while True:
        # Sorting with a random share keeps batches nearly even and yet different in every epoch.
        order = np.argsort(lengths + 4 * rng.random(len(lengths)), kind="stable")
        parts = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        for number in rng.permutation(len(parts)):
            yield _collate([examples[int(at)] for at in parts[number]])


def tiny_language_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Return an untrained Qwen2 language model of toy size for the tokenizer's vocabulary."""
    return load_causal_lm("tiny-qwen2", vocab_size=len(tokenizer), seed=seed, **SIZES)


def tiny_classifier(tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Return an untrained two-way Qwen2 token classifier of toy size for the tokenizer's vocabulary."""
    return load_token_classifier("tiny-qwen2", 2, vocab_size=len(tokenizer), seed=seed, **SIZES)


def train_steps(
    model: PreTrainedModel,
    examples: Sequence[dict[str, list[int]]],
    *,
    steps: int,
    seed: int,
    lr: float,
    batch_size: int,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> TrainingHistory:
    """Train a model on examples with AdamW, in place, and return what happened.

    Raises:
        BadInputError: no examples, or a size out of range.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    with seeded(seed):  # a token classifier drops some of what its head reads
        history = train(
            model,
            padded_batches(examples, batch_size, seed),
            optimizer,
            steps=steps,
            clip=1.0,
            on_step=on_step,
        )
    model.eval()
    return history


def _collate(examples: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    width = max(len(one["input_ids"]) for one in examples)

    def rows(name: str, filler: int) -> Tensor:
        return torch.tensor([one[name] + [filler] * (width - len(one[name])) for one in examples])

    lengths = torch.tensor([len(one["input_ids"]) for one in examples])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return {"input_ids": rows("input_ids", 0), "attention_mask": mask, "labels": rows("labels", IGNORED)}
