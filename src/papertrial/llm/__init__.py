"""Chat models behind one protocol: any OpenAI-compatible endpoint, a local model, recorded answers."""

from __future__ import annotations

from papertrial.llm.asking import complete_json, find_json, schema_problem
from papertrial.llm.chat import (
    ChatModel,
    ChatModelError,
    InvalidAnswerError,
    Message,
    TooLongError,
    Usage,
    UsageLog,
)
from papertrial.llm.endpoint import Endpoint
from papertrial.llm.local import LocalModel
from papertrial.llm.opening import open_chat_model
from papertrial.llm.recorded import Cached, Recorded, Scripted

__all__ = [
    "Cached",
    "ChatModel",
    "ChatModelError",
    "Endpoint",
    "InvalidAnswerError",
    "LocalModel",
    "Message",
    "Recorded",
    "Scripted",
    "TooLongError",
    "Usage",
    "UsageLog",
    "complete_json",
    "find_json",
    "open_chat_model",
    "schema_problem",
]
