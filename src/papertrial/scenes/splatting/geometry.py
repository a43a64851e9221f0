"""From the world to the screen: the equations that every torch back end evaluates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.scenes.splatting.primitives import BLUR, FIELD_MARGIN, Primitives, Rules


def quaternion_to_matrix(quats: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Return the rotations of quaternions (w, x, y, z), which need not be normalised."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


@dataclass(frozen=True)
class Surfels:
    """Surfels on the screen (arXiv 2403.17888, section 4.2).

    Attributes:
        rows: for each surfel the 3 x 3 matrix from (u, v, 1) on the disc to homogeneous pixels.
        centre: the centre of the box round the contour u² + v² = 1, which the low-pass filter stands on.
        depth: of the centre, in the camera's frame.
    """

    rows: Float[Tensor, "n 3 3"]
    centre: Float[Tensor, "n 2"]
    depth: Float[Tensor, " n"]

    def at(
        self, pick: Tensor, x: Float[Tensor, " p"], y: Float[Tensor, " p"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return rho, depth, and whether there is an intersection, of picked surfels at pixels."""
        tu, tv, tw = self.rows[pick].unbind(-2)
        h_u = x[:, None] * tw - tu
        h_v = y[:, None] * tw - tv
        cross = torch.linalg.cross(h_u, h_v)
        meets = cross[:, 2] != 0
        below = torch.where(meets, cross[:, 2], torch.ones_like(cross[:, 2]))
        u, v = cross[:, 0] / below, cross[:, 1] / below
        disc = u * u + v * v
        away = x - self.centre[pick, 0], y - self.centre[pick, 1]
        screen = 2 * (away[0] ** 2 + away[1] ** 2)
        on_disc = disc <= screen
        depth = torch.where(on_disc, u * tw[:, 0] + v * tw[:, 1] + tw[:, 2], tw[:, 2])
        return torch.where(on_disc, disc, screen), depth, meets

    def reach(self, radius_squared: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        """Return boxes (low, high: n x 2) outside which rho is above a radius squared; unbounded ones are infinite."""
        with torch.no_grad():
            test = torch.stack([radius_squared, radius_squared, -torch.ones_like(radius_squared)], dim=-1)
            tw = self.rows[:, 2]
            norm = (tw * tw * test).sum(-1)
            bounded = norm < 0
            norm = torch.where(bounded, norm, -torch.ones_like(norm))
            low, high = [], []
            circle = (radius_squared / 2).sqrt()
            for axis in range(2):
                row = self.rows[:, axis]
                middle = (row * tw * test).sum(-1) / norm
                half = (middle * middle - (row * row * test).sum(-1) / norm).clamp(min=0).sqrt()
                low.append(torch.minimum(middle - half, self.centre[:, axis] - circle))
                high.append(torch.maximum(middle + half, self.centre[:, axis] + circle))
            boxes = torch.stack(low, -1), torch.stack(high, -1)
            unbounded = ~bounded[:, None]
            return boxes[0].masked_fill(unbounded, -torch.inf), boxes[1].masked_fill(unbounded, torch.inf)


@dataclass(frozen=True)
class Gaussians:
    """3-D Gaussians on the screen (arXiv 2308.04079; EWA, arXiv 2312.02121).

    Attributes:
        centre: the projected means.
        conic: the inverse screen covariance (a, b, c).
        depth: of the centre, in the camera's frame.
    """

    centre: Float[Tensor, "n 2"]
    conic: Float[Tensor, "n 3"]
    depth: Float[Tensor, " n"]

    def at(
        self, pick: Tensor, x: Float[Tensor, " p"], y: Float[Tensor, " p"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return rho, depth, and that there is an intersection, of picked Gaussians at pixels."""
        dx, dy = x - self.centre[pick, 0], y - self.centre[pick, 1]
        a, b, c = self.conic[pick].unbind(-1)
        return (
            a * dx * dx + 2 * b * dx * dy + c * dy * dy,
            self.depth[pick],
            torch.ones_like(dx, dtype=torch.bool),
        )

    def reach(self, radius_squared: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        """Return boxes (low, high: n x 2) outside which rho is above a radius squared."""
        with torch.no_grad():
            a, b, c = self.conic.unbind(-1)
            determinant = a * c - b * b
            half = torch.stack([c, a], -1) / determinant[:, None] * radius_squared[:, None]
            return self.centre - half.sqrt(), self.centre + half.sqrt()


def project(
    prims: Primitives,
    viewmat: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    rules: Rules,
    probe: Float[Tensor, "n 2"] | None = None,
) -> Surfels | Gaussians:
    """Put primitives on the screen.

    Args:
        prims: the primitives; those behind the camera give values that nobody must use.
        viewmat: world to camera (x right, y down, z forward).
        intrinsics: the camera matrix.
        size: width and height of the image.
        rules: how primitives become pixels.
        probe: added to each primitive's place on the screen, in pixels.
    """
    rotation, shift = viewmat[:3, :3], viewmat[:3, 3]
    centres = prims.means @ rotation.T + shift
    axes = rotation @ quaternion_to_matrix(prims.quats)
    if rules.kind == "surfel":
        return _surfels(axes, centres, prims.scales, intrinsics, probe)
    return _gaussians(axes, centres, prims.scales, intrinsics, size, probe)


def _surfels(
    axes: Tensor, centres: Tensor, scales: Tensor, intrinsics: Tensor, probe: Tensor | None
) -> Surfels:
    frame = torch.cat([axes[:, :, :2] * scales[:, None, :2], centres[:, :, None]], dim=-1)
    rows = intrinsics @ frame
    if probe is not None:
        moved = rows[:, :2, 2] + probe * rows[:, 2:, 2].detach()
        rows = torch.cat([torch.cat([rows[:, :2, :2], moved[:, :, None]], -1), rows[:, 2:]], dim=1)
    sign = rows.new_tensor([1.0, 1.0, -1.0])
    tw = rows[:, 2]
    norm = (sign * tw * tw).sum(-1, keepdim=True)
    norm = torch.where(norm == 0, torch.full_like(norm, -1e-12), norm)
    centre = (sign * rows[:, :2] * tw[:, None]).sum(-1) / norm
    return Surfels(rows, centre, centres[:, 2])


def _gaussians(
    axes: Tensor,
    centres: Tensor,
    scales: Tensor,
    intrinsics: Tensor,
    size: tuple[int, int],
    probe: Tensor | None,
) -> Gaussians:
    depth = centres[:, 2]
    safe = torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    fx, fy, skew = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 1]
    cx, cy = intrinsics[0, 2], intrinsics[1, 2]
    u, v = centres[:, 0] / safe, centres[:, 1] / safe
    centre = torch.stack([fx * u + skew * v + cx, fy * v + cy], -1)
    if probe is not None:
        centre = centre + probe
    wide, high = FIELD_MARGIN * size[0] / fx, FIELD_MARGIN * size[1] / fy
    u = torch.minimum(torch.maximum(u, -(cx / fx + wide)), (size[0] - cx) / fx + wide)
    v = torch.minimum(torch.maximum(v, -(cy / fy + high)), (size[1] - cy) / fy + high)
    zero = torch.zeros_like(safe)
    jacobian = torch.stack(
        [
            torch.stack([fx / safe, skew / safe, -(fx * u + skew * v) / safe], -1),
            torch.stack([zero, fy / safe, -fy * v / safe], -1),
        ],
        dim=-2,
    )
    spread = jacobian @ (axes * scales[:, None, :])
    covariance = spread @ spread.mT
    a, b, c = covariance[:, 0, 0] + BLUR, covariance[:, 0, 1], covariance[:, 1, 1] + BLUR
    determinant = a * c - b * b
    conic = torch.stack([c, -b, a], -1) / determinant[:, None]
    return Gaussians(centre, conic, depth)
