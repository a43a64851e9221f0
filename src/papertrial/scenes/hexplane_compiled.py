"""The compiled kernels of six-plane fields as differentiable functions; `field` is the `HexPlane` that is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.scenes import hexplane_kernels, hexplane_penalty_kernels
from papertrial.scenes.hexplane import TIME, HexPlane, Penalty
from papertrial.threads import kernel_threads, workers

_VALUES_A_THREAD = 1 << 16  # with fewer, waking a thread takes longer than it saves


def sample(
    field: HexPlane, points: Float[Tensor, "n 3"], times: Float[Tensor, " n"] | float
) -> Float[Tensor, "n features"]:
    """Return a field's features of places at times; see `HexPlane.forward`."""
    return _Sample.apply(field.cells, points, times, field)


def penalise(field: HexPlane, weights: Penalty) -> Float[Tensor, ""]:
    """Return a field's weighted regularisers; see `HexPlane.penalty`."""
    return _Penalise.apply(field.cells, weights, field)


class _Sample(torch.autograd.Function):
    """The kernel `sample` over all scales, with its analytic gradient."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, points: Tensor, times: Tensor | float, field: HexPlane) -> Tensor:
        planes = cells.detach().contiguous()
        at = field.shares(points, times).to(planes.dtype).contiguous()
        out = planes.new_empty(len(at), field.features)
        given = (planes.numpy(), *field.layout)
        of_scale = [(*given, scale, at.numpy(), out.numpy()) for scale in range(len(field.sizes))]
        _side_by_side(hexplane_kernels.sample, of_scale, len(at) * planes.shape[1])
        ctx.saved = (given, at, points.dtype)
        ctx.field, ctx.cells = field, cells
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (given, at, dtype), field = ctx.saved, ctx.field
        held = _accumulator(ctx)
        to_planes = torch.zeros_like(torch.from_numpy(given[0])) if held is None else held
        to_at = at.new_zeros(len(field.sizes), *at.shape)
        push = grads[0].contiguous().numpy()
        of_scale = [
            (*given, scale, at.numpy(), push, to_planes.numpy(), to_at[scale].numpy())
            for scale in range(len(field.sizes))
        ]
        _side_by_side(hexplane_kernels.sample_backward, of_scale, push.size // len(field.sizes))
        whole = to_at.sum(0).to(dtype)
        low, high = field.box
        to_times = None
        if ctx.needs_input_grad[2]:
            to_times = whole[:, TIME] * (1 if field.time_range == "full" else 0.5)
        return None if held is not None else to_planes, whole[:, :TIME] / (high - low), to_times, None


class _Penalise(torch.autograd.Function):
    """The kernel `regularise` over all planes, with its analytic gradient."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, weights: Penalty, field: HexPlane) -> Tensor:
        planes = cells.detach().contiguous()
        ctx.given = (planes.numpy(), *field.layout, *weights)
        ctx.field, ctx.cells = field, cells
        return planes.new_tensor(hexplane_penalty_kernels.regularise(*ctx.given))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        held = _accumulator(ctx)
        to_planes = torch.zeros_like(torch.from_numpy(ctx.given[0])) if held is None else held
        hexplane_penalty_kernels.regularise_backward(*ctx.given, float(grads[0]), to_planes.numpy())
        return None if held is not None else to_planes, None, None


def _accumulator(ctx: Any) -> Tensor | None:
    """Return the gradient that the field keeps in place, if it was the field's own cells that were read."""
    field: HexPlane = ctx.field
    return field.accumulator() if ctx.cells is field.cells else None


def _side_by_side(kernel: Callable[..., None], of_scale: Sequence[tuple[Any, ...]], values: int) -> None:
    """Run a kernel for every scale, which gives so many values: side by side, for scales share no cell."""
    if kernel_threads() == 1 or values < _VALUES_A_THREAD:
        for given in of_scale:
            kernel(*given)
        return
    for waiting in [workers(kernel_threads()).submit(kernel, *given) for given in of_scale]:
        waiting.result()
