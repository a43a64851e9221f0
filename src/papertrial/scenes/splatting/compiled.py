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
from papertrial.scenes.splatting.kernel_basis import BANDS, GAUSSIAN, GAUSSIAN_COLUMNS, SURFEL, SURFEL_COLUMNS
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
    many threads as torch has. Torch's own threads spin after each of its operations and hold cores meanwhile: where
    there are two threads or more, set OMP_WAIT_POLICY=passive before Python starts, or steps on a busy machine may
    take several times as long.

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
        screen = np.zeros((count, SURFEL_COLUMNS if kind == SURFEL else GAUSSIAN_COLUMNS))
        depth, reach, rows = np.zeros(count), np.zeros(count), np.zeros((count, 2), dtype=np.int64)
        shapes = (means_, quats_, scales_)
        _side_by_side(
            projection_kernels.project,
            kind,
            count,
            (*shapes, opacities_, view, camera, width, height, rules.near, screen, depth, rows, reach),
        )
        seen = np.flatnonzero(rows[:, 0] < rows[:, 1])
        order = seen[np.argsort(depth[seen], kind="stable")]
        far = rules.far if rules.distortion == "ndc" else 0.0
        near_at_pixel = rules.near if rules.near_at_pixel else -np.inf
        scene = (screen, rows, reach, order, opacities_, colours)
        how = (width, rules.most_alpha, near_at_pixel, rules.near, far)
        image, sums, median = np.zeros((*size, colours.shape[1])), np.zeros((*size, 4)), np.zeros(size)
        chosen, light = np.full(size, -1, dtype=np.int64), np.ones(size)
        ended, touched = np.zeros(size, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
        _side_by_side(
            blending_kernels.blend,
            kind,
            height,
            (*scene, *how, image, sums, median, chosen, light, ended, touched),
        )
        ctx.saved = (kind, size, scene, how, shapes, view, camera, image, sums, chosen)
        ctx.dtypes = [one.dtype for one in (means, quats, scales, opacities, features, probe)]
        distortion = sums[..., 0] * sums[..., 3] - sums[..., 2] ** 2
        found = (image, sums[..., 0], sums[..., 1], distortion, median)
        outs = [torch.from_numpy(one).to(means.dtype) for one in found]
        visible = torch.from_numpy(np.flatnonzero(touched))
        ctx.mark_non_differentiable(visible)
        return (*outs, visible)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kind, size, scene, how, shapes, view, camera, image, sums, chosen = ctx.saved
        screen, rows, colours = scene[0], scene[1], scene[5]
        bands, count = BANDS, len(screen)
        to_screen, to_opacity = np.zeros((bands, *screen.shape)), np.zeros((bands, count))
        to_features = np.zeros((bands, *colours.shape))
        room = (np.zeros(size), np.ones(size), np.zeros(size), np.zeros(size, dtype=np.bool_))
        given = (image, sums, chosen, *map(_array, grads[:5]), *room)
        _side_by_side(
            blending_kernels.blend_backward,
            kind,
            size[0],
            (*scene, *how, *given),
            each=(to_screen, to_opacity, to_features),
        )
        outs = [np.zeros((count, columns)) for columns in (3, 4, 3, 2)]
        _side_by_side(
            projection_kernels.project_backward,
            kind,
            count,
            (*shapes, view, camera, size[1], size[0], screen, rows, to_screen, *outs),
        )
        to_means, to_quats, to_scales, to_probe = outs
        results = (to_means, to_quats, to_scales, to_opacity.sum(0), to_features.sum(0), to_probe)
        found = [torch.from_numpy(one).to(dtype) for one, dtype in zip(results, ctx.dtypes, strict=True)]
        return (*found, None, None, None, None, None)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().double().contiguous().numpy()


def _side_by_side(
    kernel: Callable[..., None], kind: int, count: int, given: Sequence[Any], each: Sequence[Any] = ()
) -> None:
    """Run a kernel over `count` rows or primitives in bands, as many at a time as torch has threads.

    `each` are arrays whose first axis is the band: every band is given its own part.
    """
    ends = [band * count // BANDS for band in range(BANDS + 1)]

    def run(band: int) -> None:
        kernel(kind, ends[band], ends[band + 1], *given, *(one[band] for one in each))

    if torch.get_num_threads() == 1:
        for band in range(BANDS):
            run(band)
        return
    for _ in _workers(torch.get_num_threads()).map(run, range(BANDS)):
        pass


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="splatting")
