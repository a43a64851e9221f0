"""From what a user types after `--model` to a chat model."""

from __future__ import annotations

from pathlib import Path

from papertrial.errors import BadInputError
from papertrial.home import home
from papertrial.llm.chat import ChatModel, UsageLog
from papertrial.llm.endpoint import Endpoint
from papertrial.llm.local import LocalModel
from papertrial.llm.recorded import Cached, Recorded


def open_chat_model(
    where: str,
    *,
    model: str | None = None,
    key: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    max_tokens: int = 2048,
    timeout: float = 120.0,
    cache: bool = True,
    usage: UsageLog | None = None,
) -> ChatModel:
    """Return the chat model that a user means by one word.

    Args:
        where: an endpoint's address ("http://localhost:8000/v1", or "…/v1#model-name"), a file of recorded
            answers ("….jsonl"), a model's folder, a hub id, or a toy model ("tiny-llama").
        model: which of an endpoint's models; None: the one after "#", or the only one that it serves.
        key: the name of the environment variable that holds the endpoint's key, never the key itself.
        device: where a local model runs.
        dtype: the number format of a local model's weights.
        max_tokens: the longest answer.
        timeout: seconds an endpoint may take.
        cache: whether answers are kept in `<home>/llm/answers` and not asked for twice.
        usage: notes what each answer took.

    Raises:
        BadInputError: there is no such model, or what was given does not go together.
    """
    if where.startswith(("http://", "https://")):
        address, _, named = where.partition("#")
        opened: ChatModel = Endpoint(
            address, model or named or None, key=key, max_tokens=max_tokens, timeout=timeout, usage=usage
        )
    elif model is not None or key is not None:
        raise BadInputError(f"model and key go with an endpoint's address, and {where!r} is none")
    elif where.endswith(".jsonl"):
        return Recorded(where)
    elif Path(where).expanduser().is_file():
        raise BadInputError(
            f"{where!r} is a file; a chat model is an address, a folder, a hub id or a .jsonl"
        )
    else:
        opened = LocalModel(where, device=device, dtype=dtype, max_tokens=max_tokens, usage=usage)
    return Cached(opened, home() / "llm" / "answers", usage) if cache else opened
