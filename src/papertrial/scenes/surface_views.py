"""What a camera sees of primitives: colour, the depth of the surface, and two kinds of normals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, depth_to_normal
from papertrial.scenes.splatting import Primitives, RenderOut, Rules, rasterize

BLACK = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class SurfaceView:
    """One view of primitives, differentiable.

    Attributes:
        camera: that sees it.
        colour: with its background.
        alpha: how much of each pixel is covered.
        depth: of the surface; see `surface_depth`.
        normals: blended normals in the world's frame, facing the camera, as long as the pixel is covered. Gaussians
            have none of their own: theirs are `surface_normals`.
        distortion: of the depths along each pixel's ray.
        out: the rasteriser's, for places on the screen.

    Source: arXiv 2403.17888, equations 13 to 15 and its released renderer.
    """

    camera: Camera
    colour: Float[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    normals: Float[Tensor, "h w 3"]
    distortion: Float[Tensor, "h w"]
    out: RenderOut

    @cached_property
    def surface_normals(self) -> Float[Tensor, "h w 3"]:
        """Those of the depth map, times alpha without its gradient; in the world's frame, 0 at the border."""
        return _depth_normals(self.out, self.depth, self.camera)


class SurfaceShape(NamedTuple):
    """Depth and normals of one view, as in `SurfaceView`."""

    camera: Camera
    depth: Tensor
    normals: Tensor


def look_at_surface(
    prims: Primitives,
    colours: Float[Tensor, "n 3"],
    camera: Camera,
    *,
    rules: Rules | None = None,
    depth_ratio: float = 1.0,
    background: tuple[float, float, float] = BLACK,
    backend: str = "auto",
    track: bool = False,
) -> SurfaceView:
    """Render colours, the surface's depth and normals of surfels or Gaussians.

    Args:
        prims: in the world.
        colours: of each primitive as this camera sees it.
        camera: in the primitives' precision.
        rules: how primitives become pixels; their kind is the primitives'.
        depth_ratio: share of the median depth in the surface's; see `surface_depth`.
        background: colour where nothing is.
        backend: of `rasterize`.
        track: whether gradients of the places on the screen are wanted.

    Raises:
        BadInputError: a ratio outside 0 to 1, or primitives that cannot be rendered.
    """
    rules = rules or Rules()
    surfels = rules.kind == "surfel"
    features = torch.cat([colours, facing_normals(prims, camera)], dim=-1) if surfels else colours
    out = rasterize(
        prims,
        camera.viewmat,
        camera.intrinsics,
        camera.width,
        camera.height,
        features=features,
        rules=rules,
        kind=rules.kind,
        backend=backend,
        track=track,
    )
    behind = (1 - out.alpha)[..., None] * out.features.new_tensor(background)
    depth = surface_depth(out, depth_ratio)
    normals = out.features[..., 3:] if surfels else _depth_normals(out, depth, camera)
    return SurfaceView(camera, out.features[..., :3] + behind, out.alpha, depth, normals, out.distortion, out)


@torch.no_grad()
def look_at_shape(
    prims: Primitives,
    camera: Camera,
    *,
    rules: Rules | None = None,
    depth_ratio: float = 1.0,
    backend: str = "auto",
) -> SurfaceShape:
    """Render the depth and the normals that `look_at_surface` gives, without colours and without gradients.

    Raises:
        BadInputError: see `look_at_surface`.
    """
    rules = rules or Rules()
    surfels = rules.kind == "surfel"
    features = facing_normals(prims, camera) if surfels else prims.opacities[:, None]
    size = (camera.width, camera.height)
    out = rasterize(
        prims,
        camera.viewmat,
        camera.intrinsics,
        *size,
        features=features,
        rules=rules,
        kind=rules.kind,
        backend=backend,
    )
    depth = surface_depth(out, depth_ratio)
    return SurfaceShape(camera, depth, out.features if surfels else _depth_normals(out, depth, camera))


def _depth_normals(out: RenderOut, depth: Tensor, camera: Camera) -> Tensor:
    return depth_to_normal(depth, camera) * out.alpha.detach()[..., None]


def surface_depth(out: RenderOut, depth_ratio: float) -> Float[Tensor, "h w"]:
    """Return `(1 - ratio) expected + ratio median`: the expected depth for open scenes, the median for bounded ones.

    The expected depth is the sum of weights times depths over the sum of weights; both are 0 where nothing is.

    Raises:
        BadInputError: a ratio outside 0 to 1.

    Source: arXiv 2403.17888's released renderer.
    """
    if not 0 <= depth_ratio <= 1:
        raise BadInputError(f"depth_ratio lies between 0 (expected) and 1 (median), got {depth_ratio}")
    if depth_ratio == 1:
        return out.median_depth
    covered = out.alpha > 0
    expected = torch.where(covered, out.depth / torch.where(covered, out.alpha, 1.0), 0.0)
    if depth_ratio == 0:  # a back end may have no median
        return expected
    return (1 - depth_ratio) * expected + depth_ratio * out.median_depth


def facing_normals(prims: Primitives, camera: Camera) -> Float[Tensor, "n 3"]:
    """Return surfels' unit normals in the world's frame, turned towards the camera."""
    w, x, y, z = torch.nn.functional.normalize(prims.quats, dim=-1).unbind(-1)
    # the last column of `quaternion_to_matrix`
    normals = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], dim=-1)
    away = (normals.detach() * (prims.means.detach() - camera.centre)).sum(-1, keepdim=True) > 0
    return normals * torch.where(away, -1.0, 1.0).to(normals)
