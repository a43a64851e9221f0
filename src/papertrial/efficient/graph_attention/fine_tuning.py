"""Adapters of one size on one frozen model: LoRA, a network for each token, and Sparse-GIN."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.data.text import load_documents
from papertrial.data.tokens import BYTE_VOCABULARY, batches, byte_tokenizer, pack
from papertrial.efficient.graph_attention.adapter import Adapter, attach_sparse_gin
from papertrial.efficient.graph_attention.inspection import adjacency_edges, off_diagonal_share
from papertrial.efficient.graph_attention.settings import SparseGinSettings
from papertrial.efficient.graph_attention.sparse_gin import SparseGin
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm, load_tokenizer, seeded, trained_base
from papertrial.training import train

_IGNORED = -100
_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_BASE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_TRAINING: dict[str, Any] = {"batch": 16, "length": 96, "lr": 3e-3}
_LOOKED_AT = 8  # texts whose graphs are counted


def tiny_base(steps: int) -> Path:
    """Return the folder of a small Llama trained byte by byte on the language reference, making it once."""
    recipe = {"room": "graph_attention", **_BASE, **_TRAINING, "steps": steps}

    def build(folder: Path) -> None:
        tokenizer = byte_tokenizer()
        blocks = pack(load_documents("topics"), tokenizer, _TRAINING["length"])
        model = load_causal_lm("tiny-llama", vocab_size=BYTE_VOCABULARY, seed=0, **_BASE)
        optimizer = torch.optim.AdamW(model.parameters(), lr=_TRAINING["lr"], weight_decay=0.01)
        train(model, batches(blocks, _TRAINING["batch"], 0), optimizer, steps=steps, clip=1.0)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return trained_base(recipe, build)


def load_frozen(folder: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a model with attention that shows its weights, and its tokenizer."""
    model = load_causal_lm(folder)
    model.set_attn_implementation("eager")
    return model.requires_grad_(False), load_tokenizer(folder)


def encode_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int
) -> Int64[Tensor, "texts tokens"]:
    """Return one row for each text, cut at `length` tokens, -100 where it is shorter."""
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"][:length] for text in texts]
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[_IGNORED] * (width - len(row))] for row in rows])


def text_batch(rows: Int64[Tensor, "batch tokens"]) -> Mapping[str, Tensor]:
    """Return the arguments of a model for rows of `encode_texts`."""
    present = rows != _IGNORED
    return {
        "input_ids": rows.masked_fill(~present, 0),
        "attention_mask": present.long(),
        "labels": rows,
    }


@torch.no_grad()
def text_loss(model: nn.Module, rows: Int64[Tensor, "texts tokens"]) -> float:
    """Return the mean loss of all tokens but each text's first, in nats a token."""
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for part in rows.split(32):
        labelled = int((part[:, 1:] != _IGNORED).sum())
        total += labelled * float(model(**text_batch(part), use_cache=False).loss)
        count += labelled
    model.train(was_training)
    return total / count


class FineTuning:
    """A frozen model with one arm's adapter.

    Attributes:
        model: what is called (peft's wrapper for LoRA).
        adapter: the Sparse-GIN, or None for LoRA.

    Raises:
        BadInputError: peft is missing for the arm `lora`.
    """

    def __init__(self, arm: str, model: PreTrainedModel, rank: int, seed: int) -> None:
        self.adapter: Adapter | None = None
        with seeded(seed):
            if arm == "lora":
                self.model: nn.Module = _with_lora(model, rank)
            else:
                self.adapter = attach_sparse_gin(model, matched_settings(arm, model, rank))
                self.model = model

    def weights(self) -> list[nn.Parameter]:
        """Return what is trained."""
        return [weight for weight in self.model.parameters() if weight.requires_grad]

    def scales(self) -> list[float]:
        """Return λ of the layers; none for LoRA."""
        return [] if self.adapter is None else self.adapter.scales()

    def off_diagonal(self, rows: Int64[Tensor, "texts tokens"]) -> float:
        """Return the share of edges between different tokens; NaN for LoRA."""
        if self.adapter is None:
            return float("nan")
        inputs = dict(text_batch(rows[:_LOOKED_AT]))
        inputs.pop("labels")
        return off_diagonal_share(adjacency_edges(self.adapter, **inputs))


def arm_settings(arm: str, width: int) -> SparseGinSettings:
    """Return the adapter of an arm at a width.

    `mlp` is the same network on every token by itself, whatever its attention; `gin-flat` starts every
    layer's λ at the same value, so that a rise with depth can only be learned.

    Raises:
        BadInputError: another name.
    """
    forms = {
        "gin-causal": SparseGinSettings(width=width),
        "gin-self": SparseGinSettings(width=width, edges="self"),
        "gin-fixed": SparseGinSettings(width=width, train_scale=False),
        "gin-flat": SparseGinSettings(width=width, first_scale=0.25, last_scale=0.25),
        "mlp": SparseGinSettings(width=width, edges="self", weighted=False, sharpness=0.0, cut=None),
    }
    if arm not in forms:
        raise BadInputError(f"unknown adapter {arm!r}; there are lora, {', '.join(forms)}")
    return forms[arm]


def matched_settings(arm: str, model: PreTrainedModel, rank: int) -> SparseGinSettings:
    """Return the adapter whose number of weights comes nearest to LoRA's at this rank."""
    wanted, config = lora_size(model, rank), model.config
    shape = (config.hidden_size, config.num_attention_heads)

    def size(width: int) -> int:
        with torch.device("meta"):
            network = SparseGin(*shape, 0.0, arm_settings(arm, width))
        return config.num_hidden_layers * sum(weight.numel() for weight in network.parameters())

    width = 1
    while size(width + 1) <= wanted:
        width += 1
    nearest = min((width, width + 1), key=lambda one: abs(size(one) - wanted))
    return arm_settings(arm, nearest)


def lora_size(model: PreTrainedModel, rank: int) -> int:
    """Return the weights of LoRA at a rank on all linear maps of the decoder layers."""
    return sum(
        rank * (module.in_features + module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in _LORA_TARGETS
    )


def _with_lora(model: PreTrainedModel, rank: int) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=list(_LORA_TARGETS), bias="none"
    )
    with warnings.catch_warnings():  # peft 0.21 asks transformers 5.23 by a name that it has since changed
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)
