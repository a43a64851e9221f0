"""Attaching Sparse-GIN to a model, taking it off, and keeping its weights apart from the model's."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from papertrial.efficient.graph_attention.layer_hook import LayerHook
from papertrial.efficient.graph_attention.released import convert_released
from papertrial.efficient.graph_attention.settings import SparseGinSettings
from papertrial.efficient.graph_attention.sparse_gin import SparseGin
from papertrial.efficient.graph_attention.swapping import decoder_layers
from papertrial.errors import BadInputError

WEIGHTS = "adapter.safetensors"
SETTINGS = "adapter.json"
_NAME = "sparse_gin"


@dataclass(frozen=True)
class Adapter:
    """Sparse-GIN attached to a model.

    Attributes:
        model: the model, its own weights frozen.
        settings: of the adapter.
        networks: one for each decoder layer, in order.
    """

    model: PreTrainedModel
    settings: SparseGinSettings
    networks: tuple[SparseGin, ...]

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the adapter's weights that are trained."""
        for network in self.networks:
            yield from (weight for weight in network.parameters() if weight.requires_grad)

    def scales(self) -> list[float]:
        """Return λ of every layer."""
        return [float(network.scale.detach()) for network in self.networks]

    def save(self, folder: Path) -> None:
        """Write the adapter's weights and settings alone, without the model's."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_state(self.networks), folder / WEIGHTS)
        (folder / SETTINGS).write_text(json.dumps(asdict(self.settings), indent=2), encoding="utf-8")

    def detach(self) -> None:
        """Take the adapter off: the model computes what it did before, and its weights may be trained."""
        for layer in decoder_layers(self.model):
            _hook_of(layer).remove()
            del layer._modules[_NAME]
        self.model.requires_grad_(True)


def attach_sparse_gin(model: PreTrainedModel, settings: SparseGinSettings | None = None) -> Adapter:
    """Attach a Sparse-GIN to every decoder layer of a Llama-like model and freeze all other weights.

    Nothing of the model is replaced: hooks add λ · RMSNorm(GIN(h, A)) where `settings.placement` says. With
    λ = 0 the model computes what it did, to the bit. Text can be generated with a cache; the graph network's
    features of earlier tokens are kept in the same cache, as further layers, so that beams and cropping
    work. Save the adapter by itself with `Adapter.save`.

    Raises:
        BadInputError: an attention implementation that gives no weights while `side_path` is off, an
            adapter attached already, or layers that are not Llama-like.

    Source: arXiv 2501.02393, figure 1B.
    """
    settings = settings or SparseGinSettings()
    layers = decoder_layers(model)
    if any(_NAME in layer._modules for layer in layers):
        raise BadInputError("this model has a Sparse-GIN adapter already; detach it first")
    kind = cast(Any, model.config)._attn_implementation
    if not settings.side_path and kind != "eager":
        raise BadInputError(
            f"Sparse-GIN reads attention weights, and {kind!r} gives none; load the model with "
            "attn_implementation='eager', or set side_path=True to compute them beside"
        )
    if settings.last_scale < 0 or settings.first_scale < 0:
        warnings.warn("a negative λ subtracts what the graph network says", UserWarning, stacklevel=2)
    for layer in layers:
        _check_residual(layer)
    config: Any = model.config
    model.requires_grad_(False)
    networks = []
    for number, layer in enumerate(layers):
        scale = settings.scale(number, len(layers))
        network = SparseGin(config.hidden_size, config.num_attention_heads, scale, settings)
        weight = next(layer.parameters())
        network.to(device=weight.device, dtype=weight.dtype).train(layer.training)
        layer.add_module(_NAME, network)
        network.hook = LayerHook(layer, network, number, len(layers))  # type: ignore[assignment]
        networks.append(network)
    return Adapter(model, settings, tuple(networks))


def load_sparse_gin(
    model: PreTrainedModel, folder: Path, edges: str | None = None, side_path: bool | None = None
) -> Adapter:
    """Attach an adapter that was saved: by `Adapter.save`, or in the layout of the released checkpoints.

    A folder without our settings is read as released (one or more safetensors files, whose names hold
    `gnn.` and `trainable_scale`); it then needs `edges`, since those were trained with `self`.

    Args:
        model: of the sizes that the adapter was made for.
        folder: where it lies.
        edges: in place of the saved setting.
        side_path: in place of the saved setting.

    Raises:
        BadInputError: no such adapter, weights missing or of other shapes, named one by one.
    """
    if (folder / SETTINGS).is_file():
        saved: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        weights: Mapping[str, Tensor] = load_file(folder / WEIGHTS)
    else:
        saved, weights = convert_released(folder)
        if edges is None:
            edges = "self"
        elif edges == "causal":
            warnings.warn(
                "released adapters were trained as per-token adapters (edges='self'): no message between tokens "
                "ever reached them, so with edges='causal' they compute something that nobody has trained",
                UserWarning,
                stacklevel=2,
            )
    changed = {"edges": edges, "side_path": side_path}
    settings = SparseGinSettings(**{**saved, **{k: v for k, v in changed.items() if v is not None}})
    adapter = attach_sparse_gin(model, settings)
    try:
        _fill(adapter.networks, weights)
    except BadInputError:
        adapter.detach()
        raise
    return adapter


def _check_residual(layer: nn.Module) -> None:
    """Raise where a decoder layer is not x + attention(norm(x)), then + mlp(norm(·))."""
    needed = ("self_attn", "mlp", "input_layernorm", "post_attention_layernorm")
    others = ("pre_feedforward_layernorm", "post_feedforward_layernorm", "attn_sub_norm")
    if any(not hasattr(layer, name) for name in needed) or any(hasattr(layer, name) for name in others):
        raise BadInputError(
            f"{type(layer).__name__} is not Llama-like (a norm before attention and before the MLP, none after "
            "them); Sparse-GIN knows Llama, Mistral, Qwen2 and Qwen3"
        )


def hook_of(network: SparseGin) -> LayerHook:
    """Return what runs a network inside its layer."""
    return cast(LayerHook, network.hook)


def _hook_of(layer: nn.Module) -> LayerHook:
    return hook_of(cast(SparseGin, layer._modules[_NAME]))


def _state(networks: tuple[SparseGin, ...]) -> dict[str, Tensor]:
    return {
        f"layers.{number}.{name}": value.detach().contiguous()
        for number, network in enumerate(networks)
        for name, value in network.state_dict().items()
    }


def _fill(networks: tuple[SparseGin, ...], weights: Mapping[str, Tensor]) -> None:
    own = _state(networks)
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    wrong = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if weights[name].shape != own[name].shape
    ]
    if missing or extra or wrong:
        raise BadInputError(
            "the adapter is not one of this model and these settings: "
            + "; ".join(
                f"{what} {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
                for what, names in (("missing", missing), ("unknown", extra), ("shape", wrong))
                if names
            )
        )
    for number, network in enumerate(networks):
        network.load_state_dict({name: weights[f"layers.{number}.{name}"] for name in network.state_dict()})
