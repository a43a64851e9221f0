"""Pinhole cameras in OpenCV's convention: x right, y down, z forward; pixel centres at + 0.5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.compiled_losses import normals_of_depth
from papertrial.scenes.compiling import compiles

PIXEL_CENTRE = 0.5
_RIGID = 1e-3  # how far a rotation may be from orthonormal: what float32 poses written as text lose
_LEAST_LENGTH = 1e-12  # of a vector that is normalised


@dataclass(frozen=True)
class Camera:
    """One posed view.

    Attributes:
        viewmat: world to camera, a rigid transform.
        intrinsics: the camera matrix, upper triangular with 1 at its end, in pixels.
        width: of the image, in pixels.
        height: of the image, in pixels.
        name: of the image, for messages and files.

    Raises:
        BadInputError: an empty image, a pose that is not rigid, or intrinsics that are none.
    """

    viewmat: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    width: int
    height: int
    name: str = ""

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise BadInputError(f"{self._label} needs an image, got {self.width} x {self.height} pixels")
        view, matrix = self.viewmat.detach().double(), self.intrinsics.detach().double()
        rotation = view[:3, :3]
        error = float(
            (rotation @ rotation.T - torch.eye(3, dtype=view.dtype, device=view.device)).abs().max()
        )
        last = view[3].tolist()
        rigid = bool(torch.isfinite(view).all()) and error < _RIGID and last == [0.0, 0.0, 0.0, 1.0]
        if not rigid or float(torch.linalg.det(rotation)) < 0:
            raise BadInputError(
                f"{self._label}: viewmat must be a rotation (determinant 1) and a shift over 0 0 0 1, "
                f"got {view.tolist()}"
            )
        below = [float(matrix[row, column]) for row, column in ((1, 0), (2, 0), (2, 1))]
        straight = below == [0.0, 0.0, 0.0] and float(matrix[2, 2]) == 1.0
        if not (straight and float(matrix.diagonal().min()) > 0 and bool(torch.isfinite(matrix).all())):
            raise BadInputError(
                f"{self._label}: intrinsics must be upper triangular, with focal lengths above 0 and 1 at the end, "
                f"got {matrix.tolist()}"
            )

    @property
    def _label(self) -> str:
        return f"camera {self.name!r}" if self.name else "a camera"

    @property
    def rotation(self) -> Float[Tensor, "3 3"]:
        """World to camera; its rows are the camera's axes in the world."""
        return self.viewmat[:3, :3]

    @property
    def centre(self) -> Float[Tensor, " 3"]:
        """Where the camera stands in the world."""
        return -self.rotation.T @ self.viewmat[:3, 3]

    @property
    def forward(self) -> Float[Tensor, " 3"]:
        """Where the camera looks, a unit vector in the world."""
        return self.rotation[2]

    def to(self, target: torch.device | torch.dtype) -> Camera:
        """Return the camera with its tensors on a device or in a precision; itself where they are so already."""
        viewmat, intrinsics = self.viewmat.to(target), self.intrinsics.to(target)
        if viewmat is self.viewmat and intrinsics is self.intrinsics:
            return self
        return replace(self, viewmat=viewmat, intrinsics=intrinsics)

    def resized(self, width: int, height: int) -> Camera:
        """Return the camera of the same view in another number of pixels."""
        scale = self.intrinsics.new_tensor([[width / self.width], [height / self.height], [1.0]])
        return replace(self, intrinsics=self.intrinsics * scale, width=width, height=height)


def intrinsics_for(width: int, height: int, degrees: float) -> Float[Tensor, "3 3"]:
    """Return the camera matrix of a horizontal field of view, square pixels, the axis in the middle (float64).

    Raises:
        BadInputError: a field of view that is not between 0 and 180 degrees.
    """
    if not 0 < degrees < 180:
        raise BadInputError(f"a field of view lies between 0 and 180 degrees, got {degrees}")
    focal = width / 2 / math.tan(math.radians(degrees) / 2)
    rows = [[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)


def look_at(
    eye: Sequence[float], target: Sequence[float], up: Sequence[float] = (0.0, 0.0, 1.0)
) -> Float[Tensor, "4 4"]:
    """Return the world-to-camera transform of a camera at `eye` that looks at `target` (float64).

    Raises:
        BadInputError: eye and target coincide, or the camera looks along `up`.
    """
    start, end, above = (torch.tensor(list(one), dtype=torch.float64) for one in (eye, target, up))
    forward = end - start
    right = torch.linalg.cross(forward, above)
    if float(right.norm()) < 1e-9 * max(1.0, float(forward.norm())):
        raise BadInputError(
            f"a camera at {list(eye)} cannot look at {list(target)} with {list(up)} upwards: "
            "these must be two places, not above each other"
        )
    forward, right = forward / forward.norm(), right / right.norm()
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    view[:3, 3] = -view[:3, :3] @ start
    return view


def pixel_grid(camera: Camera, offset: float = PIXEL_CENTRE) -> Float[Tensor, "h w 2"]:
    """Return x and y of every pixel; 0.5 means the pixels' centres."""
    like = camera.intrinsics
    x = torch.arange(camera.width, dtype=like.dtype, device=like.device) + offset
    y = torch.arange(camera.height, dtype=like.dtype, device=like.device) + offset
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def rays(camera: Camera, offset: float = PIXEL_CENTRE) -> Float[Tensor, "h w 3"]:
    """Return the world direction of every pixel, scaled to depth 1: a point is `centre + depth * direction`."""
    pixels = pixel_grid(camera, offset)
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
    in_camera = homogeneous @ torch.linalg.inv(camera.intrinsics).T
    return in_camera @ camera.rotation


def depth_to_points(
    depth: Float[Tensor, "h w"], camera: Camera, offset: float = PIXEL_CENTRE
) -> Float[Tensor, "h w 3"]:
    """Return the world points of a depth map (distance along the optical axis).

    Args:
        depth: of every pixel.
        camera: that saw it, with as many pixels.
        offset: of a pixel's place: 0.5 is its centre; the released 2DGS takes 0 (and its principal point at half
            of the image's size).

    Raises:
        BadInputError: the map has not the camera's size.
    """
    _check_size(depth, camera)
    return camera.centre + depth[..., None] * rays(camera, offset)


def depth_to_normal(
    depth: Float[Tensor, "h w"], camera: Camera, offset: float = PIXEL_CENTRE
) -> Float[Tensor, "h w 3"]:
    """Return the unit normals of a depth map in the world's frame, facing the camera; the border is 0.

    The cross product of central differences of the world points, the difference of rows first.

    Raises:
        BadInputError: the map has not the camera's size.

    Source: arXiv 2403.17888, equation 15; order, frame and border as in its released code.
    """
    if compiles(depth) and not (camera.viewmat.requires_grad or camera.intrinsics.requires_grad):
        _check_size(depth, camera)
        turn = camera.rotation.T.double() @ torch.linalg.inv(camera.intrinsics.double())
        return normals_of_depth(depth, turn, offset, _LEAST_LENGTH)
    return plain_depth_to_normal(depth, camera, offset)


def plain_depth_to_normal(
    depth: Float[Tensor, "h w"], camera: Camera, offset: float = PIXEL_CENTRE
) -> Float[Tensor, "h w 3"]:
    """Return `depth_to_normal` by torch's own operations: on any device, with gradients of the camera too."""
    points = depth_to_points(depth, camera, offset)
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    across = points[1:-1, 2:] - points[1:-1, :-2]
    inner = torch.nn.functional.normalize(torch.linalg.cross(down, across), dim=-1, eps=_LEAST_LENGTH)
    return torch.nn.functional.pad(inner, (0, 0, 1, 1, 1, 1))


def project_points(
    points: Float[Tensor, "n 3"], camera: Camera
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return where world points fall in pixels, their depths, and which lie in front and inside the image.

    The pixels of points that do not lie in front mean nothing.
    """
    in_camera = points @ camera.rotation.T + camera.viewmat[:3, 3]
    depth = in_camera[:, 2]
    front = depth > 0
    safe = torch.where(front, depth, torch.ones_like(depth))
    pixels = (in_camera @ camera.intrinsics.T)[:, :2] / safe[:, None]
    inside = (pixels >= 0).all(-1) & (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
    return pixels, depth, front & inside


def scene_extent(cameras: Sequence[Camera]) -> float:
    """Return 1.1 times the largest distance of a camera from the mean of all of them.

    One camera alone, or all in one place, have no extent: 0.

    Raises:
        BadInputError: no cameras.

    Source: the convention of arXiv 2308.04079's released code, after which learning rates are scaled.
    """
    if not cameras:
        raise BadInputError("the extent of a scene needs at least one camera")
    centres = torch.stack([camera.centre for camera in cameras])
    return 1.1 * float((centres - centres.mean(0)).norm(dim=-1).max())


def check_poses(cameras: Sequence[Camera], points: Float[Tensor, "n 3"]) -> None:
    """Raise where no camera sees a point of the scene: most often poses that were given the wrong way round.

    Raises:
        BadInputError: no point lies in front of any camera and inside its image.
    """
    if not len(points):
        raise BadInputError("there are no points to hold the cameras' poses against")
    if any(bool(project_points(points.to(camera.viewmat), camera)[2].any()) for camera in cameras):
        return
    turned = [replace(camera, viewmat=_inverse(camera.viewmat)) for camera in cameras]
    seen = sum(bool(project_points(points.to(camera.viewmat), camera)[2].any()) for camera in turned)
    hint = (
        f"; inverted, {seen} of {len(cameras)} cameras see points: "
        "these are most likely camera-to-world poses, give world-to-camera"
        if seen
        else ""
    )
    raise BadInputError(f"none of {len(cameras)} cameras sees any of {len(points)} points{hint}")


def _inverse(viewmat: Tensor) -> Tensor:
    inverse = torch.eye(4, dtype=viewmat.dtype, device=viewmat.device)
    inverse[:3, :3] = viewmat[:3, :3].T
    inverse[:3, 3] = -viewmat[:3, :3].T @ viewmat[:3, 3]
    return inverse


def _check_size(image: Tensor, camera: Camera) -> None:
    if tuple(image.shape[:2]) != (camera.height, camera.width):
        raise BadInputError(
            f"a map of {image.shape[0]} x {image.shape[1]} (rows x columns) is not of camera {camera.name!r} "
            f"with {camera.height} x {camera.width}"
        )
