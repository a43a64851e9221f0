"""From a fitted scene to the surface it shows: depth renderings of all training views, fused.

Source: arXiv 2412.03428, section 5.1; arXiv 2403.17888, its released meshing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.scenes.cameras import Camera, depth_to_points
from papertrial.scenes.fitting import Fitted
from papertrial.scenes.tsdf import Settings, fuse, surface_points

_TRIMMED = 0.005  # share of what is shown, at each end of each axis, that the box of voxels leaves out
_COVERED = 0.5  # alpha from which a pixel shows a surface


def fused_points(fitted: Fitted, cameras: Sequence[Camera], settings: Settings) -> Float[Tensor, "n 3"]:
    """Return points on the surface that depth renderings show together; none where nothing is shown.

    Accuracy, completeness and F are measured of them. The outermost half percent along each axis is left out, so that
    a stray surfel does not make the volume of voxels vast. A mesh of the same surface is written by
    `papertrial.scenes.reconstructing.reconstruction.write_surface`.

    Args:
        fitted: the scene.
        cameras: training views, most often.
        settings: of fusion. `tsdf.bounded_settings` gives the released ones, which cut depths at twice the distance of
            the nearest camera to what all look at; in a room seen from within, that cuts walls off.

    Raises:
        BadInputError: the box round what is shown has too many voxels.
    """
    depths, here = [], []
    for camera in cameras:
        seen = fitted.render(camera)
        depths.append((seen.depth * (seen.alpha > _COVERED)).float().cpu())
        here.append(camera.to(torch.float32).to(torch.device("cpu")))
    shown = [
        depth_to_points(depth, camera)[(depth > 0) & (depth <= settings.farthest)]
        for depth, camera in zip(depths, here, strict=True)
    ]
    points = torch.cat(shown)
    if not len(points):
        return points
    ends = np.quantile(points.numpy(), [_TRIMMED, 1 - _TRIMMED], axis=0)
    low, high = torch.from_numpy(ends).float()
    low, high = low - settings.truncation, high + settings.truncation
    return surface_points(fuse(depths, here, low, high, settings))
