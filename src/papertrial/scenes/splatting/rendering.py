"""One function for every back end."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.splatting.dense import rasterize_dense
from papertrial.scenes.splatting.gsplat_backend import rasterize_gsplat, refusal
from papertrial.scenes.splatting.packed import rasterize_packed
from papertrial.scenes.splatting.primitives import Kind, Primitives, RenderOut, Rules, check_inputs

BACKENDS = ("auto", "numba", "torch", "gsplat", "dense")


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
        backend: "numba" (compiled, CPU), "torch" (packed pairs, any device), "gsplat" (CUDA; see `gsplat_backend` for
            what it takes a surfel's depth to be), "dense" (all pairs, the oracle). "auto" takes numba for tensors on
            the CPU, and gsplat for those on CUDA, where they are installed and know the rules; otherwise torch.
        track: whether gradients of the places on the screen are wanted (`RenderOut.screen_gradients`).

    Raises:
        BadInputError: the inputs cannot be rendered (see `check_inputs`), or not by this back end.
        MissingExtraError: the back end's library is not installed.

    Source: arXiv 2403.17888 (surfels), arXiv 2308.04079 (Gaussians).
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    check_inputs(prims, viewmat, intrinsics, width, height, features)
    probe = torch.zeros_like(prims.means[:, :2], requires_grad=True) if track else None
    rules = rules or Rules(kind)
    chosen = _choose(backend, prims.means, rules)
    return chosen(prims, viewmat, intrinsics, width, height, features, rules, probe)


def _choose(backend: str, means: Tensor, rules: Rules) -> Callable[..., RenderOut]:
    device = means.device
    if backend == "auto":
        backend = _best(means, rules)
    if backend == "dense":
        return rasterize_dense
    if backend == "torch":
        return rasterize_packed
    if backend == "gsplat":
        if device.type != "cuda":
            raise BadInputError("gsplat can only rasterise on CUDA; use backend='numba'")
        return rasterize_gsplat
    if device.type != "cpu":
        raise BadInputError(
            f"backend='numba' renders on the CPU, the primitives lie on {device}; use 'torch'"
        )
    from papertrial.scenes.splatting.compiled import rasterize_compiled

    return rasterize_compiled


def _best(means: Tensor, rules: Rules) -> str:
    """Return the quickest back end that is installed, for where the primitives lie."""
    if means.device.type == "cpu" and find_spec("numba") is not None:
        return "numba"
    if (
        means.device.type == "cuda"
        and find_spec("gsplat") is not None
        and refusal(rules, means.dtype) is None
    ):
        return "gsplat"
    return "torch"
