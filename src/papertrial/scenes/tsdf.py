"""From depth maps to a surface: a truncated signed distance on a grid, and the mesh where it is zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from papertrial.errors import BadInputError, MissingExtraError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.compiling import as_array, compiles
from papertrial.scenes.ply import Mesh

RESOLUTION = 1024  # voxels along the truncation depth, as released
TRUNCATION_VOXELS = 5
CLUSTERS = 50
LEAST_TRIANGLES = 50  # smaller clusters go even where fewer than CLUSTERS are left
MOST_VOXELS = 64_000_000  # two float32 numbers each: half a gigabyte
_SLAB = 2_000_000  # voxels that are worked on at once


class Settings(NamedTuple):
    """Parameters of fusion, all in scene units.

    Attributes:
        voxel: edge of a voxel.
        truncation: distances from the surface beyond it are cut.
        farthest: depths beyond it are left out.
    """

    voxel: float
    truncation: float
    farthest: float


def bounded_settings(
    cameras: Sequence[Camera], resolution: int = RESOLUTION, farthest: float | None = None
) -> Settings:
    """Return the parameters for a bounded scene: cameras that look at something in common.

    Depths are cut at twice the smallest distance of a camera from the point nearest to all optical axes, or at
    `farthest` where it is given; a voxel is that divided by `resolution`; distances are cut at five voxels.

    Raises:
        BadInputError: fewer than two cameras, or cameras that all look the same way, where no `farthest` is given.

    Source: arXiv 2403.17888, its released meshing of bounded scenes.
    """
    if farthest is not None:
        return Settings(farthest / resolution, TRUNCATION_VOXELS * farthest / resolution, farthest)
    focus = focus_point(cameras)
    nearest = min(float((camera.centre.to(focus) - focus).norm()) for camera in cameras)
    if nearest <= 0:
        raise BadInputError("a camera stands where all cameras look; give fusion's settings by hand")
    voxel = 2 * nearest / resolution
    return Settings(voxel, TRUNCATION_VOXELS * voxel, 2 * nearest)


def focus_point(cameras: Sequence[Camera]) -> Float[Tensor, " 3"]:
    """Return the point with the least squared distance to all optical axes (float64).

    Raises:
        BadInputError: fewer than two cameras, or cameras that all look the same way.
    """
    axes = torch.stack([camera.forward.double() for camera in cameras]) if cameras else torch.zeros(0, 3)
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    total = across.sum(0)
    if len(cameras) < 2 or float(torch.linalg.cond(total)) > 1e9:
        raise BadInputError(
            f"{len(cameras)} cameras that look the same way have no point in common; give fusion's settings by hand"
        )
    centres = torch.stack([camera.centre.double() for camera in cameras])
    return torch.linalg.solve(total, (across @ centres[:, :, None]).sum(0)[:, 0])


@dataclass(frozen=True)
class Volume:
    """A truncated signed distance on a grid.

    Attributes:
        origin: centre of the first voxel, in the world.
        voxel: edge of a voxel.
        distance: in truncations, positive in front of the surface; 1 where nothing was seen.
        weight: how many depth maps were averaged.
    """

    origin: Float[Tensor, " 3"]
    voxel: float
    distance: Float[Tensor, "x y z"]
    weight: Float[Tensor, "x y z"]


def fuse(
    depths: Sequence[Float[Tensor, "h w"]],
    cameras: Sequence[Camera],
    low: Float[Tensor, " 3"],
    high: Float[Tensor, " 3"],
    settings: Settings,
) -> Volume:
    """Average the truncated signed distances that depth maps give to the voxels of a box.

    A voxel takes part in a view where it falls on a pixel that has a depth, not beyond `farthest`, and lies in front
    of the surface or less than a truncation behind it.

    Args:
        depths: along the optical axis; 0 where nothing was seen.
        cameras: that saw them.
        low: least corner of the box.
        high: greatest corner of the box.
        settings: of fusion.

    Raises:
        BadInputError: other numbers of maps than of cameras, maps of other sizes or with values that are not finite,
            or a box of more than 64 million voxels.

    Source: Curless and Levoy, A Volumetric Method for Building Complex Models from Range Images (1996), with weight 1.
    """
    _check(depths, cameras)
    counts = torch.ceil((high - low).double() / settings.voxel).long() + 1
    total = int(counts.prod())
    if int(counts.min()) < 2 or total > MOST_VOXELS:
        raise BadInputError(
            f"a box from {low.tolist()} to {high.tolist()} with voxels of {settings.voxel:.4g} has "
            f"{counts.tolist()} of them; at least 2 a side and at most {MOST_VOXELS:,} in all will do"
        )
    distance, weight = torch.zeros(total), torch.zeros(total)
    shape = counts.tolist()
    if compiles(*depths):
        _fuse_compiled(depths, cameras, low, settings, distance.view(shape), weight.view(shape))
    else:
        _fuse_plainly(depths, cameras, low, settings, counts, distance, weight)
    mean = torch.where(weight > 0, distance / weight.clamp(min=1), torch.ones_like(distance))
    return Volume(low, settings.voxel, mean.reshape(shape), weight.reshape(shape))


def _fuse_compiled(
    depths: Sequence[Tensor],
    cameras: Sequence[Camera],
    low: Tensor,
    settings: Settings,
    distance: Tensor,
    weight: Tensor,
) -> None:
    from papertrial.scenes import depth_kernels

    sums, counts = as_array(distance), as_array(weight)
    corner = as_array(low)
    for depth, camera in zip(depths, cameras, strict=True):
        way = as_array(camera.intrinsics) @ as_array(camera.viewmat)[:3]
        depth_kernels.fuse(as_array(depth), way, corner, *settings, sums, counts)
    distance.copy_(torch.from_numpy(sums))
    weight.copy_(torch.from_numpy(counts))


def _fuse_plainly(
    depths: Sequence[Tensor],
    cameras: Sequence[Camera],
    low: Tensor,
    settings: Settings,
    counts: Tensor,
    distance: Tensor,
    weight: Tensor,
) -> None:
    """Fuse by torch's own operations, a slab of voxels at a time."""
    total = len(distance)
    for start in range(0, total, _SLAB):
        places = _places(torch.arange(start, min(start + _SLAB, total)), counts, low, settings.voxel)
        for depth, camera in zip(depths, cameras, strict=True):
            _add(places, depth, camera, settings, distance[start:], weight[start:])


def _places(index: Tensor, counts: Tensor, low: Tensor, voxel: float) -> Tensor:
    plane, depth = int(counts[1] * counts[2]), int(counts[2])
    grid = torch.stack([index // plane, index // depth % int(counts[1]), index % depth], dim=-1)
    return low.float() + voxel * grid.float()


def _add(
    places: Tensor, depth: Tensor, camera: Camera, settings: Settings, distance: Tensor, weight: Tensor
) -> None:
    """Add one view to the voxels; `distance` and `weight` begin where `places` do."""
    view, matrix = camera.viewmat.float(), camera.intrinsics.float()
    in_camera = places @ view[:3, :3].T + view[:3, 3]
    z = in_camera[:, 2]
    front = (z > 0).nonzero()[:, 0]
    pixels = in_camera[front] @ matrix.T
    column = (pixels[:, 0] / pixels[:, 2]).floor()
    row = (pixels[:, 1] / pixels[:, 2]).floor()
    inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    front = front[inside]
    seen = depth.float()[row[inside].long(), column[inside].long()]
    ahead = (seen - z[front]) / settings.truncation
    counts = (seen > 0) & (seen <= settings.farthest) & (ahead > -1)
    distance[front[counts]] += ahead[counts].clamp(max=1)
    weight[front[counts]] += 1


def surface_points(volume: Volume) -> Float[Tensor, "n 3"]:
    """Return where the distance crosses zero on the edges between neighbouring voxels that were both seen.

    They are the corners of the mesh that marching cubes makes, and need no further library.
    """
    found = []
    for axis in range(3):
        size = volume.distance.shape[axis] - 1
        one, two = (volume.distance.narrow(axis, start, size) for start in (0, 1))
        seen = (volume.weight.narrow(axis, 0, size) > 0) & (volume.weight.narrow(axis, 1, size) > 0)
        at = (seen & (one * two <= 0) & (one != two)).nonzero()
        a, b = one[tuple(at.T)], two[tuple(at.T)]
        place = at.float()
        place[:, axis] += a / (a - b)
        found.append(place)
    return (volume.origin + volume.voxel * torch.cat(found)).unique(dim=0)


def extract_mesh(volume: Volume) -> Mesh:
    """Return the mesh where the distance is zero, by marching cubes, only where all corners of a cube were seen.

    Raises:
        MissingExtraError: scikit-image is not installed.
        BadInputError: the distance crosses zero nowhere.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise MissingExtraError("scikit-image", "scenes") from error
    if not len(surface_points(volume)):
        raise BadInputError("no surface was seen: the distance crosses zero nowhere in the volume")
    vertices, faces, _, _ = marching_cubes(
        volume.distance.numpy(), level=0.0, mask=_whole_cubes(volume.weight > 0)
    )
    placed = volume.origin + volume.voxel * torch.from_numpy(np.ascontiguousarray(vertices)).to(volume.origin)
    return Mesh(placed, torch.from_numpy(faces.astype(np.int64)))


def _whole_cubes(seen: Tensor) -> np.ndarray:
    """Return where all corners of a cube were seen; scikit-image asks this of a cube's last corner."""
    whole = torch.zeros_like(seen)
    one, two, three = (size - 1 for size in seen.shape)
    inner = torch.ones(one, two, three, dtype=torch.bool)
    for x in (0, 1):
        for y in (0, 1):
            for z in (0, 1):
                inner &= seen[x : x + one, y : y + two, z : z + three]
    whole[1:, 1:, 1:] = inner
    return whole.numpy()


def keep_largest(mesh: Mesh, clusters: int = CLUSTERS, least: int = LEAST_TRIANGLES) -> Mesh:
    """Return the mesh's largest connected parts: at most so many, each of at least so many triangles.

    Parts as large as the last one kept stay too.

    Raises:
        BadInputError: fewer than one part is asked for.

    Source: arXiv 2403.17888, its released meshing.
    """
    if clusters < 1:
        raise BadInputError(f"at least one cluster is kept, got {clusters}")
    if not len(mesh.triangles):
        return mesh
    part = _parts(mesh.triangles, len(mesh.vertices))
    sizes = np.bincount(part)
    smallest = max(int(np.sort(sizes[sizes > 0])[-clusters:][0]), least)
    kept = mesh.triangles[torch.from_numpy(sizes[part] >= smallest)]
    used, renumbered = kept.unique(return_inverse=True)
    return Mesh(mesh.vertices[used], renumbered.reshape(-1, 3))


def _parts(triangles: Int[Tensor, "m 3"], vertices: int) -> np.ndarray:
    """Return the number of each triangle's connected part."""
    corners = triangles.numpy()
    one, two = np.concatenate([corners[:, 0], corners[:, 1]]), np.concatenate([corners[:, 1], corners[:, 2]])
    links = coo_matrix((np.ones(len(one), dtype=np.int8), (one, two)), shape=(vertices, vertices))
    return connected_components(links, directed=False)[1][corners[:, 0]]


def _check(depths: Sequence[Tensor], cameras: Sequence[Camera]) -> None:
    if not depths or len(depths) != len(cameras):
        raise BadInputError(
            f"fusion needs a depth map for every camera, got {len(depths)} for {len(cameras)}"
        )
    for depth, camera in zip(depths, cameras, strict=True):
        if tuple(depth.shape) != (camera.height, camera.width) or not bool(torch.isfinite(depth).all()):
            raise BadInputError(
                f"the depth of camera {camera.name!r} must be {camera.height} x {camera.width} finite numbers "
                f"(0 for none), got {tuple(depth.shape)}"
            )
