"""Packed models on disk: written with their rotation, read back, and read from released BitNet checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from papertrial.efficient.bitnet_v2.convert import CONFIG_KEY, BitNetOptions, recorded_options, use_bitnet
from papertrial.efficient.bitnet_v2.linear import HBitLinear
from papertrial.efficient.bitnet_v2.packed import PackedBitLinear, packed_linears
from papertrial.efficient.bitnet_v2.packing import Convention, scale_convention
from papertrial.efficient.layers import replace_linears
from papertrial.errors import BadInputError
from papertrial.models import resolve_dtype

_WEIGHTS = "model.safetensors"
_DECLARED: dict[str, Convention] = {"autobitlinear": "multiply", "bitlinear": "divide"}


def save_packed(model: PreTrainedModel, folder: Path) -> None:
    """Write a packed model: `config.json`, and safetensors with uint8 weights and their α.

    transformers cannot read it by itself, and refuses to: it knows no rotation.

    Raises:
        BadInputError: the model has no packed layer.
    """
    packed_linears(model)
    recorded = getattr(model.config, CONFIG_KEY, BitNetOptions(rotation="none", sub_norm=False).as_json())
    setattr(model.config, CONFIG_KEY, {**recorded, "packed": True})
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    state = {name: t.detach().contiguous() for name, t in model.state_dict().items() if name not in tied}
    save_file(state, folder / _WEIGHTS, metadata={"format": "pt"})


def load_packed(
    folder: Path, *, dtype: str = "float32", device: str = "cpu", convention: Convention | None = None
) -> PreTrainedModel:
    """Return a packed model for inference from a folder of `save_packed` or of a released BitNet checkpoint.

    Released ones (microsoft/bitnet-b1.58-2B-4T and the 1bitLLM conversions) are INT8 without rotation.

    Args:
        folder: holds `config.json` and safetensors.
        dtype: of everything that is not packed.
        device: where the model goes.
        convention: what a released checkpoint's scales are, where its configuration does not say or is wrong.

    Raises:
        BadInputError: nothing packed there, latent weights (train those), scales of an unclear or contradicting
            convention, or weights that do not fit.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise BadInputError(f"{folder} is no saved model: it has no config.json")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    state = _read(folder)
    ours = bool(settings.get(CONFIG_KEY, {}).get("packed"))
    if not any(tensor.dtype == torch.uint8 for tensor in state.values()):
        raise BadInputError(
            f"{folder} holds no packed weights; load latent ones with papertrial.models.load_causal_lm and use_bitnet"
        )
    if not ours:
        state = _with_alphas(state, settings.get("quantization_config") or {}, convention)
    model = _empty(folder, resolve_dtype(dtype), ours=ours)
    _fill(model, state, folder)
    return nn.Module.to(model, device).eval()


def _read(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInputError(f"{folder} has no safetensors file")
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            state |= load_file(file)
        except SafetensorError as problem:
            raise BadInputError(f"{file} is damaged: {problem}") from problem
    return state


def _with_alphas(
    state: dict[str, Tensor], quantization: dict[str, Any], convention: Convention | None
) -> dict[str, Tensor]:
    """Return a released checkpoint's tensors with every weight_scale turned into α."""
    suffix = ".weight_scale"
    scales = {n.removesuffix(suffix): float(t.float()) for n, t in state.items() if n.endswith(suffix)}
    linear_class = quantization.get("linear_class")
    if linear_class == "autobitlinear" and quantization.get("quantization_mode") == "online":
        raise BadInputError(
            "the configuration says quantization_mode 'online': these are latent weights, to be trained"
        )
    found = scale_convention(scales, convention or _DECLARED.get(str(linear_class)))
    if found == "multiply":
        return state
    return {name: 1 / t.float() if name.endswith(suffix) else t for name, t in state.items()}


def _empty(folder: Path, dtype: torch.dtype, *, ours: bool) -> PreTrainedModel:
    """Return the model of a configuration with packed layers of zeros."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with no_init_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    options = (
        recorded_options(config) if ours else BitNetOptions(rotation="none", sub_norm=False, bias="keep")
    )
    use_bitnet(model, options)

    def make(name: str, layer: Any) -> nn.Module:
        return PackedBitLinear(
            layer.in_features,
            layer.out_features,
            activation_bits=layer.activation_bits,
            norm=layer.norm,
            hadamard=layer.hadamard if isinstance(layer, HBitLinear) else None,
            bias=layer.bias,
        )

    replace_linears(model, make)
    return model


def _fill(model: PreTrainedModel, state: dict[str, Tensor], folder: Path) -> None:
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as problem:
        reason = str(problem).strip().splitlines()[-1].strip()
        raise BadInputError(f"the checkpoint {folder} does not fit its configuration: {reason}") from problem
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    lacking = [name for name in result.missing_keys if name not in tied]
    for what, names in (("lacks", lacking), ("has unknown", result.unexpected_keys)):
        if names:
            raise BadInputError(
                f"the checkpoint {folder} {what} {len(names)} weights: {', '.join(names[:3])}"
            )
    model.tie_weights()
