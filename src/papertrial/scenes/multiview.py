"""Consistency between views: planes carried from one image to another, and patches compared.

Source: arXiv 2412.03428, section 4.3 and equations 14 to 17; the warp is arXiv 2406.06521's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.cameras import Camera, pixel_grid
from papertrial.scenes.compiled_losses import Way, compare_views
from papertrial.scenes.compiling import compiles

PATCH = 11  # pixels a side
MOST_ERROR = 1.0  # pixels: a round trip that ends farther away is not compared
MOST_DEGREES = 30.0  # between the optical axes of neighbours
_STEADY = 1e-8  # added to variances
_FLAT = 1e-6  # variance of a patch that has no texture
_LEAST_DISTANCE = 1e-6  # of a plane from the camera
_BACKENDS = ("auto", "torch")


def nearest_neighbours(cameras: Sequence[Camera], most_degrees: float = MOST_DEGREES) -> list[int | None]:
    """Return for each camera the nearest one that looks at most so many degrees elsewhere, or None.

    Raises:
        BadInputError: fewer than two cameras.
    """
    if len(cameras) < 2:
        raise BadInputError(f"consistency between views needs at least 2 cameras, got {len(cameras)}")
    centres = torch.stack([camera.centre for camera in cameras]).double()
    axes = torch.stack([camera.forward for camera in cameras]).double()
    apart = torch.cdist(centres, centres)
    far = axes @ axes.T < math.cos(math.radians(most_degrees)) - 1e-12
    apart = apart.masked_fill(far, math.inf).fill_diagonal_(math.inf)
    distance, place = apart.min(dim=1)
    return [int(at) if math.isfinite(d) else None for d, at in zip(distance.tolist(), place, strict=True)]


def plane_homography(
    reference: Camera,
    neighbour: Camera,
    normals: Float[Tensor, "*n 3"],
    distances: Float[Tensor, "*n"],
) -> Float[Tensor, "*n 3 3"]:
    """Return for each plane the map from homogeneous pixels of the reference to those of the neighbour.

    `H = K_n (R - t nᵀ / d) K_r⁻¹`, where a point of the neighbour's frame is `R X + t`.

    Args:
        reference: whose frame the planes are in.
        neighbour: the other camera.
        normals: unit, facing the reference camera.
        distances: `d = -n · X`, above 0.
    """
    turn, shift = _motion(reference, neighbour)
    bend = shift[:, None] * (normals / distances[..., None])[..., None, :]
    return neighbour.intrinsics @ (turn - bend) @ torch.linalg.inv(reference.intrinsics)


def _motion(reference: Camera, neighbour: Camera) -> tuple[Tensor, Tensor]:
    """Return the rotation and the shift from the reference's frame to the neighbour's."""
    turn = neighbour.rotation @ reference.rotation.T
    return turn, neighbour.viewmat[:3, 3] - turn @ reference.viewmat[:3, 3]


def warp(
    homographies: Float[Tensor, "*n 3 3"], pixels: Float[Tensor, "*n 2"]
) -> tuple[Float[Tensor, "*n 2"], Bool[Tensor, "*n"]]:
    """Return where pixels land, and whether they do so in front of the camera."""
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    landed = (homographies @ homogeneous[..., None])[..., 0]
    below = landed[..., 2:]
    front = below > _LEAST_DISTANCE
    return landed[..., :2] / torch.where(front, below, torch.ones_like(below)), front[..., 0]


def sample(
    image: Float[Tensor, "h w c"], pixels: Float[Tensor, "*n 2"]
) -> tuple[Float[Tensor, "*n c"], Bool[Tensor, "*n"]]:
    """Return an image's bilinear values at pixels (centres at + 0.5), and which of them lie between centres."""
    height, width, channels = image.shape
    size = pixels.new_tensor([width, height])
    inside = ((pixels >= 0.5) & (pixels <= size - 0.5)).all(-1)
    grid = (2 * pixels / size - 1).reshape(1, 1, -1, 2)
    found = torch.nn.functional.grid_sample(
        image.permute(2, 0, 1)[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return found.reshape(channels, -1).T.reshape(*pixels.shape[:-1], channels), inside


class Correlation(NamedTuple):
    """Normalised cross correlations of pairs of patches, and which pairs have texture."""

    value: Tensor
    valid: Tensor


def patch_ncc(first: Float[Tensor, "n p"], second: Float[Tensor, "n p"]) -> Correlation:
    """Return the normalised cross correlation of patches, one a row; patches without texture are not valid.

    1 for `a * patch + b` with a > 0.
    """
    first, second = first - first.mean(-1, keepdim=True), second - second.mean(-1, keepdim=True)
    spread_a, spread_b = first.square().mean(-1), second.square().mean(-1)
    value = (first * second).mean(-1) / ((spread_a + _STEADY) * (spread_b + _STEADY)).sqrt()
    return Correlation(value, (spread_a.detach() > _FLAT) & (spread_b.detach() > _FLAT))


@dataclass(frozen=True)
class PlaneView:
    """What a view knows about its surface.

    Attributes:
        camera: that sees it.
        grey: the photograph's brightness.
        depth: along the optical axis; 0 where nothing is.
        normals: in the camera's frame, facing it, of any length.
    """

    camera: Camera
    grey: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    normals: Float[Tensor, "h w 3"]

    def planes(self) -> Float[Tensor, "h w 4"]:
        """Return unit normal and distance of every pixel's tangent plane; distance 0 where there is none."""
        pixels = pixel_grid(self.camera)
        homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
        points = self.depth[..., None] * (homogeneous @ torch.linalg.inv(self.camera.intrinsics).T)
        normals = torch.nn.functional.normalize(self.normals, dim=-1, eps=_STEADY)
        distances = -(normals * points).sum(-1, keepdim=True)
        return torch.cat([normals, distances.clamp(min=0)], dim=-1)


class MultiViewLoss(NamedTuple):
    """The loss, its two terms before their weights, and how many pixels counted."""

    total: Tensor
    geometric: Tensor
    photometric: Tensor
    compared: int


def multi_view_loss(
    reference: PlaneView,
    neighbour: PlaneView,
    *,
    geometric_weight: float = 0.05,
    photometric_weight: float = 0.2,
    most_error: float = MOST_ERROR,
    patch: int = PATCH,
    pixels: Float[Tensor, "n 2"] | None = None,
    backend: str = "auto",
) -> MultiViewLoss:
    """Return `0.05 L_geo + 0.2 L_pho`: round trips through the neighbour, and patches carried there.

    A pixel goes to the neighbour by its own plane, and back by the neighbour's plane where it lands (sampled,
    without gradient). L_geo is the mean distance, in pixels, between where it started and where it ends; L_pho the
    mean of 1 - NCC of the grey patch round it and its image in the neighbour. Counted are pixels that land inside
    and come back within `most_error`, patches that stay inside and have texture.

    Args:
        reference: whose planes get gradients.
        neighbour: another view of the same scene.
        geometric_weight: of L_geo.
        photometric_weight: of L_pho.
        most_error: of a round trip, in pixels.
        patch: pixels a side, odd.
        pixels: places of the reference to use, x and y; None for all pixels' centres.
        backend: "auto" (a compiled kernel on the CPU) or "torch".

    Raises:
        BadInputError: a patch that has no middle, or an unknown back end.

    Source: arXiv 2412.03428, equations 14 to 17.
    """
    if patch < 1 or patch % 2 == 0:
        raise BadInputError(f"a patch has an odd number of pixels a side, got {patch}")
    if backend not in _BACKENDS:
        raise unknown("backend", backend, _BACKENDS)
    if pixels is None:
        pixels = pixel_grid(reference.camera).reshape(-1, 2)
    compiled = backend == "auto" and compiles(reference.depth, neighbour.depth)
    terms = _compiled_terms if compiled else _terms
    geometric, photometric, compared = terms(reference, neighbour, pixels, most_error, patch)
    total = geometric_weight * geometric + photometric_weight * photometric
    return MultiViewLoss(total, geometric, photometric, compared)


def _compiled_terms(
    reference: PlaneView, neighbour: PlaneView, pixels: Tensor, most_error: float, patch: int
) -> tuple[Tensor, Tensor, int]:
    ours, theirs = reference.camera, neighbour.camera
    turn, shift = _motion(ours, theirs)
    there = theirs.intrinsics @ torch.cat([turn, shift[:, None]], dim=-1)
    back = ours.intrinsics @ torch.cat([turn.T, -(turn.T @ shift)[:, None]], dim=-1)
    inverse, their_inverse = torch.linalg.inv(torch.stack([ours.intrinsics, theirs.intrinsics]))
    return compare_views(
        (reference.depth, reference.normals, reference.grey),
        (neighbour.depth, neighbour.normals, neighbour.grey),
        pixels,
        Way(inverse, their_inverse, there, back),
        most_error=most_error,
        patch=patch,
    )


def _terms(
    reference: PlaneView, neighbour: PlaneView, pixels: Tensor, most_error: float, patch: int
) -> tuple[Tensor, Tensor, int]:
    own, _ = sample(reference.planes(), pixels)
    real = own[:, 3].detach() > _LEAST_DISTANCE
    pixels, own = pixels[real], own[real]
    there = plane_homography(reference.camera, neighbour.camera, own[:, :3], own[:, 3])
    landed, front = warp(there, pixels)
    theirs, inside = sample(neighbour.planes().detach(), landed.detach())
    usable = front & inside & (theirs[:, 3] > _LEAST_DISTANCE)
    pixels, there, landed, theirs = pixels[usable], there[usable], landed[usable], theirs[usable]
    back = plane_homography(neighbour.camera, reference.camera, theirs[:, :3], theirs[:, 3])
    ended, front = warp(back, landed)
    error = (ended - pixels).square().sum(-1).clamp(min=_STEADY**2).sqrt()
    close = front & (error.detach() < most_error)
    geometric = _mean(error[close])
    value, valid = _patches(reference.grey, neighbour.grey, there[close], pixels[close], patch)
    return geometric, _mean((1 - value)[valid]), int(close.sum())


def _patches(
    grey: Tensor, other: Tensor, homographies: Tensor, pixels: Tensor, patch: int
) -> tuple[Tensor, Tensor]:
    reach = torch.arange(patch, dtype=pixels.dtype, device=pixels.device) - patch // 2
    around = torch.stack(torch.meshgrid(reach, reach, indexing="xy"), dim=-1).reshape(-1, 2)
    places = pixels[:, None] + around
    carried, front = warp(homographies[:, None].expand(-1, patch * patch, -1, -1), places)
    first, here = sample(grey[..., None], places)
    second, there = sample(other[..., None], carried)
    value, textured = patch_ncc(first[..., 0], second[..., 0])
    return value, textured & (here & front & there).all(-1)


def _mean(values: Tensor) -> Tensor:
    """Return the mean, or a zero that keeps its place in the graph where there is nothing."""
    return values.sum() / max(len(values), 1)
