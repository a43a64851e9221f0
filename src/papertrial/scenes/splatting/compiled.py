"""The CPU's back end: the compiled kernels as one differentiable function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.splatting import blending_kernels, projection_kernels
from papertrial.scenes.splatting.kernel_basis import (
    BANDS,
    FEATURES,
    GAUSSIAN,
    GRADIENTS,
    LIGHT,
    MEDIAN,
    SCREEN_COLUMNS,
    SUM_W,
    SUM_WM,
    SUM_WMM,
    SUM_WZ,
    SURFEL,
)
from papertrial.scenes.splatting.primitives import Primitives, RenderOut, Rules


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

    Takes some ten seconds the first time on a machine and a second or two in every later process; nothing where
    the process has rendered before. Both kinds of primitives are ready afterwards. The compiled code is kept beside
    the kernels' source, or in the user's cache folder where that cannot be written to (NUMBA_CACHE_DIR moves it).
    """
    like = torch.ones(1, 3, dtype=torch.float32)
    prims = Primitives(like.clone().requires_grad_(), torch.ones(1, 4), like, like[0, :1])
    out = rasterize_compiled(prims, torch.eye(4), torch.eye(3), 1, 1, like, Rules())
    out.features.sum().backward()


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
        given = (means, quats, scales, opacities, features, viewmat, intrinsics)
        means_, quats_, scales_, opacities_, colours, view, camera = map(_array, given)
        kind = SURFEL if rules.kind == "surfel" else GAUSSIAN
        count, size = len(means_), (height, width)
        screen, depth, reach = np.zeros((count, SCREEN_COLUMNS)), np.zeros(count), np.zeros(count)
        rows = np.zeros((count, 2), dtype=np.int64)
        shapes = (means_, quats_, scales_)
        _side_by_side(
            projection_kernels.project,
            kind,
            count,
            (*shapes, opacities_, view, camera, width, height, rules.near, screen, depth, rows, reach),
        )
        seen = np.flatnonzero(rows[:, 0] < rows[:, 1])
        order = seen[np.argsort(depth[seen], kind="stable")]
        # from here on primitives lie in the order of their depth, those that are not seen left out
        scene = tuple(one[order] for one in (screen, rows, reach, opacities_, colours))
        far = rules.far if rules.distortion == "ndc" else 0.0
        near_at_pixel = rules.near if rules.near_at_pixel else -np.inf
        how = (width, rules.most_alpha, near_at_pixel, rules.near, far)
        pixels = np.zeros((*size, FEATURES + colours.shape[1]))
        pixels[..., LIGHT] = 1.0
        chosen, touched = np.full(size, -1, dtype=np.int64), np.zeros(len(order), dtype=np.bool_)
        _side_by_side(blending_kernels.blend, kind, height, (*scene, *how, pixels, chosen, touched))
        ctx.saved = (kind, size, count, order, scene, how, shapes, view, camera, pixels, chosen)
        ctx.dtypes = [one.dtype for one in (means, quats, scales, opacities, features, probe)]
        w, wz, wm, wmm = (pixels[..., at] for at in (SUM_W, SUM_WZ, SUM_WM, SUM_WMM))
        found = (pixels[..., FEATURES:], w, wz, w * wmm - wm**2, pixels[..., MEDIAN])
        outs = [torch.from_numpy(one).to(means.dtype, copy=True) for one in found]
        visible = torch.from_numpy(np.sort(order[touched]))
        ctx.mark_non_differentiable(visible)
        return (*outs, visible)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kind, size, count, order, scene, how, shapes, view, camera, image, chosen = ctx.saved
        screen, rows, _, _, colours = scene
        seen = len(order)
        pixels = np.empty((*size, GRADIENTS + colours.shape[1]))
        of_outputs = [_array(grad) for grad in grads[:5]]
        _side_by_side(blending_kernels.backward_pixels, kind, size[0], (image, *of_outputs, pixels))
        to_screen, to_opacity = np.zeros((BANDS, *screen.shape)), np.zeros((BANDS, seen))
        to_features = np.zeros((BANDS, *colours.shape))
        _side_by_side(
            blending_kernels.blend_backward,
            kind,
            size[0],
            (*scene, *how, chosen, pixels),
            each=(to_screen, to_opacity, to_features),
        )
        outs = [np.zeros((seen, columns)) for columns in (3, 4, 3, 2)]
        parts = [one[order] for one in shapes]
        _side_by_side(
            projection_kernels.project_backward,
            kind,
            seen,
            (*parts, view, camera, size[1], size[0], screen, rows, to_screen, *outs),
        )
        to_means, to_quats, to_scales, to_probe = outs
        results = (to_means, to_quats, to_scales, to_opacity.sum(0), to_features.sum(0), to_probe)
        found = [_scattered(one, order, count, dtype) for one, dtype in zip(results, ctx.dtypes, strict=True)]
        return (*found, None, None, None, None, None)


def _scattered(values: Any, order: Any, count: int, dtype: torch.dtype) -> Tensor:
    """Return the values of the primitives that were seen in their own places, zeros elsewhere."""
    full = np.zeros((count, *values.shape[1:]))
    full[order] = values
    return torch.from_numpy(full).to(dtype)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().double().contiguous().numpy()


def _side_by_side(
    kernel: Callable[..., None], kind: int, count: int, given: Sequence[Any], each: Sequence[Any] = ()
) -> None:
    """Run a kernel over `count` rows or primitives in bands, as many at a time as torch has threads.

    `each` are arrays whose first axis is the band: every band is given its own part.
    """
    ends = [band * count // BANDS for band in range(BANDS + 1)]
    parts = [
        (kind, ends[band], ends[band + 1], *given, *(one[band] for one in each)) for band in range(BANDS)
    ]
    if torch.get_num_threads() == 1:
        for part in parts:
            kernel(*part)
        return
    for waiting in [_workers(torch.get_num_threads()).submit(kernel, *part) for part in parts]:
        waiting.result()


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="splatting")
