"""A tokenizer that keeps the source's tokens and adds the target's: the union strategy."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from papertrial.efficient.vocabulary_adaptation.canonical import writing_of
from papertrial.errors import BadInputError


def union_tokenizer(
    source: PreTrainedTokenizerBase, target: PreTrainedTokenizerBase
) -> PreTrainedTokenizerFast:
    """Return a BPE tokenizer with every token of `source` at its old id, and the target's new ones after them.

    The target's merges come first, so that its words are cut as it cuts them; the source's follow, and reach
    what the target never merges. Text is split into words as the target splits it. Special tokens and what is
    put around a text are the source's; control tokens that only the target has are added.

    Raises:
        BadInputError: a slow tokenizer, one that is no BPE, or two that write spaces in different ways.
    """
    settings = [_settings(one, name) for one, name in ((source, "source"), (target, "target"))]
    writings = writing_of(source), writing_of(target)
    if writings[0] != writings[1]:
        raise BadInputError(
            f"a union needs tokenizers that write spaces alike; the source is {writings[0]}, "
            f"the target {writings[1]}: replace the vocabulary instead"
        )
    old, new = settings
    vocabulary = dict(old["model"]["vocab"])
    added = {token["content"]: token for token in old["added_tokens"]}
    taken = {*vocabulary, *added}
    following = max([*vocabulary.values(), *(token["id"] for token in old["added_tokens"])]) + 1
    more = []
    extra = {token["content"]: token for token in new["added_tokens"]}
    for token, _ in sorted(new["model"]["vocab"].items(), key=lambda pair: pair[1]):
        if token not in taken and token not in extra:
            vocabulary[token] = following
            following += 1
    for content, token in extra.items():
        if content not in taken:
            more.append({**token, "id": following})
            following += 1
    merges = dict.fromkeys([*map(tuple, new["model"]["merges"]), *map(tuple, old["model"]["merges"])])
    union = {
        **old,
        **{part: new[part] for part in ("normalizer", "pre_tokenizer", "decoder")},
        "added_tokens": [*old["added_tokens"], *more],
        "model": {**old["model"], "vocab": vocabulary, "merges": [list(pair) for pair in merges]},
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(union)),
        clean_up_tokenization_spaces=False,
        **source.special_tokens_map,
    )


def _settings(tokenizer: PreTrainedTokenizerBase, name: str) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BadInputError(f"a union needs fast tokenizers; the {name} is a {type(tokenizer).__name__}")
    settings: dict[str, Any] = json.loads(backend.to_str())
    if settings["model"]["type"] != "BPE":
        raise BadInputError(f"a union needs BPE tokenizers; the {name} is {settings['model']['type']}")
    settings["model"]["merges"] = [
        pair.split(" ", 1) if isinstance(pair, str) else pair for pair in settings["model"]["merges"]
    ]
    return settings
