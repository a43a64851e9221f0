"""The model of the `model` trial: a Qwen2 of two layers, trained in place to recall keys from its context."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from papertrial.data.token_tasks import TokenTasks, TokenVocabulary, recall
from papertrial.models import load_causal_lm, trained_base
from papertrial.training import train

RECALL_MODEL = "tiny-qwen2"
VOCABULARY = TokenVocabulary(keys=24, values=8, fillers=32)
QUESTIONS = 48
WEIGHTS = "weights.safetensors"
# Tokens of a training batch: as few as learning takes, so that a core trains in some ten seconds.
TOKENS_PER_BATCH = 1500


def recall_model(seed: int, context: int) -> PreTrainedModel:
    """Return the model before training: two layers, four heads on two key-value heads, for `context` tokens.

    With a rotary base of a million most of a head hardly turns over the context, so that it can match by
    content alone; weights drawn wide let attention begin to choose early.
    """
    return load_causal_lm(
        RECALL_MODEL,
        vocab_size=VOCABULARY.size,
        seed=seed,
        hidden_size=64,
        intermediate_size=128,
        initializer_range=0.15,
        max_position_embeddings=max(4096, 2 * context),
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )


def train_recall(seed: int, context: int, phrase: int, steps: int) -> PreTrainedModel:
    """Train the model to recall, on contexts that grow to `context` tokens.

    All questions of a context are asked in one row, and only they count.
    """
    model = recall_model(seed, context)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, betas=(0.9, 0.98), weight_decay=0.0)
    batches = recall_batches(context, phrase, steps, torch.Generator().manual_seed(seed))
    train(model, batches, optimizer, steps=steps, warmup=0.05, final=0.05, clip=1.0, loss=recall_loss)
    return model


def trained_weights(seed: int, context: int, phrase: int, steps: int) -> Path:
    """Return the file of the trained weights, training where this machine has not done so before."""
    recipe = {
        "what": "retroinfer recall",
        "version": 1,
        "seed": seed,
        "context": context,
        "phrase": phrase,
        "steps": steps,
    }

    def build(folder: Path) -> None:
        save_file(train_recall(seed, context, phrase, steps).state_dict(), folder / WEIGHTS)

    return trained_base(recipe, build) / WEIGHTS


def load_recall(weights: Path, seed: int, context: int) -> PreTrainedModel:
    """Return the trained model, ready to be asked."""
    model = recall_model(seed, context)
    model.load_state_dict(load_file(weights))
    return model.eval()


def fresh_tasks(seed: int, contexts: int, context: int, questions: int, phrase: int) -> TokenTasks:
    """Return contexts and questions that no training has seen, the same for every arm."""
    generator = torch.Generator().manual_seed(10_000 + seed)
    return recall(VOCABULARY, contexts, context, questions, generator, phrase)


def recall_batches(
    context: int, phrase: int, steps: int, generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    """Yield half the batches with bare keys in short contexts, then phrases in ever longer ones.

    About as many tokens in each: short rows bring more questions, and the choice by content is learned there.
    """
    shortest = min(context, 2 * VOCABULARY.keys * phrase)
    for step in range(steps):
        if step < steps // 2:
            tokens, said = 2 * VOCABULARY.keys, 1
        else:
            grown = min(1.0, (step / steps - 0.5) / 0.25)
            tokens, said = round(shortest * (context / shortest) ** grown), phrase
        batch = max(1, TOKENS_PER_BATCH // (tokens + QUESTIONS))
        tasks = recall(VOCABULARY, batch, tokens, QUESTIONS, generator, said)
        yield {"context": tasks.context, "questions": tasks.questions, "answers": tasks.answers}


def recall_loss(model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the cross-entropy of the answers, each predicted at its question."""
    tokens = torch.cat([batch["context"], batch["questions"]], dim=1)
    kept = batch["questions"].shape[1]
    logits = model(tokens, use_cache=False, logits_to_keep=kept).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["answers"].flatten())
