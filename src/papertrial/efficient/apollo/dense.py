"""AdamW for the parameters that stay dense: embeddings, norms, biases, the output head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from papertrial.efficient.apollo.scaling import adam_direction, bias_correction

_FUSED_DEVICES = ("cpu", "cuda", "xpu", "mps")


def step_dense(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], states: Sequence[dict[str, Any]], group: Any
) -> None:
    """Advance dense parameters by one AdamW step, in place.

    ε is added to the root of the *uncorrected* second moment and the decay falls on the weight already
    moved, as in the low-rank groups (and in the released code); torch.optim.AdamW does neither.

    Args:
        parameters: the weights, all of one group.
        gradients: their gradients, same shapes and dtypes.
        states: each with `step` (an int, already counting this step), `exp_avg` and `exp_avg_sq`.
        group: the parameter group: lr, betas, eps, weight_decay.
    """
    buckets: dict[tuple[Any, ...], list[int]] = {}
    for index, (parameter, state) in enumerate(zip(parameters, states, strict=True)):
        fusible = parameter.device.type in _FUSED_DEVICES and parameter.dtype == state["exp_avg"].dtype
        key = (fusible and group["lr"] > 0, state["step"], parameter.device, parameter.dtype)
        buckets.setdefault(key, []).append(index)
    for (fusible, step, *_), indices in buckets.items():
        columns = (
            [parameters[i] for i in indices],
            [gradients[i] for i in indices],
            [states[i] for i in indices],
        )
        (_step_fused if fusible else _step_plain)(*columns, step, group)


def _step_fused(
    parameters: list[Tensor], gradients: list[Tensor], states: list[dict[str, Any]], step: int, group: Any
) -> None:
    """One pass of torch's fused kernel, its arguments chosen so that the result is `_step_plain`'s.

    With c = √(1 − β2ᵗ) torch divides by √V/c + ε′, so ε′ = ε/c gives (√V + ε)/c. Torch decays first:
    W(1 − lr′·wd′) − lr′·U; the decay after the step is (W − lr·U)(1 − lr·wd), so lr′ = lr(1 − lr·wd) and
    lr′·wd′ = lr·wd.
    """
    beta1, beta2 = group["betas"]
    decay = group["lr"] * group["weight_decay"]
    lr = group["lr"] * (1 - decay)
    if lr <= 0:
        _step_plain(parameters, gradients, states, step, group)
        return
    counters = torch.full((len(parameters),), float(step - 1), device=parameters[0].device).unbind()
    adamw(
        parameters,
        gradients,
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        list(counters),
        fused=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=lr,
        weight_decay=decay / lr,
        eps=group["eps"] / math.sqrt(1 - beta2**step),
        maximize=False,
    )


def _step_plain(
    parameters: list[Tensor], gradients: list[Tensor], states: list[dict[str, Any]], step: int, group: Any
) -> None:
    rate = group["lr"] * bias_correction(step, group["betas"])
    for parameter, gradient, state in zip(parameters, gradients, states, strict=True):
        direction = adam_direction(
            gradient, state["exp_avg"], state["exp_avg_sq"], betas=group["betas"], eps=group["eps"]
        )
        moved = parameter.to(direction.dtype).sub(direction, alpha=rate)
        parameter.copy_(moved.mul_(1 - group["lr"] * group["weight_decay"]))
