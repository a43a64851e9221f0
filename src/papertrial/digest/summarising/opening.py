"""From what a user types after `--model` to whoever writes the summaries."""

from __future__ import annotations

from pathlib import Path

from papertrial.digest.summarising.entries import Backend
from papertrial.digest.summarising.extractive import NAME
from papertrial.digest.summarising.seq2seq import Seq2SeqSummariser
from papertrial.errors import BadInputError
from papertrial.hub import hub_errors
from papertrial.llm import UsageLog, open_chat_model


def open_backend(
    where: str | None,
    *,
    model: str | None = None,
    key: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    cache: bool = True,
    usage: UsageLog | None = None,
) -> Backend:
    """Return whoever writes summaries: nobody, a summarising model, or a chat model.

    Args:
        where: None or "extractive" for the paper's own sentences; the folder or hub id of an encoder-decoder
            ("facebook/bart-large-cnn") for a summarising model; anything else as `open_chat_model`.
        model: which of an endpoint's models.
        key: the name of the environment variable that holds an endpoint's key.
        device: where a model that runs here runs.
        dtype: the number format of its weights.
        cache: whether a chat model's answers are kept.
        usage: notes what each answer took.

    Raises:
        BadInputError: as `open_chat_model`.
    """
    if where is None or where == NAME:
        return None
    if model is None and key is None and is_encoder_decoder(where):
        return Seq2SeqSummariser(where, device=device, dtype=dtype)
    return open_chat_model(where, model=model, key=key, device=device, dtype=dtype, cache=cache, usage=usage)


def is_encoder_decoder(where: str) -> bool:
    """Return whether a folder or hub id holds an encoder-decoder, which cannot chat.

    An address, a file, a toy model, and whatever has no configuration that can be read, is none.
    """
    path = Path(where).expanduser()
    if "://" in where or where.startswith("tiny-") or path.is_file() or where.endswith(".jsonl"):
        return False
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(path) if path.is_dir() else where, trust_remote_code=False)
    except hub_errors(BadInputError, ValueError, KeyError):
        return False  # what is wrong with it is said by whoever loads it
    return bool(getattr(config, "is_encoder_decoder", False))
