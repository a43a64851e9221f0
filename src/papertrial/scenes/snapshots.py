"""Tensors and a few facts about them in one safetensors file, and a module with its Adam as such tensors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from papertrial.errors import BadInputError
from papertrial.home import ensure_writable

_FACTS = "papertrial"
_MODULE, _MOMENTS, _TAKEN = "module.", ("adam.exp_avg.", "adam.exp_avg_sq."), "adam.step."


class Snapshot(NamedTuple):
    """Tensors by name, and facts about them (JSON)."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot into a safetensors file, which appears, or is replaced, in one move.

    Raises:
        BadInputError: the folder cannot be written to.
    """
    ensure_writable(path.parent)
    own = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in snapshot.tensors.items()
    }  # safetensors refuses tensors that share memory
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as working:
        whole = Path(working) / path.name
        save_file(own, whole, metadata={_FACTS: json.dumps(dict(snapshot.facts))})
        whole.replace(path)


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot; its tensors lie on the CPU.

    Raises:
        BadInputError: no such file, a damaged one, or one that was not written by `write_snapshot`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(_FACTS, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError, ValueError) as problem:
        raise BadInputError(f"{path} cannot be read as safetensors: {problem}") from problem
    if not isinstance(facts, dict):
        raise BadInputError(f"{path} was not written by papertrial: it has no facts beside its tensors")
    return Snapshot(tensors, facts)


def training_state(module: nn.Module, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Return a module's parameters and buffers, and Adam's state of each parameter, by name.

    Learning rates are not part of it: they follow from the step's number.
    """
    found = {_MODULE + name: tensor.detach() for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        state = optimizer.state.get(parameter)
        if state:
            found[_MOMENTS[0] + name] = state["exp_avg"]
            found[_MOMENTS[1] + name] = state["exp_avg_sq"]
            found[_TAKEN + name] = torch.as_tensor(state["step"])
    return found


def restore_training(module: nn.Module, optimizer: torch.optim.Adam, state: Mapping[str, Tensor]) -> None:
    """Put what `training_state` returned into a module and its optimizer; further names are left alone.

    Numbers of rows may differ: parameters are replaced by new ones, in the module and in the optimizer's groups.

    Raises:
        BadInputError: a tensor of the module that the state lacks, or one of another shape beyond its rows.
    """
    old = dict(module.named_parameters())
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            saved = state.get(_MODULE + name)
            if saved is None or saved.shape[1:] != tensor.shape[1:] or saved.ndim != tensor.ndim:
                raise BadInputError(
                    f"the state does not fit the scene: {name} is "
                    f"{'missing' if saved is None else list(saved.shape)}, the scene has {list(tensor.shape)}"
                )
            _put(module, name, saved.to(tensor))
    renamed = {id(parameter): name for name, parameter in old.items()}
    new = dict(module.named_parameters())
    for parameter in old.values():
        optimizer.state.pop(parameter, None)
    for group in optimizer.param_groups:
        group["params"] = [new[renamed[id(one)]] if id(one) in renamed else one for one in group["params"]]
    for name, parameter in new.items():
        if _TAKEN + name in state:
            optimizer.state[parameter] = {
                "step": state[_TAKEN + name].clone(),
                "exp_avg": state[_MOMENTS[0] + name].to(parameter.device).clone(),
                "exp_avg_sq": state[_MOMENTS[1] + name].to(parameter.device).clone(),
            }


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Make `tensor` the parameter or buffer of that dotted name."""
    owner_name, _, own = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    before = getattr(owner, own)
    if isinstance(before, nn.Parameter):
        setattr(owner, own, nn.Parameter(tensor.clone(), requires_grad=before.requires_grad))
    else:
        setattr(owner, own, tensor.clone())
