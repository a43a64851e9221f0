"""transformers' BitNet at toy size, and text cut into blocks for training and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import BitNetConfig, BitNetForCausalLM, PreTrainedTokenizerBase

from papertrial.data.text import load_documents, split_documents
from papertrial.data.tokens import byte_tokenizer, pack, train_bpe
from papertrial.errors import BadInputError
from papertrial.models import resolve_device, seeded

TOY_BITNET = "tiny-bitnet"
"""The name by which the trials know the toy model."""

_CHARACTERS_A_TOKEN = 6  # generous: English prose has about four under a BPE, code fewer
_FEW_DOCUMENTS = 40


def toy_bitnet(
    *,
    vocabulary: int,
    hidden: int = 64,
    ffn: int = 256,
    layers: int = 2,
    heads: int = 4,
    activation: str = "silu",
    device: str = "cpu",
    seed: int = 0,
) -> BitNetForCausalLM:
    """Return an untrained BitNet of transformers with sub-norms, its linear layers still in full precision.

    `activation` is "silu" (SwiGLU, the paper's) or "relu2" (transformers' default, with larger outliers).

    Raises:
        BadInputError: sizes that make no model.
    """
    if activation not in ("silu", "relu2"):
        raise BadInputError(f"activation must be 'silu' or 'relu2', got {activation!r}")
    if heads < 1 or hidden % heads or (hidden // heads) % 2:
        raise BadInputError(f"hidden must be an even multiple of heads, got {hidden} and {heads}")
    config = BitNetConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        hidden_act=activation,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with seeded(seed):
        model = BitNetForCausalLM(config)
    torch.nn.Module.to(model, resolve_device(device))
    return model.eval()


def toy_tokenizer(documents: Sequence[str], vocabulary: int | None) -> PreTrainedTokenizerBase:
    """Return a byte tokenizer, or a BPE of `vocabulary` tokens trained on the documents."""
    return byte_tokenizer() if vocabulary is None else train_bpe(documents, vocabulary)


def text_blocks(
    text: str,
    length: int,
    *,
    training: int,
    validation: int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    vocabulary: int | None = None,
) -> tuple[Int64[Tensor, "training length"], Int64[Tensor, "validation length"]]:
    """Return blocks to train on and blocks of other documents to evaluate on, so many at most.

    Args:
        text: as `papertrial.data.text.load_documents` takes it.
        length: tokens in a block.
        training: blocks to train on.
        validation: blocks to evaluate on.
        tokenizer: the model's own; if not given, bytes, or a BPE trained on the training documents.
        vocabulary: tokens of such a BPE.

    Raises:
        BadInputError: too little text for two blocks.
    """
    tokens = 2 * (training + validation) * length
    per_token = 1 if tokenizer is None and vocabulary is None else _CHARACTERS_A_TOKEN
    documents = load_documents(text, max_characters=max(1_000_000, tokens * per_token))
    if len(documents) < _FEW_DOCUMENTS:  # too few to hold some out: hold out the end of the text
        packed = pack(documents, tokenizer or toy_tokenizer(documents, vocabulary), length)
        end = max(1, len(packed) // 10)
        kept, held_out = packed[:-end], packed[-end:]
    else:
        # Not seed 0: the documents above were chosen by that very hash, and would fall on one side.
        sides = split_documents(documents, validation_share=0.1, seed=1)
        tokenizer = tokenizer or toy_tokenizer(sides[0], vocabulary)
        kept, held_out = (pack(side, tokenizer, length) for side in sides)
    if not len(kept):
        raise BadInputError(f"{text} fills one block of {length} tokens; at least two are needed")
    return _spread(kept, training), _spread(held_out, validation)


def _spread(blocks: Tensor, count: int) -> Tensor:
    """Return `count` blocks at even distances, or all where there are fewer."""
    return blocks[:: max(1, len(blocks) // count)][:count].contiguous()
