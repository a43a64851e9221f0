"""Layer-wise mode: each parameter steps inside the backward pass, and its gradient is freed at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from papertrial.efficient.apollo.lowrank import LowRankOptimizer
from papertrial.errors import BadInputError


class LayerwiseSteps:
    """Steps every parameter of an optimiser as soon as its gradient is there, then frees the gradient.

    At no time do all gradients exist together. The training loop stays as it was: `optimizer.step()`
    still has to be called once a batch (it finds no gradients and marks the boundary), schedulers work,
    and Trainer works. Gradient accumulation cannot, nor clipping of the global norm.

    Args:
        optimizer: whose parameters step in the backward pass until `remove` is called.

    Raises:
        BadInputError: under data parallelism, whose gradients are not averaged yet when the hook runs;
            in the backward pass, when a parameter gets a second gradient before `optimizer.step()`.

    Source: arXiv 2412.05270, section 5.3 (layer-wise gradient update).
    """

    def __init__(self, optimizer: LowRankOptimizer) -> None:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            raise BadInputError(
                f"layer-wise steps do not work in {distributed.get_world_size()} data-parallel processes: each would "
                "step on its own gradients before they are averaged; use one process, or the plain optimizer"
            )
        self._optimizer = optimizer
        self._stepped: set[Tensor] = set()
        self._handles: list[Any] = [optimizer.register_step_post_hook(self._end_batch)]
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    self._handles.append(parameter.register_post_accumulate_grad_hook(self._step))

    def remove(self) -> None:
        """Take the hooks off again; the optimiser steps as usual afterwards."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _step(self, parameter: Tensor) -> None:
        if parameter in self._stepped:
            raise BadInputError(
                f"a parameter of shape {tuple(parameter.shape)} got a second gradient before optimizer.step(): "
                "layer-wise steps need gradient accumulation 1"
            )
        self._stepped.add(parameter)
        self._optimizer.step_parameter(parameter)
        parameter.grad = None

    def _end_batch(self, *_: Any) -> None:
        self._stepped.clear()
