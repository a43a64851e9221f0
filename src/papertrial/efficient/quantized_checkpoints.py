"""Folders that hold a quantised model: written in our format or another program's, and read from either.

Importing this module makes our format known to transformers: `AutoModelForCausalLM.from_pretrained` then gives
the packed model. Of transformers' own quantisers, `metal` (MLX's layout) is the one for whole-number weights that
needs no other package on a CPU, where it unpacks on loading; `gptq` and `awq` want gptqmodel, and are read here
by `load_quantized` without it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
import transformers
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from papertrial.efficient.binary_linear import BinaryLinear, PackedLinear
from papertrial.efficient.checkpoint_formats import layout_tensors, metal_group_size, read_layout
from papertrial.efficient.packed_quantizer import QUANT_METHOD, PackedConfig
from papertrial.efficient.quantized_linear import QuantLinear
from papertrial.errors import BadInputError, unknown

Format = Literal["papertrial", "gptq", "gptq_v2", "awq", "metal", "dense"]
"""How a folder is written. `dense`: plain weights with the rounded values, which anything loads."""


@dataclass(frozen=True)
class _Shape:
    """What all packed layers of a model have in common."""

    bits: int
    group_size: int
    activation_bits: int | None
    ordered: bool
    scale_dtype: str


def save_quantized(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    method: str = "",
    format: str = "papertrial",
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write a model with packed layers (or, as `dense`, any model) to a folder, as safetensors and config.json.

    Args:
        model: from `quantize_model`.
        folder: made where it is missing.
        method: how the codes were found, for the configuration.
        format: see `Format`.
        tokenizer: saved beside.

    Raises:
        BadInputError: a model without packed layers in a packed format, rounded activations in a format that
            has none, or codes that the format cannot hold: binarised ones fit papertrial and dense alone.
    """
    if format not in get_args(Format):
        raise unknown("format", format, get_args(Format))
    layers = {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}
    folder = Path(folder)
    kept = {
        name: value for name, value in model.state_dict().items() if name.rpartition(".")[0] not in layers
    }
    if format == "dense":
        dtype = cast(torch.dtype, model.get_input_embeddings().weight.dtype)
        tensors = {name: _dense_tensors(layer, dtype) for name, layer in layers.items()}
        description = None
    else:
        shape = _common_shape(layers)
        if shape.activation_bits is not None and format != "papertrial":
            raise BadInputError(
                f"the {format} format cannot say that activations are rounded; use papertrial"
            )
        tensors = {name: _tensors(layer, name, format) for name, layer in layers.items()}
        description = _description(shape, method, format, layers)
    packed = {f"{name}.{key}": value for name, parts in tensors.items() for key, value in parts.items()}
    _write(model, kept | packed, folder, description)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def load_quantized(folder: str | Path, *, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Return the packed model in a folder: ours, or one that GPTQ or AWQ programs wrote. On the CPU.

    Args:
        folder: a local folder.
        dtype: of everything that is not packed; as saved if not given.

    Raises:
        BadInputError: no folder, no quantised model in it, or a layout that is not read.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise BadInputError(f"{folder} is no saved model: it has no config.json")
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    if saved is None:
        raise BadInputError(f"the model in {folder} is not quantised; load it with from_pretrained")
    if saved.get("quant_method") == QUANT_METHOD:
        return _loaded(AutoModelForCausalLM, str(folder), **({} if dtype is None else {"dtype": dtype}))
    config = AutoConfig.from_pretrained(folder)
    state, description = _read_foreign(folder, saved)
    config.quantization_config = description.to_dict()
    kind = getattr(transformers, (config.architectures or [""])[0], None)
    if kind is None:
        raise BadInputError(f"transformers has no architecture {config.architectures}, which {folder} names")
    return _loaded(kind, None, config=config, state_dict=state, dtype=dtype or config.dtype or torch.float32)


def _read_foreign(folder: Path, saved: Mapping[str, Any]) -> tuple[dict[str, Tensor], PackedConfig]:
    kind, bits = saved.get("quant_method"), int(saved.get("bits", saved.get("w_bit", 4)))
    if kind == "gptq":
        layout = str(saved.get("checkpoint_format", "gptq"))
    elif kind == "awq" and str(saved.get("version", "gemm")).lower() == "gemm":
        layout = "awq"
    else:
        version = saved.get("version", saved.get("checkpoint_format", ""))
        raise BadInputError(
            f"{folder} is quantised as {kind} {version}; papertrial, gptq and awq (gemm) are read"
        )
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    names = sorted(key.removesuffix(".qweight") for key in tensors if key.endswith(".qweight"))
    packed = {}
    for name in names:
        parts = {key: tensors.pop(f"{name}.{key}") for key in ("qweight", "qzeros", "scales")}
        if f"{name}.g_idx" in tensors:
            parts["g_idx"] = tensors.pop(f"{name}.g_idx")
        weight = read_layout(parts, layout, bits, name)
        packed[name] = QuantLinear.from_weight(weight, tensors.pop(f"{name}.bias", None))
    shape = _common_shape(packed)
    for name, layer in packed.items():
        if shape.ordered and layer.order is None:
            layer.order = torch.arange(layer.in_features, dtype=torch.int32)
        tensors |= {f"{name}.{key}": value for key, value in layer.state_dict().items()}
    return tensors, PackedConfig(str(kind), modules=names, **vars(shape))


def _common_shape(layers: Mapping[str, PackedLinear]) -> _Shape:
    if not layers:
        raise BadInputError(
            "the model has no packed layers; quantise it with packed=True, or save it as dense"
        )
    found = list(layers.values())
    whole_rows = all(layer.group_size == layer.in_features for layer in found)
    kinds = {(layer.bits, layer.activation_bits, layer.scales.dtype) for layer in found}
    groups = {-1} if whole_rows else {layer.group_size for layer in found}
    if len(kinds) > 1 or len(groups) > 1:
        raise BadInputError("packed layers with different bits or group sizes cannot be saved in one folder")
    bits, activation_bits, scale_dtype = kinds.pop()
    ordered = any(layer.order is not None for layer in found)
    return _Shape(bits, groups.pop(), activation_bits, ordered, str(scale_dtype).removeprefix("torch."))


def _tensors(layer: PackedLinear, name: str, format: str) -> dict[str, Tensor]:
    if format == "papertrial":
        return dict(layer.state_dict())
    if isinstance(layer, BinaryLinear):
        raise BadInputError(
            f"the {format} format holds whole numbers of 2 to 8 bits, and {name} is binarised; use papertrial or "
            "dense"
        )
    tensors = layout_tensors(layer.quantized_weight(), format, name)
    return tensors if layer.bias is None else {**tensors, "bias": layer.bias}


def _description(
    shape: _Shape, method: str, format: str, layers: Mapping[str, PackedLinear]
) -> dict[str, Any]:
    if format == "papertrial":
        return {**PackedConfig(method, modules=list(layers), **vars(shape)).to_dict()}
    if format == "metal":
        group = metal_group_size(shape.group_size)
        return {
            "quant_method": "metal",
            "bits": shape.bits,
            "group_size": group,
            "modules_to_not_convert": ["lm_head"],
        }
    if format == "awq":
        return {
            "quant_method": "awq",
            "bits": shape.bits,
            "group_size": shape.group_size,
            "zero_point": True,
            "version": "gemm",
        }
    return {
        "quant_method": "gptq",
        "bits": shape.bits,
        "group_size": shape.group_size,
        "desc_act": shape.ordered,
        "sym": False,
        "checkpoint_format": format,
    }


def _dense_tensors(layer: PackedLinear, dtype: torch.dtype) -> dict[str, Tensor]:
    if layer.activation_bits is not None:
        raise BadInputError("plain weights cannot say that activations are rounded; save as papertrial")
    weight = {"weight": layer.dequantized(dtype)}
    return weight if layer.bias is None else {**weight, "bias": layer.bias}


def _write(
    model: PreTrainedModel, state: dict[str, Tensor], folder: Path, description: Mapping[str, Any] | None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_torch_state_dict(state, folder)
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    if description is not None:
        config.quantization_config = dict(description)
    elif getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)


def _loaded(kind: Any, name: str | None, **options: Any) -> PreTrainedModel:
    model, info = kind.from_pretrained(name, output_loading_info=True, **options)
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise BadInputError(
            f"the checkpoint lacks {len(lacking)} of the model's tensors: {', '.join(lacking[:3])}"
        )
    return cast(PreTrainedModel, model.eval())
