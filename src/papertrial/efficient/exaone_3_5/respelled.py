"""Any causal language model as a model of a small alphabet, so that the trials' worlds can be put to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from papertrial.errors import BadInputError

_IGNORED = -100
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


class Respelled(nn.Module):
    """A causal language model that reads and predicts symbols, each spelled by one of its own tokens.

    What it predicts is the model's distribution over the tokens that spell a symbol, renormalised: the rest of
    its vocabulary cannot occur.

    Attributes:
        model: the language model; it is what trains.
        spelling: the token of each symbol.
    """

    spelling: Tensor
    loss_type = "ForCausalLM"

    def __init__(self, model: PreTrainedModel, spelling: Int64[Tensor, " symbols"]) -> None:
        """Wrap a model.

        Raises:
            BadInputError: two symbols with one token, or a token that the model does not have.
        """
        super().__init__()
        embedding: Any = model.get_input_embeddings()
        rows = len(embedding.weight)
        if (
            len(spelling.unique()) < len(spelling)
            or not 0 <= int(spelling.min()) <= int(spelling.max()) < rows
        ):
            raise BadInputError(f"{len(spelling)} symbols need as many tokens of the model's {rows}")
        self.model, self.config = model, model.config
        device = next(model.parameters()).device
        self.register_buffer("spelling", spelling.to(device), persistent=False)

    def forward(
        self,
        input_ids: Int64[Tensor, "rows length"],
        labels: Int64[Tensor, "rows length"] | None = None,
        use_cache: bool = False,
    ) -> CausalLMOutput:
        """Return logits (rows, length, symbols) and, with labels, the mean loss over those that are not -100.

        Args:
            input_ids: symbols.
            labels: symbols, at the places of those that they are; the first is predicted by nothing.
            use_cache: has no effect; nothing is cached.
        """
        spelled = self.spelling[input_ids.to(self.spelling.device)]
        logits = self.model(input_ids=spelled, use_cache=False).logits[..., self.spelling]
        if labels is None:
            return CausalLMOutput(logits=logits)
        targets = labels[:, 1:].flatten().to(logits.device)
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=_IGNORED)
        return CausalLMOutput(loss=loss, logits=logits)


def spread_spelling(model: PreTrainedModel, symbols: int) -> Int64[Tensor, " symbols"]:
    """Return tokens spread evenly over a model's vocabulary, none of them special.

    Raises:
        BadInputError: too small a vocabulary.
    """
    special: set[int] = set()
    for name in _SPECIAL:
        given = getattr(model.config, name, None)
        special |= set(given) if isinstance(given, list) else {given} if isinstance(given, int) else set()
    size = int(model.config.get_text_config().vocab_size)
    plain = [token for token in range(size) if token not in special]
    if len(plain) < symbols:
        raise BadInputError(
            f"{symbols} symbols need as many tokens; {type(model).__name__} has {len(plain)} that are not special"
        )
    return torch.tensor([plain[number * len(plain) // symbols] for number in range(symbols)])


def spell_characters(
    tokenizer: PreTrainedTokenizerBase, characters: Sequence[str]
) -> Int64[Tensor, " symbols"]:
    """Return the token of each character, then the end-of-text token.

    Raises:
        BadInputError: no end-of-text token, or characters that have no token of their own.
    """
    end = tokenizer.eos_token_id
    if not isinstance(end, int):
        raise BadInputError(
            f"the tokenizer {type(tokenizer).__name__} has no end-of-text token; set eos_token"
        )
    # The last token: some tokenizers put a word mark before a text, and it may have a token of its own.
    tokens = [tokenizer.encode(character, add_special_tokens=False)[-1:] for character in characters]
    lacking = [character for character, token in zip(characters, tokens, strict=True) if not token]
    found = [token[0] for token in tokens if token]
    lacking += [c for c, token in zip(characters, tokens, strict=True) if token and found.count(token[0]) > 1]
    if lacking:
        raise BadInputError(f"the model's tokenizer has no token of its own for each of {lacking}")
    return torch.tensor([*found, end])
