"""The three sizes, as what they are: a Llama under other names; and what their training cost.

Source: arXiv 2412.04862, tables 1 to 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from papertrial.errors import BadInputError, unknown
from papertrial.models import parameter_count

VOCABULARY = 102_400
CONTEXT = 32_768


@dataclass(frozen=True)
class Size:
    """One size of EXAONE 3.5.

    Attributes:
        hidden: width of the residual stream.
        layers: decoder layers.
        ffn: width of the feed-forward layers.
        heads: query heads; key-value heads are `kv_heads`.
        kv_heads: key-value heads.
        head_dim: of each head; not hidden / heads in general.
        tied: whether the output head is the embedding.
        nominal: the parameters of its name, by which the report counts compute.
        tokens: of pre-training.
    """

    hidden: int
    layers: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    nominal: float
    tokens: float


SIZES: Mapping[str, Size] = {
    "32B": Size(5120, 64, 27_392, 40, 8, 128, False, 32e9, 6.5e12),
    "7.8B": Size(4096, 32, 14_336, 32, 8, 128, False, 7.8e9, 9e12),
    "2.4B": Size(2560, 30, 7_168, 32, 8, 80, True, 2.4e9, 6.5e12),
}
"""Tables 1 and 2."""

_OTHER_FAMILIES = {
    "exaone4": "Exaone4ForCausalLM",
    "exaone4_5": "Exaone4_5ForConditionalGeneration",
    "exaone_moe": "ExaoneMoeForCausalLM",
}
_LONGEST_OF_3_0 = 4096  # EXAONE 3.0's context; its model_type is "exaone" too


def config_of_size(size: str) -> LlamaConfig:
    """Return the Llama configuration of "2.4B", "7.8B" or "32B".

    Rotary scaling is not in the report's tables: a checkpoint's own configuration says it (`llama_config`).

    Raises:
        BadInputError: no such size.
    """
    if size not in SIZES:
        raise unknown("size", size, SIZES)
    one = SIZES[size]
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=one.hidden,
        num_hidden_layers=one.layers,
        intermediate_size=one.ffn,
        num_attention_heads=one.heads,
        num_key_value_heads=one.kv_heads,
        head_dim=one.head_dim,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=one.tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def llama_config(raw: Mapping[str, Any], *, allow_3_0: bool = False) -> LlamaConfig:
    """Return the Llama configuration that an EXAONE 3.5 `config.json` means.

    Args:
        raw: the file's content. Rotary scaling is read from it, never assumed.
        allow_3_0: take EXAONE 3.0 too. Its layers are the same, its context is 4,096 tokens.

    Raises:
        BadInputError: another model (the message names its class), EXAONE 3.0, a missing key, an activation
            other than SiLU, or heads that do not divide.
    """
    kind = raw.get("model_type")
    if kind in _OTHER_FAMILIES:
        raise BadInputError(
            f"model_type {kind!r} is another architecture (norms and attention differ); load it with "
            f"transformers.{_OTHER_FAMILIES[kind]}"
        )
    if kind != "exaone":
        raise BadInputError(f"model_type must be 'exaone', got {kind!r}; load it with AutoModelForCausalLM")
    _check_keys(raw)
    longest = raw["max_position_embeddings"]
    if longest <= _LONGEST_OF_3_0 and not raw.get("rope_scaling") and not allow_3_0:
        raise BadInputError(
            f"this is EXAONE 3.0 ({longest} positions, no rope_scaling); its layers are the same: "
            "pass allow_3_0=True to load it"
        )
    heads = raw["num_attention_heads"]
    head_dim = raw.get("head_dim") or raw["hidden_size"] // heads
    kv_heads = raw.get("num_key_value_heads") or heads
    if heads % kv_heads or (not raw.get("head_dim") and raw["hidden_size"] % heads):
        raise BadInputError(
            f"{heads} heads do not fit {kv_heads} key-value heads and hidden size {raw['hidden_size']}"
        )
    return LlamaConfig(
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        num_hidden_layers=raw["num_layers"],
        intermediate_size=raw["intermediate_size"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=longest,
        rms_norm_eps=raw["layer_norm_epsilon"],
        hidden_act=raw["activation_function"],
        rope_parameters=_rope(raw),
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        bos_token_id=raw.get("bos_token_id"),
        eos_token_id=raw.get("eos_token_id"),
        pad_token_id=raw.get("pad_token_id"),
    )


def exaone_config(config: LlamaConfig) -> dict[str, Any]:
    """Return the EXAONE `config.json` of a Llama configuration: what `llama_config` reads.

    Raises:
        BadInputError: biases, which EXAONE 3.5 has none of.
    """
    if config.attention_bias or config.mlp_bias:
        raise BadInputError("this Llama has biases; EXAONE 3.5 has none")
    rope: dict[str, Any] = dict(config.rope_parameters or {})
    theta, kind = rope.pop("rope_theta"), rope.get("rope_type", "default")
    return {
        "model_type": "exaone",
        "architectures": ["ExaoneForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "layer_norm_epsilon": config.rms_norm_eps,
        "activation_function": config.hidden_act,
        "rope_theta": theta,
        "rope_scaling": None if kind == "default" else rope,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    }


def parameters_of(config: LlamaConfig) -> int:
    """Return how many weights a configuration has, without holding any."""
    with torch.device("meta"):
        return parameter_count(LlamaForCausalLM(config))


def training_compute(parameters: float, tokens: float) -> float:
    """Return the floating-point operations of training: 6·N·D, two for each weight forward and four back.

    The report's table 2 takes N from the model's name (32e9), not the counted weights.

    Raises:
        BadInputError: a count that is not above 0.
    """
    if not (parameters > 0 and tokens > 0):
        raise BadInputError(f"parameters and tokens must be above 0, got {parameters} and {tokens}")
    return 6.0 * parameters * tokens


def _check_keys(raw: Mapping[str, Any]) -> None:
    needed = (
        "vocab_size", "hidden_size", "num_layers", "intermediate_size", "num_attention_heads",
        "max_position_embeddings", "layer_norm_epsilon", "activation_function",
    )  # fmt: skip
    missing = [name for name in needed if name not in raw]
    if missing:
        raise BadInputError(f"the EXAONE configuration lacks {', '.join(missing)}")
    if raw["activation_function"] != "silu":
        raise BadInputError(f"activation_function must be 'silu', got {raw['activation_function']!r}")


def _rope(raw: Mapping[str, Any]) -> dict[str, Any]:
    scaling = dict(raw.get("rope_scaling") or {})
    kind = scaling.pop("rope_type", None) or scaling.pop("type", None) or "default"
    scaling.pop("type", None)
    return {**scaling, "rope_type": kind, "rope_theta": float(raw.get("rope_theta", 10_000.0))}
