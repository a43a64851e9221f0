"""What a method gives to the command that runs it, and the files that come of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.deeds import Fact
from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, depth_to_points
from papertrial.scenes.colmap import Posed
from papertrial.scenes.fitting import Fitted, Renderer
from papertrial.scenes.image_losses import psnr
from papertrial.scenes.pictures import (
    Picture,
    colour_picture,
    depth_picture,
    enlarge,
    normal_picture,
    strip,
    write_png,
)
from papertrial.scenes.ply import Mesh, write_mesh
from papertrial.scenes.tsdf import (
    TRUNCATION_VOXELS,
    Settings,
    bounded_settings,
    extract_mesh,
    fuse,
    keep_largest,
)

_SHOWN_PIXELS = 240  # that the pictures of small images are enlarged to
_TRIMMED = 0.005  # share of the points, at each end of each axis, that the mesh's box leaves out
_MARGIN = 1.05
_FINEST = 256  # voxels along the mesh's longest side, at most
_MOST_BOUNDS = 2_000  # points of each depth map that decide the box


@dataclass(frozen=True)
class Reconstruction:
    """A method at work on a capture.

    Attributes:
        fitted: what the loop steps.
        save: writes the whole scene, for going on with it from Python.
        write_splats: writes primitives as viewers read them and returns how many there are.
        count: how many primitives there are now.
        facts: what the user shall know besides.
    """

    fitted: Fitted
    save: Callable[[Path], None]
    write_splats: Callable[[Path], int]
    count: Callable[[], int]
    facts: dict[str, Fact] = field(default_factory=dict)


def preview(fitted: Renderer, view: Posed, time: float = 0.0) -> Picture:
    """Return a photograph and what the scene shows there: colour, depth, normals in the camera's frame."""
    seen = fitted.render(view.camera, time)
    in_camera = seen.normals @ view.camera.rotation.T.to(seen.normals)
    toward = in_camera * in_camera.new_tensor(
        [1.0, -1.0, -1.0]
    )  # what faces the camera is light blue, as usual
    covered = seen.depth * (seen.alpha > 0.5)
    pictures = [
        ("photograph", colour_picture(view.image)),
        ("render", colour_picture(seen.colour)),
        ("depth", depth_picture(covered)),
        ("normals", normal_picture(toward * (seen.alpha > 0.5)[..., None])),
    ]
    factor = max(1, round(_SHOWN_PIXELS / max(view.camera.width, view.camera.height)))
    return strip([(name, enlarge(picture, factor)) for name, picture in pictures])


def write_preview(fitted: Renderer, view: Posed, out: Path, done: int, time: float = 0.0) -> None:
    """Write a preview as `out/preview.png` and keep it as `out/previews/step_XXXXX.png`; both appear whole."""
    picture = preview(fitted, view, time)
    write_png(out / "previews" / f"step_{done:05d}.png", picture)
    write_png(out / "preview.png", picture)


def mean_psnr(fitted: Renderer, views: Sequence[Posed], times: Sequence[float]) -> float | None:
    """Return the mean PSNR over views, in dB; None where there are none."""
    if not views:
        return None
    found = []
    for view, time in zip(views, times, strict=True):
        shown = fitted.render(view.camera, time).colour.clamp(0, 1)
        found.append(psnr(shown, view.image.to(shown)))
    return sum(found) / len(found)


@dataclass(frozen=True)
class Meshing:
    """How depth becomes a mesh.

    Attributes:
        bounded: cut depths and choose voxels as 2DGS does for bounded scenes (`tsdf.bounded_settings`); otherwise no
            depth is cut, and a voxel is as large as a pixel is at the middle depth.
        voxel: its edge, in scene units, where another one is wanted.
        farthest: depth up to which surfaces are fused, in scene units, where another limit is wanted.
    """

    bounded: bool = False
    voxel: float | None = None
    farthest: float | None = None


class Surface(NamedTuple):
    """A mesh, the depth beyond which nothing was fused (infinite where all was), and the share of pixels beyond it."""

    mesh: Mesh
    farthest: float
    left_out: float


def write_surface(
    path: Path,
    fitted: Renderer,
    cameras: Sequence[Camera],
    times: Sequence[float],
    meshing: Meshing | None = None,
) -> Surface:
    """Fuse the depth that cameras see into a mesh, write it and return it.

    The box holds all that is fused but the outermost half percent along each axis, and no voxel is finer than a 256th
    of the box unless one is asked for. Distances are cut at five voxels, and the 50 largest parts stay.

    Args:
        path: of the PLY file.
        fitted: the scene.
        cameras: that look at it.
        times: of each camera.
        meshing: which depths are fused, and how finely.

    Raises:
        BadInputError: nothing was seen, or nothing up to the limit of depth; too fine a voxel; for bounded scenes, see
            `tsdf.bounded_settings`.
        MissingExtraError: scikit-image is not installed.

    Source: arXiv 2403.17888, its released meshing. The box, and fusing all depths, are ours: its cut at twice the
    distance to what all cameras look at loses walls of a room seen from within.
    """
    meshing = meshing or Meshing()
    depths = [_covered_depth(fitted, camera, time) for camera, time in zip(cameras, times, strict=True)]
    here = [camera.to(torch.float32).to(torch.device("cpu")) for camera in cameras]
    bounds = bounded_settings(here, farthest=meshing.farthest) if meshing.bounded else None
    limit = bounds.farthest if bounds is not None else meshing.farthest or math.inf
    kept = [depth * (depth <= limit) for depth in depths]
    low, high = _box(kept, here, limit)
    longest = float((high - low).max())
    edge = bounds.voxel if bounds is not None else _pixel_size(kept, here)
    edge = meshing.voxel if meshing.voxel is not None else max(edge, longest / _FINEST)
    settings = Settings(edge, TRUNCATION_VOXELS * edge, limit)
    mesh = keep_largest(extract_mesh(fuse(kept, here, low, high, settings)))
    write_mesh(path, mesh)
    seen, used = (sum(int((one > 0).sum()) for one in maps) for maps in (depths, kept))
    return Surface(mesh, limit, 1 - used / seen)


def _covered_depth(fitted: Renderer, camera: Camera, time: float) -> Tensor:
    seen = fitted.render(camera, time)
    return (seen.depth * (seen.alpha > 0.5)).float().cpu()


def _box(
    depths: Sequence[Tensor], cameras: Sequence[Camera], limit: float
) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    found = []
    for depth, camera in zip(depths, cameras, strict=True):
        points = depth_to_points(depth, camera)[depth > 0]
        found.append(points[:: max(1, len(points) // _MOST_BOUNDS)])
    points = torch.cat(found)
    if not len(points):
        where = "" if limit == math.inf else f" at a depth of up to {limit:.4g}; --depth-limit sets another"
        raise BadInputError(
            f"there is no surface to mesh: no camera sees anything that covers half a pixel{where}"
        )
    ends = np.quantile(points.numpy(), [_TRIMMED, 1 - _TRIMMED], axis=0)
    low, high = (torch.from_numpy(end).float() for end in ends)
    middle, half = (low + high) / 2, _MARGIN * (high - low) / 2
    half = half.clamp(min=float(half.max()) / _FINEST)  # a flat scene's box has a thickness
    return middle - half, middle + half


def _pixel_size(depths: Sequence[Tensor], cameras: Sequence[Camera]) -> float:
    """Return how large a pixel is at the middle depth of the middle view, in scene units."""
    sizes = [
        float(depth[depth > 0].median()) / float(camera.intrinsics[0, 0])
        for depth, camera in zip(depths, cameras, strict=True)
        if bool((depth > 0).any())
    ]
    return sorted(sizes)[len(sizes) // 2]
