"""Reading the adapters that the authors published: their names, and what follows from their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from papertrial.errors import BadInputError

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.(gnn\..+|gnn_norm\.weight|trainable_scale|adj_transform\..+)$")
_ROUND = re.compile(r"gnn\.convs\.(\d+)\.(linear1|linear2|norm|epsilon)(.*)$")
_PARTS = {"linear1": "up", "linear2": "down", "norm": "norm", "epsilon": "own_weight"}


def convert_released(folder: Path) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """Return our settings and weights from safetensors files in the released layout.

    Width, rounds, multiplier, norm, activation and the learned combination follow from names and shapes;
    thresholds and the like are not in the weights: the README's are the defaults.

    Raises:
        BadInputError: no safetensors there, or no graph network in them.

    Source: names as in graph_neural_network.py and llama_decoder_layer_with_gnn.py.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInputError(f"{folder} holds neither adapter.json nor safetensors; pickles are not read")
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  a safetensors handle is no mapping
                    found = _LAYER.search(name)
                    own = None if found is None else _own_name(found.group(2))
                    if found is not None and own is not None:
                        weights[f"layers.{found.group(1)}.{own}"] = opened.get_tensor(name)
        except SafetensorError as problem:
            raise BadInputError(f"{file} cannot be read as safetensors: {problem}") from problem
    if "layers.0.input_projection.weight" not in weights:
        raise BadInputError(
            f"{folder} holds no Sparse-GIN: no tensor is called …layers.0.gnn.input_projection…"
        )
    return _settings(weights), weights


def _own_name(name: str) -> str | None:
    """Return what we call a released tensor; None for a second name of one, or one that is never used."""
    if name.startswith(("gnn.input_projection", "gnn.output_projection", "gnn.activation")):
        return name.removeprefix("gnn.")
    if name == "gnn_norm.weight":
        return "norm.weight"
    if name == "trainable_scale":
        return "scale"
    if name.startswith("adj_transform.mlp."):
        return name.replace("adj_transform.mlp.0", "combiner.up").replace(
            "adj_transform.mlp.3", "combiner.down"
        )
    found = _ROUND.match(name)
    return f"rounds.{found.group(1)}.{_PARTS[found.group(2)]}{found.group(3)}" if found else None


def _settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    width = weights["layers.0.input_projection.weight"].shape[0]
    rounds = sum(name.startswith("layers.0.rounds.") and name.endswith("own_weight") for name in weights)
    hidden = weights["layers.0.rounds.0.up.weight"].shape[0]
    settings: dict[str, Any] = {
        "width": width,
        "layers": rounds,
        "multiplier": hidden / width,
        "hidden_norm": "layers.0.rounds.0.norm.weight" in weights,
        "activation": "prelu" if "layers.0.activation.weight" in weights else "relu",
    }
    if "layers.0.combiner.up.weight" in weights:
        settings["combine"] = "mlp-softmax"  # the released default of the two
    return settings
