"""One function for every back end."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.splatting.dense import rasterize_dense
from papertrial.scenes.splatting.packed import rasterize_packed
from papertrial.scenes.splatting.primitives import Kind, Primitives, RenderOut, Rules, check_inputs

BACKENDS = ("auto", "numba", "torch", "dense")


def rasterize(
    prims: Primitives,
    viewmat: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    width: int,
    height: int,
    *,
    features: Float[Tensor, "n c"],
    kind: Kind = "surfel",
    rules: Rules | None = None,
    backend: str = "auto",
    track: bool = False,
) -> RenderOut:
    """Render primitives into an image, differentiable in all of them.

    Args:
        prims: the primitives, in world coordinates.
        viewmat: world to camera: x right, y down, z forward.
        intrinsics: the camera matrix; pixel centres lie at + 0.5.
        width: of the image, in pixels.
        height: of the image, in pixels.
        features: what is blended: colours, normals, any channels.
        kind: "surfel" or "gaussian".
        rules: further rules; their kind counts where both are given.
        backend: "numba" (compiled, CPU), "torch" (packed pairs, any device), "dense" (all pairs, the oracle);
            "auto" takes numba for tensors on the CPU.
        track: whether gradients of the places on the screen are wanted (`RenderOut.screen_gradients`).

    Raises:
        BadInputError: the inputs cannot be rendered; see `check_inputs`.

    Source: arXiv 2403.17888 (surfels), arXiv 2308.04079 (Gaussians).
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    check_inputs(prims, viewmat, intrinsics, width, height, features)
    probe = torch.zeros_like(prims.means[:, :2], requires_grad=True) if track else None
    chosen = _choose(backend, prims.means.device)
    return chosen(prims, viewmat, intrinsics, width, height, features, rules or Rules(kind), probe)


def _choose(backend: str, device: torch.device) -> Callable[..., RenderOut]:
    if backend == "dense":
        return rasterize_dense
    if backend == "torch" or (backend == "auto" and (device.type != "cpu" or find_spec("numba") is None)):
        return rasterize_packed
    if device.type != "cpu":
        raise BadInputError(
            f"backend='numba' renders on the CPU, the primitives lie on {device}; use 'torch'"
        )
    from papertrial.scenes.splatting.compiled import rasterize_compiled

    return rasterize_compiled
