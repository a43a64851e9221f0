"""What a chat model is, what can go wrong with one, and what it has used."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from papertrial.errors import BadInputError, PapertrialError

Message = Mapping[str, str]
"""One turn: `role` ("system", "user" or "assistant") and `content`."""

Schema = Mapping[str, Any]
"""A JSON schema."""

_ROLES = ("system", "user", "assistant")


class ChatModelError(PapertrialError):
    """A model that was rightly asked gave no usable answer: it timed out, refused, or was overloaded."""


class InvalidAnswerError(ChatModelError):
    """A model's answer is not the JSON that was asked for, and repairing it failed."""


class TooLongError(ChatModelError):
    """The messages do not fit into the model's context; shorter ones may."""


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers a conversation."""

    @property
    def name(self) -> str:
        """Which model answers, as it is named beside what it wrote."""

    def complete(self, messages: Sequence[Message], schema: Schema | None = None) -> str:
        """Return the model's answer to `messages`; where a `schema` is given, JSON that should fit it.

        Raises:
            BadInputError: no request can work as it is set up (key, address, the model's name).
            TooLongError: the messages do not fit into the model's context.
            ChatModelError: the model gave no answer.
        """


@dataclass(frozen=True)
class Usage:
    """What one answer took.

    Attributes:
        model: the model's name.
        tokens_in, tokens_out: tokens read and written; None where the server does not say.
        seconds: how long it took.
        cached: whether the answer came from disk, at no cost.
    """

    model: str
    tokens_in: int | None
    tokens_out: int | None
    seconds: float
    cached: bool = False


@dataclass
class UsageLog:
    """What was used, in order; also kept as JSON lines where a `path` is given. Safe in threads."""

    path: Path | None = None
    entries: list[Usage] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, usage: Usage) -> None:
        """Note one answer.

        Raises:
            BadInputError: the log's file cannot be written.
        """
        with self._lock:
            self.entries.append(usage)
            if self.path is not None:
                try:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    with self.path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(usage)) + "\n")
                except OSError as problem:
                    raise BadInputError(f"cannot write the usage log {self.path}: {problem}") from problem

    @property
    def tokens_in(self) -> int:
        """Tokens read by models in all, as far as servers said."""
        return sum(one.tokens_in or 0 for one in self.entries if not one.cached)

    @property
    def tokens_out(self) -> int:
        """Tokens written by models in all, as far as servers said."""
        return sum(one.tokens_out or 0 for one in self.entries if not one.cached)

    def cost(self, dollars_in: float, dollars_out: float) -> float:
        """Return the price in dollars, given the prices of a million tokens read and written."""
        return (self.tokens_in * dollars_in + self.tokens_out * dollars_out) / 1e6


def check_messages(messages: Sequence[Message]) -> None:
    """Check that a conversation can be asked.

    Raises:
        BadInputError: there are no messages, or one lacks a known role or text.
    """
    if not messages:
        raise BadInputError("messages must hold at least one message, got none")
    for message in messages:
        if message.get("role") not in _ROLES or not isinstance(message.get("content"), str):
            raise BadInputError(
                f"a message needs a role ({', '.join(_ROLES)}) and a content, got {str(dict(message))[:80]}"
            )


def request_key(model: str, messages: Sequence[Message], schema: Schema | None) -> str:
    """Return the name under which the answer to one request is kept: a hash of all that decides it."""
    request = {"model": model, "messages": [dict(one) for one in messages], "schema": schema}
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def with_schema(messages: Sequence[Message], schema: Schema) -> list[dict[str, str]]:
    """Return the messages with the schema said in words, for models that cannot be held to one."""
    said = (
        "Answer with one JSON value and nothing else. It must fit this JSON schema:\n"
        f"{json.dumps(schema, ensure_ascii=False)}"
    )
    copied = [dict(one) for one in messages]
    for message in copied:
        if message["role"] == "system":
            message["content"] = f"{message['content']}\n\n{said}"
            return copied
    return [{"role": "system", "content": said}, *copied]
