"""Pinhole cameras in OpenCV's convention: x right, y down, z forward; pixel centres at + 0.5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.compiled_losses import normals_of_depth
from papertrial.scenes.compiling import compiles
from papertrial.scenes.splatting.primitives import NEAR

PIXEL_CENTRE = 0.5
_RIGID = 1e-3  # how far a rotation may be from orthonormal: what float32 poses written as text lose
_LEAST_LENGTH = 1e-12  # of a vector that is normalised
_LOOKED_FOR = 2_000  # points that decide whether poses are the right way round
_AT_ONCE = 2_000_000  # pairs of a camera and a point
_FAR_MORE = 4  # times as many: right poses of rooms and orbits see 15 times what their inverses see, or more
_NEAR_SHARE = 0.1  # of the scene's extent
_OPENGL = (1.0, -1.0, -1.0, 1.0)  # its axes in ours: y up, z backward


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


def near_plane(cameras: Sequence[Camera]) -> float:
    """Return the depth up to which nothing is drawn, in scene units.

    It is 0.2 as in the original kernels, or a tenth of the scene's extent (`scene_extent`) where that is less: a scene
    in small units would lose what stands before its cameras.
    """
    return min(NEAR, _NEAR_SHARE * scene_extent(cameras))


def check_poses(cameras: Sequence[Camera], points: Float[Tensor, "n 3"]) -> None:
    """Raise for poses that see nothing of the scene, or far more of it when they are inverted.

    What is counted, over all cameras, is how often a point lies in front of a camera and inside its image: as the poses
    are given, and with each of them inverted, in these axes and in OpenGL's, in which a transforms.json writes them. Up
    to 2,000 points decide. Inverses see some points too, where cameras stand amid the scene, so they are held against
    the poses as given and not against nothing.

    Raises:
        BadInputError: no points, none that lies in front of any camera and inside its image, or four times as many
            sights by inverted poses as by the given ones.
    """
    if not len(points):
        raise BadInputError("there are no points to hold the cameras' poses against")
    views = torch.stack([camera.viewmat for camera in cameras])
    some = points[:: -(-len(points) // _LOOKED_FOR)]
    given = _sights(views, cameras, some)
    if not bool(given.any()):
        some, given = points, _sights(views, cameras, points)
    inverse, axes = _inverses(views), views.new_tensor(_OPENGL)
    in_opengl = axes[:, None] * inverse * axes
    what, turned = max(
        ("camera-to-world poses, give world-to-camera", _sights(inverse, cameras, some)),
        ("world-to-camera poses in OpenGL's axes, give camera-to-world", _sights(in_opengl, cameras, some)),
        key=lambda one: int(one[1].sum()),
    )
    sights, count = int(given.sum()), len(cameras)
    inverses_fit = int(turned.sum()) > _FAR_MORE * sights
    if sights and not inverses_fit:
        return
    told = (
        f"{count} cameras see points {sights:,} times"
        if sights
        else f"none of {count} cameras sees any of {len(points)} points"
    )
    hint = (
        f"; inverted, {int((turned > 0).sum())} of {count} cameras see points, {int(turned.sum()):,} times: these are "
        f"most likely {what}"
        if inverses_fit
        else ""
    )
    raise BadInputError(told + hint)


def _sights(
    views: Float[Tensor, "c 4 4"], cameras: Sequence[Camera], points: Float[Tensor, "n 3"]
) -> Int[Tensor, " c"]:
    """Return how many points lie in front of each camera, posed as `views` say, and inside its image."""
    matrices = torch.stack([camera.intrinsics for camera in cameras]).to(views)
    ends = views.new_tensor([[camera.width, camera.height] for camera in cameras])[:, None]
    counts = torch.zeros(len(cameras), dtype=torch.long, device=views.device)
    for part in points.to(views).split(max(1, _AT_ONCE // len(cameras))):
        in_camera = part @ views[:, :3, :3].mT + views[:, None, :3, 3]
        depth = in_camera[..., 2:]
        pixels = (in_camera @ matrices.mT)[..., :2] / torch.where(depth > 0, depth, 1.0)
        counts += ((depth > 0) & (pixels >= 0) & (pixels < ends)).all(-1).sum(1)
    return counts


def _inverses(views: Float[Tensor, "c 4 4"]) -> Float[Tensor, "c 4 4"]:
    inverse = views.clone()
    inverse[:, :3, :3] = views[:, :3, :3].mT
    inverse[:, :3, 3:] = -views[:, :3, :3].mT @ views[:, :3, 3:]
    return inverse


def _check_size(image: Tensor, camera: Camera) -> None:
    if tuple(image.shape[:2]) != (camera.height, camera.width):
        raise BadInputError(
            f"a map of {image.shape[0]} x {image.shape[1]} (rows x columns) is not of camera {camera.name!r} "
            f"with {camera.height} x {camera.width}"
        )
