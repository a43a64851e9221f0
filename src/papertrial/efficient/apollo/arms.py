"""The trials' arms: which optimiser each name stands for, and what is measured of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from papertrial.efficient.apollo.galore import GaLore
from papertrial.efficient.apollo.groups import param_groups
from papertrial.efficient.apollo.optimizer import Apollo
from papertrial.efficient.apollo.quantized import QApollo, quantize_linears
from papertrial.errors import unknown

_MATRIX_RATE = 0.1


def make_optimizer(
    arm: str,
    model: nn.Module,
    *,
    lr: float,
    rank: int,
    gap: int,
    mini_scale: float,
    galore_scale: float,
    seed: int,
) -> Optimizer:
    """Return the optimiser of an arm; the int8 arm quantises the model in place first.

    Raises:
        BadInputError: an unknown arm, or a rank that some weight is too small for.
    """
    common: dict[str, Any] = {"lr": lr, "update_proj_gap": gap, "seed": seed}

    def apollo(rank: int = rank, **options: Any) -> Optimizer:
        return Apollo(param_groups(model, rank=rank), **options, **common)

    def galore(**options: Any) -> Optimizer:
        return GaLore(param_groups(model, rank=rank), scale=galore_scale, **options, **common)

    def int8() -> Optimizer:
        layers = quantize_linears(model)
        groups = param_groups(model, rank=rank)
        return QApollo(groups, layers, weight_decay=0.0, **common)

    def two_rates() -> Optimizer:
        dense, matrices = param_groups(model, rank=1)
        groups = [
            {"params": dense["params"]},
            {"params": matrices["params"], "lr": lr * _MATRIX_RATE},
        ]
        return torch.optim.AdamW(groups, lr=lr, weight_decay=0.0, fused=True)

    def adamw(**kernel: Any) -> Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, **kernel)

    makers: dict[str, Callable[[], Optimizer]] = {
        "adamw": lambda: adamw(fused=True),
        "adamw-foreach": lambda: adamw(foreach=True),
        "adamw-two-rates": two_rates,
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9),
        "galore": galore,
        "galore-random": lambda: galore(proj="random"),
        "apollo": apollo,
        "apollo-half": lambda: apollo(rank=max(1, rank // 2)),
        "apollo-svd": lambda: apollo(proj="svd"),
        "apollo-mini": lambda: apollo(rank=1, scale=mini_scale, scale_type="tensor"),
        "q-apollo": int8,
    }
    if arm not in makers:
        raise unknown("arm", arm, makers)
    return makers[arm]()


def state_bytes(optimizer: Optimizer, parameters: Iterable[Tensor] | None = None) -> int:
    """Return the bytes of all state tensors, or of those that belong to some parameters."""
    chosen = optimizer.state if parameters is None else parameters
    values = (value for parameter in chosen for value in optimizer.state[parameter].values())
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


def time_steps(optimizer: Optimizer) -> list[float]:
    """Return a list that grows by the seconds of each of the optimiser's steps from now on."""
    seconds: list[float] = []
    started = [0.0]

    def start(*_: Any) -> None:
        started[0] = time.perf_counter()

    def stop(*_: Any) -> None:
        seconds.append(time.perf_counter() - started[0])

    optimizer.register_step_pre_hook(start)
    optimizer.register_step_post_hook(stop)
    return seconds
