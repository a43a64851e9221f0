"""Rows of parameters that come and go while they are trained, and the optimiser's moments with them.

Splatting adds and removes primitives during training. Adam keeps two moments for every number, so its state has to
lose and gain the same rows; its count of steps stays, as in the code of arXiv 2308.04079.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.optim import Adam

from papertrial.errors import BadInputError


def keep_rows(module: nn.Module, optimizer: Adam, kept: Bool[Tensor, " n"], names: Sequence[str]) -> None:
    """Delete the rows of a module's tensors that are not kept, and Adam's moments of them.

    Parameters are replaced by new `Parameter` objects without gradient, in the module and in the optimiser's group;
    the group keeps its name and its rate. Buffers may be named too.

    Args:
        module: that holds the tensors.
        optimizer: that trains the parameters among them.
        kept: which rows stay.
        names: of the module's own parameters and buffers.

    Raises:
        BadInputError: a tensor with another number of rows, an unknown name, or a parameter that the optimiser does
            not train.
    """
    for name in names:
        old = _tensor(module, name)
        if len(old) != len(kept):
            raise BadInputError(f"{name} has {len(old)} rows, kept speaks of {len(kept)}")
    for name in names:
        _replace(module, optimizer, name, lambda rows: rows[kept])


def append_rows(module: nn.Module, optimizer: Adam, rows: Mapping[str, Tensor]) -> None:
    """Append rows to a module's tensors; Adam's moments of them are zero, its count of steps stays.

    See `keep_rows` for what is replaced.

    Args:
        module: that holds the tensors.
        optimizer: that trains the parameters among them.
        rows: for each of the module's own parameters or buffers, by name, what is appended.

    Raises:
        BadInputError: rows of another shape, different numbers of them, an unknown name, or a parameter that the
            optimiser does not train.
    """
    counts = {name: len(new) for name, new in rows.items()}
    if len(set(counts.values())) > 1:
        raise BadInputError(f"all tensors need the same number of new rows, got {counts}")
    for name, new in rows.items():
        old = _tensor(module, name)
        if new.shape[1:] != old.shape[1:]:
            raise BadInputError(
                f"rows of {name} have shape {tuple(old.shape[1:])}, got {tuple(new.shape[1:])}"
            )
    for name, new in rows.items():
        _replace(module, optimizer, name, partial(_append, new.detach()), zeros=True)


def _append(new: Tensor, old: Tensor) -> Tensor:
    return torch.cat([old, new.to(old)])


def _replace(
    module: nn.Module,
    optimizer: Adam,
    name: str,
    change: Callable[[Tensor], Tensor],
    zeros: bool = False,
) -> None:
    """Put the changed tensor in the old one's place; moments change alike, or get zeros for what is new."""
    old = _tensor(module, name)
    new = change(old.detach())
    if not isinstance(old, nn.Parameter):
        setattr(module, name, new)
        return
    group, place = _group_of(optimizer, old, name)
    parameter = nn.Parameter(new, requires_grad=old.requires_grad)
    state = optimizer.state.pop(old, None)
    if state is not None:
        for key, value in state.items():
            if torch.is_tensor(value) and value.shape == old.shape and value.ndim:
                state[key] = _padded(value, len(new)) if zeros else change(value)
        optimizer.state[parameter] = state
    group["params"][place] = parameter
    setattr(module, name, parameter)


def _padded(moments: Tensor, rows: int) -> Tensor:
    return torch.cat([moments, moments.new_zeros(rows - len(moments), *moments.shape[1:])])


def _tensor(module: nn.Module, name: str) -> Tensor:
    for held in (module._parameters, module._buffers):
        found = held.get(name)
        if found is not None:
            return found
    known = [*module._parameters, *module._buffers]
    raise BadInputError(f"the module has no parameter or buffer {name!r} of its own; it has {known}")


def _group_of(optimizer: Adam, parameter: nn.Parameter, name: str) -> tuple[dict, int]:
    for group in optimizer.param_groups:
        for place, one in enumerate(group["params"]):
            if one is parameter:
                return group, place
    raise BadInputError(f"the optimiser does not train {name}: its rows cannot be edited together")
