"""Speed of generation in characters: what a user waits for, whatever the tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.efficient.evaluation.forward import check_at_least, evaluating
from papertrial.efficient.evaluation.likelihood import encode, prefix_token
from papertrial.errors import BadInputError


@dataclass(frozen=True)
class GenerationSpeed:
    """How fast a model writes.

    Attributes:
        tokens_per_second: new tokens, one sequence at a time.
        characters_per_token: of the reference text under the model's tokenizer.
    """

    tokens_per_second: float
    characters_per_token: float

    @property
    def characters_per_second(self) -> float:
        """Characters of such text that the model writes in a second."""
        return self.tokens_per_second * self.characters_per_token


def generation_speed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[str],
    *,
    new_tokens: int = 64,
    prompt_tokens: int = 16,
) -> GenerationSpeed:
    """Time greedy decoding after the beginning of each document.

    Exactly `new_tokens` are made each time, end of text or not, and turned into characters by what the
    documents themselves need: a poor model's own output would flatter or hurt its tokenizer.

    Raises:
        BadInputError: no documents, or counts below 1.
    """
    check_at_least(1, new_tokens=new_tokens, prompt_tokens=prompt_tokens)
    encoded = [encode(tokenizer, document) for document in documents]
    tokens = sum(map(len, encoded))
    if tokens == 0:
        raise BadInputError(f"the {len(documents)} documents hold no text")
    prompts = [[prefix_token(tokenizer), *ids[:prompt_tokens]] for ids in encoded]
    seconds = 0.0
    with evaluating(model):
        _decode(model, prompts[0], 2)  # buffers and threads are made here, not in the timed calls
        for prompt in prompts:
            start = time.perf_counter()
            _decode(model, prompt, new_tokens)
            seconds += time.perf_counter() - start
    characters = sum(map(len, documents))
    return GenerationSpeed(new_tokens * len(prompts) / seconds, characters / tokens)


def _decode(model: PreTrainedModel, prompt: list[int], new_tokens: int) -> None:
    ids = torch.tensor([prompt], device=model.device)
    writer: Any = model  # transformers wraps `generate` in a way that hides its types
    writer.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        min_new_tokens=new_tokens,
        max_new_tokens=new_tokens,
        pad_token_id=model.generation_config.pad_token_id or 0,
    )
    if ids.is_cuda:
        torch.cuda.synchronize(ids.device)
