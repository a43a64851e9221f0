"""The heads of released process reward models that no class of transformers holds.

Qwen2.5-Math-PRM scores with two linear layers, ReasonEval with a linear layer of three outputs, Skywork-PRM
with a value head: all in remote code, which is never run here. The backbone is loaded by its own class and
the head is rebuilt from the checkpoint's weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import cached_file

from papertrial.errors import BadInputError
from papertrial.models import resolve_device, resolve_dtype

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


def load_with_head(
    name: str, layers: Sequence[str], *, dtype: str = "float32", device: str = "cpu"
) -> tuple[PreTrainedModel, nn.Module]:
    """Return a checkpoint's backbone and its head, the linear layers `layers` with ReLU between them.

    Args:
        name: a folder or hub id with safetensors weights.
        layers: names of the head's linear layers, first to last (`("score.0", "score.2")`).
        dtype: number format of the weights.
        device: where both go.

    Raises:
        BadInputError: a checkpoint that lacks the head's weights or some of the backbone's, or that cannot
            be loaded.
    """
    number_format, place = resolve_dtype(dtype), resolve_device(device)
    weights = read_tensors(name, [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")])
    lacking = [layer for layer in layers if f"{layer}.weight" not in weights]
    if lacking:
        raise BadInputError(
            f"{name!r} has no weights {', '.join(lacking)}: it is no model of this convention"
        )
    try:
        backbone, info = AutoModel.from_pretrained(
            name, dtype=number_format, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as problem:
        raise BadInputError(f"cannot load the backbone of {name!r}: {problem}") from problem
    if info["missing_keys"]:
        shown = ", ".join(sorted(info["missing_keys"])[:3])
        raise BadInputError(f"the checkpoint {name!r} lacks weights of its backbone: {shown}")
    head = head_from(weights, layers).to(place, number_format)
    return backbone.to(place).eval(), head.eval()


def head_from(weights: dict[str, Tensor], layers: Sequence[str]) -> nn.Sequential:
    """Return linear layers with ReLU between them, filled with `weights` (`{layer}.weight`, `{layer}.bias`)."""
    modules: list[nn.Module] = []
    for layer in layers:
        weight, bias = weights[f"{layer}.weight"], weights.get(f"{layer}.bias")
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        with torch.no_grad():
            linear.weight.copy_(weight)
            if bias is not None:
                linear.bias.copy_(bias)
        modules += [linear] if not modules else [nn.ReLU(), linear]
    return nn.Sequential(*modules)


def read_tensors(name: str, keys: Sequence[str]) -> dict[str, Tensor]:
    """Return those of the tensors `keys` that a checkpoint has, reading no others.

    Raises:
        BadInputError: a folder or hub id without safetensors weights.
    """
    index = _file(name, _INDEX)
    if index is None:
        single = _file(name, _SINGLE)
        if single is None:
            raise BadInputError(f"{name!r} has no safetensors weights; pickled weights are not loaded")
        files = dict.fromkeys(keys, single)
    else:
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {key: _shard(name, shards[key]) for key in keys if key in shards}
    found = {}
    for file in sorted(set(files.values())):
        with safe_open(file, framework="pt") as tensors:
            held = set(tensors.keys())
            found.update(
                {key: tensors.get_tensor(key) for key in keys if files.get(key) == file and key in held}
            )
    return found


def _shard(name: str, shard: str) -> Path:
    file = _file(name, shard)
    if file is None:
        raise BadInputError(f"{name!r} lists the weights file {shard!r} and does not have it")
    return file


def _file(name: str, file: str) -> Path | None:
    """Return a file of a folder or hub id, or None where it has no such file."""
    try:
        found = cached_file(
            name,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=True,
        )
    except OSError as problem:
        raise BadInputError(f"cannot read {name!r}: {' '.join(str(problem).split())}") from problem
    return None if found is None else Path(found)
