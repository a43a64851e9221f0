"""EXAONE 3.5 weights under Llama names, and back: streamed, one tensor or one shard at a time.

Source: arXiv 2412.04862, table 1; the names are those of the released checkpoints.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from papertrial.efficient.exaone_3_5.architecture import exaone_config, llama_config
from papertrial.errors import BadInputError
from papertrial.hub import hub_errors, hub_has
from papertrial.models import load_causal_lm, resolve_device, resolve_dtype

_INDEX = "model.safetensors.index.json"
_NO_TENSORS = ("config.json", _INDEX)
_WHOLE = {
    "transformer.wte.weight": "model.embed_tokens.weight",
    "transformer.ln_f.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
_IN_LAYER = {
    "ln_1": "input_layernorm",
    "attn.attention.q_proj": "self_attn.q_proj",
    "attn.attention.k_proj": "self_attn.k_proj",
    "attn.attention.v_proj": "self_attn.v_proj",
    "attn.attention.out_proj": "self_attn.o_proj",
    "ln_2": "post_attention_layernorm",
    "mlp.c_fc_0": "mlp.gate_proj",
    "mlp.c_fc_1": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
}
_BACK = {new: old for old, new in _IN_LAYER.items()}
_WHOLE_BACK = {new: old for old, new in _WHOLE.items()}
_BUFFERS = ("rotary.inv_freq", "rotary_emb.inv_freq")  # computed from the configuration, sometimes saved


class LicenceNotice(UserWarning):
    """Released EXAONE 3.5 weights are under the EXAONE AI Model License 1.1, which is non-commercial."""


def llama_name(name: str) -> str | None:
    """Return the Llama name of an EXAONE tensor, or None if there is none."""
    if name in _WHOLE:
        return _WHOLE[name]
    found = re.fullmatch(r"transformer\.h\.(\d+)\.(.+)\.weight", name)
    if found is None or found[2] not in _IN_LAYER:
        return None
    return f"model.layers.{found[1]}.{_IN_LAYER[found[2]]}.weight"


def exaone_name(name: str) -> str | None:
    """Return the EXAONE name of a Llama tensor, or None if there is none."""
    if name in _WHOLE_BACK:
        return _WHOLE_BACK[name]
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    if found is None or found[2] not in _BACK:
        return None
    return f"transformer.h.{found[1]}.{_BACK[found[2]]}.weight"


def from_pretrained(
    source: str | Path, *, dtype: str = "bfloat16", device: str = "cpu", allow_3_0: bool = False
) -> PreTrainedModel:
    """Return the causal language model of a folder or hub id; EXAONE 3.5 as a `LlamaForCausalLM`.

    No remote code runs. Weights go from the file to their place one tensor at a time. Anything that is not
    `model_type` "exaone" is loaded by its own class.

    Args:
        source: a folder with safetensors weights, or a hub id.
        dtype: number format of the weights.
        device: where the model goes.
        allow_3_0: take EXAONE 3.0 too.

    Raises:
        BadInputError: nothing there, EXAONE 4 or 3.0, tensors missing, too many, or of another shape.
    """
    folder = _folder(str(source))
    raw = _read_json(folder / "config.json")
    if raw.get("model_type") != "exaone":
        _refuse_other_families(raw)
        return load_causal_lm(str(folder), dtype=dtype, device=device)
    config = llama_config(raw, allow_3_0=allow_3_0)
    number_format, place = resolve_dtype(dtype), resolve_device(device)
    _check_names(folder, config)
    warnings.warn(
        "EXAONE 3.5 weights are under the EXAONE AI Model License 1.1: non-commercial use only",
        LicenceNotice,
        stacklevel=2,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    state = {}
    for name, tensor in _renamed(folder):
        if not (config.tie_word_embeddings and name == "lm_head.weight"):
            state[name] = tensor.to(place, number_format)
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    _fill_buffers(model, config, place)
    return model.eval()


def import_checkpoint(source: str | Path, out: Path, *, allow_3_0: bool = False) -> Path:
    """Write an EXAONE 3.5 checkpoint as a Llama's, shard by shard, so that any tool for Llama takes it.

    The tokenizer's files are copied. At most one shard is in memory.

    Raises:
        BadInputError: `out` is not empty, or the checkpoint is none of EXAONE 3.5.
    """
    folder = _folder(str(source))
    config = llama_config(_read_json(folder / "config.json"), allow_3_0=allow_3_0)
    _check_names(folder, config)
    settings = {**config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    drop = {"lm_head.weight"} if config.tie_word_embeddings else set()
    return _convert(folder, out, settings, lambda name: llama_name(name), drop)


def export_checkpoint(source: Path, out: Path) -> Path:
    """Write a Llama checkpoint under EXAONE names: the way back, bit for bit.

    Raises:
        BadInputError: `out` is not empty, or the model has tensors that EXAONE 3.5 has not.
    """
    folder = _folder(str(source))
    raw = _read_json(folder / "config.json")
    if raw.get("model_type") != "llama":
        raise BadInputError(
            f"only a Llama can be written as EXAONE, got model_type {raw.get('model_type')!r}"
        )
    strange = sorted(name for name in _tensor_names(folder) if exaone_name(name) is None)
    if strange:
        raise BadInputError(f"EXAONE 3.5 has no tensor for {_listed(strange)}")
    return _convert(
        folder, out, exaone_config(LlamaConfig.from_dict(raw)), lambda name: exaone_name(name), set()
    )


def _convert(
    folder: Path, out: Path, config: Mapping[str, Any], rename: Callable[[str], str | None], drop: set[str]
) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInputError(f"out must be a new or empty folder; {out} is not")
    out.mkdir(parents=True, exist_ok=True)
    places: dict[str, str] = {}
    total = 0
    for file in _shards(folder):
        with safe_open(file, framework="pt") as shard:
            names = {name: rename(name) for name in shard.keys()}  # noqa: SIM118 (no dict: it has no iterator)
            tensors = {new: shard.get_tensor(old) for old, new in names.items() if new and new not in drop}
        if not tensors:
            continue
        save_file(tensors, out / file.name, metadata={"format": "pt"})
        places |= dict.fromkeys(tensors, file.name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(set(places.values())) > 1 or "model.safetensors" not in places.values():
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (out / _INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    (out / "config.json").write_text(json.dumps(dict(config), indent=1, default=str), encoding="utf-8")
    for file in sorted(folder.iterdir()):
        if (
            file.is_file()
            and file.suffix in (".json", ".txt", ".model", ".jinja")
            and file.name not in _NO_TENSORS
        ):
            shutil.copy2(file, out / file.name)
    return out


def _check_names(folder: Path, config: LlamaConfig) -> None:
    """Compare names and shapes with the model's before a byte of weights is read."""
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in LlamaForCausalLM(config).state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    strange = []
    for name, shape in _tensor_names(folder).items():
        new = llama_name(name)
        if new is None and not name.endswith(_BUFFERS):
            strange.append(name)
        elif new is not None:
            found[new] = shape
    optional = {"lm_head.weight"} if config.tie_word_embeddings else set()
    missing = sorted(wanted.keys() - found.keys() - optional)
    strange += sorted(found.keys() - wanted.keys())
    if missing:
        raise BadInputError(
            f"the checkpoint {folder} lacks {len(missing)} tensors: {_listed([exaone_name(n) or n for n in missing])}"
        )
    if strange:
        raise BadInputError(f"the checkpoint {folder} has tensors EXAONE 3.5 has not: {_listed(strange)}")
    for name, shape in found.items():
        if shape != wanted[name]:
            raise BadInputError(
                f"{exaone_name(name)} has shape {shape}, the configuration says {wanted[name]}"
                + (" (head_dim?)" if "self_attn" in name else "")
            )


def _tensor_names(folder: Path) -> dict[str, tuple[int, ...]]:
    names = {}
    for file in _shards(folder):
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118 (no dict: it has no iterator)
                names[name] = tuple(shard.get_slice(name).get_shape())
    return names


def _renamed(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for file in _shards(folder):
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118 (no dict: it has no iterator)
                new = llama_name(name)
                if new is not None:
                    yield new, shard.get_tensor(name)


def _shards(folder: Path) -> list[Path]:
    if (folder / _INDEX).is_file():
        files = sorted(set(_read_json(folder / _INDEX)["weight_map"].values()))
        shards = [folder / name for name in files]
    else:
        shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise BadInputError(f"{folder} has no safetensors weights; pickled weights are not loaded")
    for shard in shards:
        try:
            with safe_open(shard, framework="pt"):
                pass
        except (SafetensorError, OSError) as problem:
            raise BadInputError(f"{shard} cannot be read: {problem}") from problem
    return shards


def _folder(source: str) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise BadInputError(f"there is no folder {source!r}; give one, or a hub id 'org/name'")
    from huggingface_hub import snapshot_download

    if not hub_has(source, "model"):
        raise BadInputError(f"there is no folder {source!r}, and the hub cannot be reached")
    try:
        return Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"]))
    except hub_errors() as problem:
        raise BadInputError(f"cannot fetch {source!r}: {str(problem).splitlines()[0]}") from problem


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as problem:
        raise BadInputError(f"{path} cannot be read as JSON: {problem}") from problem


def _refuse_other_families(raw: Mapping[str, Any]) -> None:
    if str(raw.get("model_type", "")).startswith("exaone"):
        llama_config(raw)


def _fill_buffers(model: PreTrainedModel, config: LlamaConfig, place: torch.device) -> None:
    """Compute the rotary frequencies, which no checkpoint holds and the meta device has no values for."""
    rotary = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(config=config).to(place)


def _listed(names: list[str], shown: int = 4) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
