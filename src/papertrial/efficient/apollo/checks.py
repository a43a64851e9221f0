"""What a low-rank optimiser refuses: each message names the parameter and what would work."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import torch
from torch import Tensor

from papertrial.errors import BadInputError

PROJECTIONS = ("random", "svd")
DRAW_DEVICES = ("cpu", "gradient")
STATE_DTYPES = ("float32", "gradient")
_USUAL_ADAMW_RATE = 1e-4
_warned_of_small_rate = False


class NonFiniteGradientError(BadInputError):
    """A gradient holds NaN or infinity; nothing was changed by the step that raised this."""


def matrix_shape(tensor: Tensor) -> tuple[int, int]:
    """Return the shape of a tensor as a matrix: all dimensions after the first flattened into one."""
    rows = tensor.shape[0]
    return rows, tensor.numel() // max(rows, 1)


def as_matrix(tensor: Tensor) -> Tensor:
    """Return a tensor as the matrix that `matrix_shape` describes."""
    return tensor if tensor.ndim == 2 else tensor.reshape(matrix_shape(tensor))


def parameter_name(group: dict[str, Any], index: int) -> str:
    """Return a parameter's name, or its number and shape where the group has no names."""
    if "param_names" in group:
        return group["param_names"][index]
    return f"parameter {group['first_number'] + index} of shape {tuple(group['params'][index].shape)}"


def check_finite(norms: dict[Tensor, Tensor], places: dict[Tensor, tuple[dict[str, Any], int]]) -> None:
    """Raise for the first gradient whose norm is not finite, waiting once for each device.

    Args:
        norms: one or more norms of each parameter's gradient.
        places: each parameter's group and its index there.

    Raises:
        NonFiniteGradientError: with the parameter's name.
    """
    by_device: dict[torch.device, list[Tensor]] = {}
    for parameter in norms:
        by_device.setdefault(parameter.device, []).append(parameter)
    for parameters in by_device.values():
        totals = torch.stack([norms[parameter].sum() for parameter in parameters]).tolist()
        for parameter, total in zip(parameters, totals, strict=True):
            if not math.isfinite(total):
                name = parameter_name(*places[parameter])
                raise NonFiniteGradientError(
                    f"the gradient of {name} is not finite (norm {total}); nothing was stepped. "
                    "Lower the learning rate, clip, or skip this batch"
                )


def check_options(group: dict[str, Any], where: str) -> None:
    """Raise `BadInputError` for an option that both optimisers have and that cannot work."""
    for key, choices in (("proj", PROJECTIONS), ("draw_on", DRAW_DEVICES), ("state_dtype", STATE_DTYPES)):
        check_choice(key, group[key], choices, where)
    gap = group["update_proj_gap"]
    if not isinstance(gap, int) or isinstance(gap, bool) or gap < 1:
        raise BadInputError(f"update_proj_gap of {where} must be an int of at least 1, got {gap!r}")
    for key in ("lr", "weight_decay", "eps"):
        value = group[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise BadInputError(f"{key} of {where} must be a number of at least 0, got {value!r}")
    betas = group["betas"]
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise BadInputError(f"betas of {where} must be two numbers in [0, 1), got {betas!r}")


def check_choice(key: str, given: Any, choices: tuple[str, ...], where: str) -> None:
    """Raise `BadInputError`, naming the choices, where an option has none of them."""
    if given not in choices:
        raise BadInputError(f"{key} of {where} must be one of {', '.join(choices)}, got {given!r}")


def check_low_rank(parameter: Tensor, name: str, group: dict[str, Any]) -> None:
    """Raise `BadInputError` for a parameter that cannot have moments of the group's rank."""
    rank = group["rank"]
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise BadInputError(f"rank of {name} must be an int of at least 1, got {rank!r}")
    if _is_sharded(parameter):
        raise BadInputError(
            f"{name} is a sharded DTensor: a local shard has other proportions than the weight, so its channels "
            "would be wrong; train unsharded, or leave it in a group without 'rank'"
        )
    if parameter.ndim < 2:
        raise BadInputError(
            f"{name} has shape {tuple(parameter.shape)}, but a low-rank group takes matrices; put it in a group "
            "without 'rank' (param_groups does). If FSDP flattened it, the weight's shape is lost: train without"
        )
    if parameter.ndim > 2 and not group["flatten"]:
        raise BadInputError(
            f"{name} has shape {tuple(parameter.shape)}; set flatten=True to treat it as the matrix "
            f"{matrix_shape(parameter)}, or put it in a group without 'rank'"
        )
    if parameter.ndim > 2 and not parameter.is_contiguous():
        raise BadInputError(
            f"{name} is not contiguous, so it cannot be flattened in place; call .contiguous()"
        )
    largest = min(matrix_shape(parameter))
    if rank > largest:
        shape = " x ".join(str(size) for size in matrix_shape(parameter))
        raise BadInputError(f"rank of {name} ({shape}) must be between 1 and {largest}, got {rank}")


def _is_sharded(parameter: Tensor) -> bool:
    # Importing it takes half a second; nobody holds a DTensor who has not.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(parameter, module.DTensor)


def warn_of_small_rate(lr: float, optimizer: str) -> None:
    """Warn, once in a process, of a learning rate that looks like AdamW's."""
    global _warned_of_small_rate
    if 0 < lr <= _USUAL_ADAMW_RATE and not _warned_of_small_rate:
        _warned_of_small_rate = True
        warnings.warn(
            f"{optimizer} with lr {lr:g}: for pre-training its usual rate is about ten times AdamW's (0.01); "
            "rates this small are for fine-tuning",
            UserWarning,
            stacklevel=4,
        )
