"""Putting new rows into a model: the matrices, the sizes, the ids that its configurations name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.efficient.vocabulary_adaptation.canonical import special_roles
from papertrial.efficient.vocabulary_adaptation.matching import VocabularyMatch
from papertrial.errors import BadInputError

_ID_LISTS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias")
_FORCED = ("forced_bos_token_id", "forced_eos_token_id", "decoder_start_token_id")


def vocabulary_modules(model: PreTrainedModel, what: str = "model") -> tuple[nn.Embedding, nn.Linear | None]:
    """Return the input embedding and the head; None in the head's place where both are one matrix.

    Raises:
        BadInputError: no such modules, quantised or offloaded weights, adapters around them, or a second
            embedding by layer that would have to be replaced too.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    for name, module, kind in (("input embeddings", embedding, nn.Embedding), ("head", head, nn.Linear)):
        weight = getattr(module, "weight", None)
        if not isinstance(module, kind) or not isinstance(weight, Tensor):
            raise BadInputError(
                f"the {what}'s {name} are {type(module).__name__}; a plain {kind.__name__} is needed "
                "(merge adapters, load without quantisation)"
            )
        if not weight.is_floating_point() or weight.itemsize < 2:
            raise BadInputError(
                f"the {what}'s {name} are quantised ({weight.dtype}); load it without quantisation"
            )
        if weight.is_meta:
            raise BadInputError(f"the {what}'s {name} are offloaded; load it whole")
    for name, _ in model.named_modules():
        if name.endswith("embed_tokens_per_layer"):
            raise BadInputError(
                f"{type(model).__name__} has a second embedding by token ({name}): not supported"
            )
    return embedding, None if head.weight is embedding.weight else head


def install_rows(
    model: PreTrainedModel,
    match: VocabularyMatch,
    embedding_rows: Float[Tensor, "target width"],
    head_rows: Float[Tensor, "target head_width"] | None,
) -> list[str]:
    """Replace the vocabulary of `model` in place and return notes on what a user should know.

    The modules stay the model's own (Gemma's scaled embedding stays scaled) and get a new weight of their old
    format. The weights are marked as initialised: transformers' `post_init` would otherwise draw an untied
    head anew. Padding is set only where it is a token of its own: rows of a padding id get no gradient, which
    must not befall an end of text.
    """
    embedding, head = vocabulary_modules(model)
    output: Any = model.get_output_embeddings()
    weight = _like(embedding.weight, embedding_rows)
    embedding.weight, embedding.num_embeddings = weight, len(weight)
    output.weight = weight if head is None or head_rows is None else _like(head.weight, head_rows)
    output.out_features = len(weight)
    notes = _renew_bias(output, match)
    for owner in (embedding, *embedding.parameters(), output, *output.parameters()):
        vars(owner)["_is_hf_initialized"] = True
    for config in _configs(model):
        config.vocab_size = len(weight)
    for module in model.modules():
        if isinstance(getattr(module, "vocab_size", None), int) and "vocab_size" not in _class_names(module):
            vars(module)["vocab_size"] = len(weight)
    notes += _set_ids(model, match)
    padding = model.config.get_text_config().pad_token_id
    embedding.padding_idx = padding
    model.tie_weights()
    return notes


def _like(old: Tensor, rows: Tensor) -> nn.Parameter:
    return nn.Parameter(rows.to(old.device, old.dtype).contiguous(), requires_grad=old.requires_grad)


def _class_names(module: nn.Module) -> set[str]:
    """Return the names that a module's classes define: a property must not be set."""
    return set().union(*(vars(kind) for kind in type(module).__mro__))


def _renew_bias(head: nn.Linear, match: VocabularyMatch) -> list[str]:
    """Give the head a bias of the new size: copied for shared tokens, the mean for new ones."""
    if head.bias is None:
        return []
    old = head.bias.detach()
    source = match.source_of.to(old.device)
    rows = torch.where(source >= 0, old[source.clamp(min=0)], old[: len(match.source_forms)].mean())
    head.bias = _like(head.bias, rows)
    return ["the head has a bias: new tokens got the mean of the old ones"]


def _configs(model: PreTrainedModel) -> Iterator[Any]:
    """Yield the configurations that say how large the vocabulary is, the inner text model's too."""
    text = model.config.get_text_config()
    yield text
    if model.config is not text and hasattr(model.config, "vocab_size"):
        yield model.config


def _set_ids(model: PreTrainedModel, match: VocabularyMatch) -> list[str]:
    """Write the target's special ids into the configuration and the generation configuration."""
    tokenizer = match.target_tokenizer
    roles = special_roles(tokenizer)
    notes = []
    shared_padding = roles.get("pad") in (roles.get("eos"), roles.get("bos"))
    for config in _configs(model):
        config.bos_token_id, config.eos_token_id = roles.get("bos"), roles.get("eos")
        config.pad_token_id = None if shared_padding else roles.get("pad")
        if hasattr(config, "unk_token_id"):
            config.unk_token_id = roles.get("unk")
    if "pad" in roles and shared_padding:
        notes.append(
            "the padding token is also an end or beginning of text: the model's pad_token_id stays unset"
        )
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        notes += _set_generation_ids(generation, match, roles)
    if roles.get("eos") is None:
        notes.append("the target tokenizer has no end-of-text token: generation will not stop by itself")
    return notes + _template_notes(tokenizer, match)


def _set_generation_ids(generation: Any, match: VocabularyMatch, roles: dict[str, int]) -> list[str]:
    old = generation.eos_token_id
    ends = old if isinstance(old, list) else [old]
    target_of = {source: target for target, source in enumerate(match.source_of.tolist()) if source >= 0}
    kept = [target_of[end] for end in ends if end in target_of]
    wanted = sorted({*kept, *([roles["eos"]] if "eos" in roles else [])})
    generation.eos_token_id = wanted[0] if len(wanted) == 1 else wanted or None
    generation.bos_token_id = roles.get("bos")
    generation.pad_token_id = roles.get("pad")
    notes = []
    lost = [end for end in ends if isinstance(end, int) and end not in target_of]
    if lost:
        notes.append(f"generation used to stop at the old ids {lost} too, which the target has not")
    for name in (*_ID_LISTS, *_FORCED):
        if getattr(generation, name, None) is not None:
            setattr(generation, name, None)
            notes.append(f"generation_config.{name} named old ids and was cleared")
    return notes


def _template_notes(tokenizer: PreTrainedTokenizerBase, match: VocabularyMatch) -> list[str]:
    """Say where a chat template writes tokens that the target has not."""
    template = match.source_tokenizer.chat_template
    if not isinstance(template, str):
        return []
    used = [token for token in match.lost_special_tokens if token in template]
    if used:
        return [f"the source's chat template writes {', '.join(used)}, which the target tokenizer has not"]
    return (
        [] if tokenizer.chat_template else ["the target tokenizer has no chat template; the source's has one"]
    )
