"""What a token stands for, whatever tokenizer it is in: the text or bytes it adds, or its role."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

ROLES = ("eos", "bos", "unk", "pad")
"""The roles a special token may have, in the order in which one that has several is matched."""
WORD_MARK = "▁"  # U+2581, what SentencePiece writes for a space

Writing = Literal["byte-level", "metaspace", "wordpiece", "plain"]
"""How a tokenizer writes spaces and bytes in its vocabulary."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenForm(NamedTuple):
    """The normal form of a token, equal for tokens of two tokenizers that mean the same.

    Attributes:
        kind: "text"; "byte" for one byte that is no character by itself; "bytes" for several bytes that are
            no text; "special" for a control token.
        text: the text with real spaces, the control token's name, or the bytes in hexadecimal.
    """

    kind: Literal["text", "byte", "bytes", "special"]
    text: str

    @property
    def data(self) -> bytes:
        """The bytes of a "byte" or "bytes" form."""
        return bytes.fromhex(self.text)


def token_forms(tokenizer: PreTrainedTokenizerBase) -> list[TokenForm | None]:
    """Return the normal form of every id, from 0 to the largest; None for an id that no token has.

    Byte-level symbols are decoded (`Ġciao` is " ciao"), and so is SentencePiece's word mark (`▁ciao`).
    A byte token `<0xE9>` and a byte-level symbol that is no whole character are both a "byte"; `<0x41>` is
    a byte too, kept apart from the text "A". Added tokens are literal text, or "special".
    """
    vocabulary = tokenizer.get_vocab()
    added = tokenizer.added_tokens_decoder
    writing = writing_of(tokenizer)
    forms: list[TokenForm | None] = [None] * (max([*vocabulary.values(), *added], default=-1) + 1)
    for token, number in vocabulary.items():
        forms[number] = _form(token, writing)
    for number, literal in added.items():
        text = literal.content.replace(WORD_MARK, " ") if writing == "metaspace" else literal.content
        forms[number] = TokenForm("special", literal.content) if literal.special else TokenForm("text", text)
    return forms


def token_strings(tokenizer: PreTrainedTokenizerBase) -> list[str | None]:
    """Return every id's token as the vocabulary writes it; None for an id that no token has."""
    vocabulary = {**tokenizer.get_vocab()}
    for number, literal in tokenizer.added_tokens_decoder.items():
        vocabulary.setdefault(literal.content, number)
    strings: list[str | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for token, number in vocabulary.items():
        strings[number] = token
    return strings


def special_roles(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the id of each role (`ROLES`) that the tokenizer fills."""
    found = {role: getattr(tokenizer, f"{role}_token_id", None) for role in ROLES}
    return {role: number for role, number in found.items() if isinstance(number, int)}


def writing_of(tokenizer: PreTrainedTokenizerBase) -> Writing:
    """Return how the tokenizer writes spaces: told by a fast one's parts, guessed from a slow one's tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        warnings.warn(
            f"{type(tokenizer).__name__} is a slow tokenizer: how it writes spaces is guessed from its tokens",
            stacklevel=2,
        )
        tokens = tokenizer.get_vocab()
        marks = {mark: sum(token.startswith(mark) for token in tokens) for mark in (WORD_MARK, "Ġ", "##")}
        most = max(marks, key=marks.__getitem__)
        names: dict[str, Writing] = {WORD_MARK: "metaspace", "Ġ": "byte-level", "##": "wordpiece"}
        return names[most] if marks[most] else "plain"
    parts = [part_of(one) for one in (backend.pre_tokenizer, backend.decoder, backend.normalizer)]
    kinds = {kind for part in parts for kind in _types(part)}
    if "ByteLevel" in kinds:
        return "byte-level"
    if "Metaspace" in kinds or any(WORD_MARK in json.dumps(part, ensure_ascii=False) for part in parts):
        return "metaspace"
    return "wordpiece" if "WordPiece" in kinds else "plain"


def part_of(component: Any) -> Any:
    """Return the settings of a tokenizer's component (normalizer, pre-tokenizer, decoder) as JSON values."""
    return None if component is None else json.loads(component.__getstate__())


def _types(part: Any) -> set[str]:
    """Return every "type" that a component's settings name, however deep."""
    if isinstance(part, dict):
        here = {part["type"]} if isinstance(part.get("type"), str) else set()
        return here.union(*(_types(value) for value in part.values()))
    return set().union(*(_types(value) for value in part)) if isinstance(part, list) else set()


_BYTE_OF = {symbol: byte for byte, symbol in bytes_to_unicode().items()}


def _form(token: str, writing: Writing) -> TokenForm:
    if writing == "byte-level" and all(symbol in _BYTE_OF for symbol in token):
        return _form_of_bytes(bytes(_BYTE_OF[symbol] for symbol in token))
    if match := _BYTE_TOKEN.fullmatch(token):
        return TokenForm("byte", match[1].lower())
    if writing == "metaspace":
        return TokenForm("text", token.replace(WORD_MARK, " "))
    if writing == "wordpiece":
        return TokenForm("text", token[2:] if token.startswith("##") else f" {token}")
    return TokenForm("text", token)


def _form_of_bytes(data: bytes) -> TokenForm:
    try:
        return TokenForm("text", data.decode())
    except UnicodeDecodeError:
        return TokenForm("byte" if len(data) == 1 else "bytes", data.hex())
