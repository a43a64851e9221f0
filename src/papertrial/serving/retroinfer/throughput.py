"""Decoding throughput by batch size: each batch by itself, and the best one that fits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch
from transformers import PreTrainedModel

from papertrial.serving.caches import GrowingLayer
from papertrial.serving.retroinfer.answering import cache_for
from papertrial.serving.retroinfer.sizes import IndexSettings
from papertrial.serving.retroinfer.synthetic import make_layer


def tokens_per_second(
    model: PreTrainedModel,
    settings: IndexSettings | None,
    batch: int,
    context: int,
    new_tokens: int,
    seed: int,
) -> float:
    """Return new tokens a second over all sequences, decoding after `context` made-up tokens in every layer.

    The prompt is not computed: every full-attention layer's cache is filled with the same made keys and
    values, as the time of a step does not depend on which they are. The first step builds the indexes and is
    not counted.
    Zero where the batch does not fit into the device's memory.
    """
    try:
        return batch / median(_step_seconds(model, settings, batch, context, new_tokens, seed))
    except torch.OutOfMemoryError:
        return 0.0


def by_batch(
    model: PreTrainedModel,
    settings: IndexSettings | None,
    batches: Sequence[int],
    context: int,
    new_tokens: int,
    seed: int,
) -> dict[int, float]:
    """Return the throughput of every batch size, smallest first, up to the first that does not fit."""
    found: dict[int, float] = {}
    for batch in sorted(batches):
        speed = tokens_per_second(model, settings, batch, context, new_tokens, seed)
        if not speed:
            break
        found[batch] = speed
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
    return found


def _step_seconds(
    model: PreTrainedModel,
    settings: IndexSettings | None,
    batch: int,
    context: int,
    new_tokens: int,
    seed: int,
) -> list[float]:
    cache = cache_for(model, settings)
    config = model.config.get_text_config(decoder=True)
    heads, dim = config.num_key_value_heads, model_head_dim(model)
    made = make_layer("structured", context, 1, seed, heads, 1, dim)
    keys, values = (
        t.to(model.device, model.dtype).expand(batch, -1, -1, -1) for t in (made.keys, made.values)
    )
    for layer in cache.layers:
        if isinstance(layer, GrowingLayer):
            layer.fill(keys, values)
    tokens = torch.zeros(batch, 1, dtype=torch.long, device=model.device)
    seconds = []
    with torch.no_grad():
        for _ in range(new_tokens + 1):
            _wait(model)
            start = time.perf_counter()
            model(tokens, past_key_values=cache)
            _wait(model)
            seconds.append(time.perf_counter() - start)
    return seconds[1:]


def model_head_dim(model: PreTrainedModel) -> int:
    """Return the dimensions of one attention head."""
    config = model.config.get_text_config(decoder=True)
    given = getattr(config, "head_dim", None)
    return int(given or config.hidden_size // config.num_attention_heads)


def _wait(model: PreTrainedModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
