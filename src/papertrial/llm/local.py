"""A chat model that runs here: any causal language model of transformers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from papertrial.errors import BadInputError
from papertrial.llm.chat import (
    ChatModelError,
    Message,
    Schema,
    TooLongError,
    Usage,
    UsageLog,
    check_messages,
    with_schema,
)


class LocalModel:
    """A causal language model from a folder, the hub, or a toy one; it answers greedily.

    Messages are put together by the tokenizer's own chat template; a tokenizer without one gets plain
    "role: text" paragraphs. A schema is said in words. The model is loaded when it is first asked.

    Args:
        source: a folder written by `save_pretrained`, a hub id, or a toy model ("tiny-llama").
        device: where it runs.
        dtype: the number format of its weights.
        max_tokens: the longest answer.
        usage: notes what each answer took.

    Raises:
        BadInputError: `max_tokens` below 1.
    """

    def __init__(
        self,
        source: str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        max_tokens: int = 2048,
        usage: UsageLog | None = None,
    ) -> None:
        if max_tokens < 1:
            raise BadInputError(f"max_tokens must be at least 1, got {max_tokens}")
        self._source, self._device, self._dtype = source, device, dtype
        self._max_tokens = max_tokens
        self._usage = usage
        self._loaded: tuple[Any, Any] | None = None

    @property
    def name(self) -> str:
        """The folder or id that the model was loaded from."""
        return self._source

    def complete(self, messages: Sequence[Message], schema: Schema | None = None) -> str:
        """Return the model's greedy answer.

        Raises:
            BadInputError: the model cannot be loaded.
            TooLongError: the messages leave no room in its context.
            ChatModelError: the answer is empty.
        """
        import torch

        check_messages(messages)
        model, tokenizer = self._pair()
        asked = [dict(one) for one in (with_schema(messages, schema) if schema is not None else messages)]
        ids = _token_ids(tokenizer, asked)
        room = self._room(model, len(ids))
        began = time.monotonic()
        prompt = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            out = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=_greedy(model, tokenizer, room),
            )
        written = out[0, len(ids) :]
        if self._usage is not None:
            self._usage.add(Usage(self.name, len(ids), len(written), time.monotonic() - began))
        text: str = tokenizer.decode(written, skip_special_tokens=True)
        if not text.strip():
            raise ChatModelError(f"{self.name} gave an empty answer")
        return text

    def _pair(self) -> tuple[Any, Any]:
        from papertrial.models import load_with_tokenizer

        if self._loaded is None:
            self._loaded = load_with_tokenizer(self._source, dtype=self._dtype, device=self._device)
        return self._loaded

    def _room(self, model: Any, length: int) -> int:
        """Return how many tokens may be written after a prompt of `length` tokens."""
        context = getattr(model.config, "max_position_embeddings", None)
        if context is None:
            return self._max_tokens
        if length >= context:
            raise TooLongError(
                f"the messages are {length} tokens and the context of {self.name} is {context}; "
                "give a shorter text or a model with a longer context"
            )
        return min(self._max_tokens, context - length)


def _token_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    if getattr(tokenizer, "chat_template", None):
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
    plain = "\n\n".join(f"{one['role']}: {one['content']}" for one in messages) + "\n\nassistant:"
    return list(tokenizer(plain)["input_ids"])


def _greedy(model: Any, tokenizer: Any, room: int) -> Any:
    """Return greedy settings of our own: a checkpoint's generation settings often sample."""
    from transformers import GenerationConfig

    ends = model.generation_config.eos_token_id
    end = ends if ends is not None else tokenizer.eos_token_id
    first = end[0] if isinstance(end, list) else end
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else first
    return GenerationConfig(do_sample=False, max_new_tokens=room, eos_token_id=end, pad_token_id=padding)
