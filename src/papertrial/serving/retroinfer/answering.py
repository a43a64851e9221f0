"""Asking a model about a long context through one cache or another, and scoring what it answers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache

from papertrial.data.long_tasks import MAKERS, LongTask, load_tasks, make_task, score
from papertrial.data.token_tasks import TokenTasks
from papertrial.serving.caches import growing_cache
from papertrial.serving.registration import use_serving_attention
from papertrial.serving.retroinfer.cache import RetroCache, attach
from papertrial.serving.retroinfer.sizes import IndexSettings

Told = Callable[[int, int, float], None]


def cache_for(model: PreTrainedModel, settings: IndexSettings | None) -> Cache:
    """Return a fresh cache: wave indexes with `settings`, or the fair dense one where None."""
    if settings is not None:
        return attach(model, settings)
    use_serving_attention(model)
    return growing_cache(model.config)


def ask_tokens(
    model: PreTrainedModel, tasks: TokenTasks, settings: IndexSettings | None, told: Told
) -> dict[str, float]:
    """Ask all questions of a batch of contexts, one decode step each; `told` hears the accuracy so far.

    Returns the share of right answers in per cent and what the steps touched.
    """
    cache = cache_for(model, settings)
    right: list[float] = []
    questions = tasks.questions.shape[1]
    with torch.no_grad():
        model(tasks.context.to(model.device), past_key_values=cache, logits_to_keep=1)
        for number in range(questions):
            asked = tasks.questions[:, number : number + 1].to(model.device)
            answers = model(asked, past_key_values=cache).logits[:, -1].argmax(-1).cpu()
            right.append(100 * float((answers == tasks.answers[:, number]).float().mean()))
            told(number + 1, questions, fmean(right))
    return {"accuracy": fmean(right), **touched([cache])}


def ask_text(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[LongTask],
    settings: IndexSettings | None,
    max_new_tokens: int,
    told: Told,
) -> dict[str, float]:
    """Let a model answer text tasks greedily, each with a fresh cache; returns what `ask_tokens` does."""
    scores, caches = [], []
    for number, task in enumerate(tasks):
        inputs = tokenizer(task.input, return_tensors="pt").to(model.device)
        cache = cache_for(model, settings)
        with torch.no_grad():
            out = cast(Any, model).generate(
                **inputs, past_key_values=cache, max_new_tokens=max_new_tokens, do_sample=False
            )
        answer = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        scores.append(100 * score(str(answer), task.outputs))
        caches.append(cache)
        told(number + 1, len(tasks), fmean(scores))
    return {"accuracy": fmean(scores), **touched(caches)}


def text_tasks(
    data: str, number: int, length: int, tokenizer: PreTrainedTokenizerBase, seed: int
) -> list[LongTask]:
    """Return `number` tasks for one seed: made ones are new for every seed, a file's are drawn from it."""
    if data not in MAKERS:
        tasks = load_tasks(Path(data))
        return random.Random(seed).sample(tasks, min(number, len(tasks)))

    def count(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    return [make_task(data, length, seed * number + i, count) for i in range(number)]


def touched(caches: Sequence[Cache]) -> dict[str, float]:
    """Return the share of the clusters that a step touches and how many there are; NaN for dense caches."""
    stats = [cache.stats for cache in caches if isinstance(cache, RetroCache)]
    if not stats:
        return {"clusters_touched": math.nan, "clusters": math.nan}
    return {
        "clusters_touched": 100 * fmean(one.touched for one in stats),
        "clusters": fmean(fmean(one.clusters) for one in stats),
    }
