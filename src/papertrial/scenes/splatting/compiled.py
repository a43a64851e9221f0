"""The CPU's back end: the compiled kernels as one differentiable function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.compiling import announce
from papertrial.scenes.splatting import backward_kernels, blending_kernels, projection_kernels
from papertrial.scenes.splatting.kernel_basis import (
    BANDS,
    FEATURES,
    GAUSSIAN,
    SCREEN_COLUMNS,
    SURFEL,
    TO_FEATURES,
    padded,
)
from papertrial.scenes.splatting.primitives import Primitives, RenderOut, Rules
from papertrial.threads import kernel_threads, workers

_PRIMITIVES_A_THREAD = 2048  # projecting fewer takes no longer than waking a thread


def rasterize_compiled(
    prims: Primitives,
    viewmat: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
    features: Float[Tensor, "n c"],
    rules: Rules,
    probe: Float[Tensor, "n 2"] | None = None,
) -> RenderOut:
    """Render with the compiled kernels; gradients of primitives and features are analytic.

    The first call compiles, which takes seconds; the result is kept on disk (see `warm_up`). Bands of rows run in as
    many threads as torch has. That pays where torch's own threads sleep while they wait (`papertrial.threads`): the
    commands see to it, a program of your own sets OMP_WAIT_POLICY=passive before Python starts.

    Raises:
        BadInputError: a gradient of the camera is wanted, which these kernels do not give.
    """
    if viewmat.requires_grad or intrinsics.requires_grad:
        raise BadInputError("backend='numba' gives no gradient of the camera; use backend='torch'")
    _announce()
    if probe is None:
        probe = prims.means.new_zeros(len(prims), 2)
    outs = _Render.apply(
        prims.means,
        prims.quats,
        prims.scales,
        prims.opacities,
        features,
        probe,
        viewmat,
        intrinsics,
        width,
        height,
        rules,
    )
    image, alpha, depth, distortion, median, visible = outs
    return RenderOut(image, alpha, depth, distortion, median, visible, probe, (width, height))


def warm_up() -> None:
    """Compile the kernels, or load them from the disk, so that a clock may start after it.

    Takes some fifteen seconds the first time on a machine and a second or two in every later process; nothing where
    the process has rendered before. Both kinds of primitives are ready afterwards, in float32: float64 is compiled
    for itself when it is first met. The compiled code is kept beside the kernels' source, or in the user's cache
    folder where that cannot be written to (NUMBA_CACHE_DIR moves it).
    """
    like = torch.ones(1, 3, dtype=torch.float32)
    prims = Primitives(like.clone().requires_grad_(), torch.ones(1, 4), like, like[0, :1])
    out = rasterize_compiled(prims, torch.eye(4), torch.eye(3), 1, 1, like, Rules())
    out.features.sum().backward()


@cache
def _announce() -> None:
    announce(
        "the rasteriser",
        projection_kernels.project,
        projection_kernels.project_backward,
        blending_kernels.blend,
        backward_kernels.blend_backward,
    )


class _Render(torch.autograd.Function):
    """Projection, sorting and blending in one step, so that nothing between them is kept by autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        features: Tensor,
        probe: Tensor,
        viewmat: Tensor,
        intrinsics: Tensor,
        width: int,
        height: int,
        rules: Rules,
    ) -> tuple[Tensor, ...]:
        shapes, opacities_, colours = _numbers((means, quats, scales), opacities, features)
        view, camera = (one.detach().double().numpy() for one in (viewmat, intrinsics))
        kind = SURFEL if rules.kind == "surfel" else GAUSSIAN
        count, channels = len(opacities_), colours.shape[1]
        screen, depth, reach = np.empty((count, SCREEN_COLUMNS)), np.empty(count), np.empty(count)
        rows = np.zeros((count, 2), dtype=np.int32)
        parts = (*shapes, opacities_, view, camera, width, height, rules.near, screen, depth, rows, reach)
        _side_by_side(projection_kernels.project, kind, count, parts, _shares(count))
        seen = np.flatnonzero(rows[:, 0] < rows[:, 1])
        order = _front_to_back(seen, depth[seen])
        far = rules.far if rules.distortion == "ndc" else 0.0
        near_at_pixel = rules.near if rules.near_at_pixel else -np.inf
        planes = np.empty((height, FEATURES + channels, padded(width)))
        places = np.empty((BANDS, len(order)), dtype=np.int32)
        how = (width, rules.most_alpha, near_at_pixel, rules.near, far)
        scene = (order, screen, rows, reach, opacities_, colours, *how, planes, places)
        dtype = colours.dtype
        images = [np.empty((height, width), dtype) for _ in range(4)]
        outputs = (np.empty((height, width, channels), dtype), *images)
        _side_by_side(blending_kernels.blend, kind, height, (*scene, outputs))
        ctx.saved = (kind, count, shapes, view, camera, scene)
        shown = np.zeros(count, dtype=np.bool_)
        shown[order[(places >= 0).any(0)]] = True
        visible = torch.from_numpy(np.flatnonzero(shown))
        ctx.mark_non_differentiable(visible)
        return (*(torch.from_numpy(one).to(means.dtype) for one in outputs), visible)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kind, count, shapes, view, camera, scene = ctx.saved
        order, screen, _, _, opacities, colours, width, *_, planes, places = scene
        height, channels = len(planes), colours.shape[1]
        gradients = np.empty((BANDS, len(order), TO_FEATURES + channels))
        of_outputs = tuple(grad.detach().contiguous().numpy() for grad in grads[:5])
        _side_by_side(backward_kernels.blend_backward, kind, height, (*scene, of_outputs, gradients))
        outs = [np.zeros((count, columns), dtype=colours.dtype) for columns in (3, 4, 3)]
        outs += [np.zeros_like(one) for one in (opacities, colours)]
        outs.append(np.zeros((count, 2), dtype=colours.dtype))
        parts = (order, *shapes, view, camera, width, height, screen, places, gradients, *outs)
        _side_by_side(projection_kernels.project_backward, kind, len(order), parts, _shares(len(order)))
        return (*(torch.from_numpy(one) for one in outs), None, None, None, None, None)


def _numbers(shapes: Sequence[Tensor], opacities: Tensor, features: Tensor) -> tuple[Any, Any, Any]:
    """Return arrays of one type: float32 where all are, else float64, since kernels are compiled for each."""
    given = (*shapes, opacities, features)
    dtype = torch.float32 if all(one.dtype == torch.float32 for one in given) else torch.float64
    arrays = [one.detach().to(dtype).contiguous().numpy() for one in given]
    return tuple(arrays[:3]), arrays[3], arrays[4]


def _front_to_back(seen: Any, depth: Any) -> Any:
    """Return what is seen in the order of its depth; what lies equally deep stays in the order it was given in."""
    order = np.argsort(depth)  # three times as fast as a stable one
    at = np.flatnonzero(np.diff(depth[order]) == 0)
    for run in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1) if len(at) else ():
        order[run[0] : run[-1] + 2].sort()
    return seen[order]


def _shares(count: int) -> int:
    """Return in how many parts primitives are projected, each for itself."""
    return max(1, min(kernel_threads(), count // _PRIMITIVES_A_THREAD))


def _side_by_side(
    kernel: Callable[..., None], kind: int, count: int, given: Sequence[Any], bands: int = BANDS
) -> None:
    """Run a kernel over `count` rows or primitives in bands, as many at a time as there are threads."""
    ends = [band * count // bands for band in range(bands + 1)]
    parts = iter([(kind, band, ends[band], ends[band + 1], *given) for band in range(bands)])

    def work() -> None:
        for part in parts:  # whoever is free takes the next one
            kernel(*part)

    others = min(kernel_threads(), bands) - 1
    waiting = [workers(others).submit(work) for _ in range(others)]
    work()
    for one in waiting:
        one.result()
