"""Lenses that bend lines: where COLMAP's camera models put a direction, and photographs as a pinhole would take them.

Source: the camera models of COLMAP's documentation; fisheyes after Kannala and Brandt (2006), FOV after Devernay and
Faugeras (2001).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.colmap.model import LENSES, CameraRecord

_LEAST_RADIUS = 1e-9  # nearer to the axis a direction is not moved
_LEAST_ANGLE = 1e-5  # radians: an FOV lens of less is straight
_MOST_ZOOM = 4.0
_ZOOM_STEPS = 20  # halvings: a millionth of the range
_EDGE = 33  # places along each side and across that decide the zoom
_EDGE_SLACK = 0.01  # pixels that a border may be outside, by rounding


def distort(points: Float[Tensor, "n 2"], lens: CameraRecord) -> Float[Tensor, "n 2"]:
    """Return where a lens puts directions, both in units of the focal length about the optical axis.

    Args:
        points: x / z and y / z of directions in the camera's frame.
        lens: whose model bends them; a straight one leaves them alone.
    """
    kept = LENSES[lens.lens][2]
    return _MODELS[lens.lens](points, *lens.parameters[kept:])


def to_pixels(points: Float[Tensor, "n 2"], lens: CameraRecord) -> Float[Tensor, "n 2"]:
    """Return the pixels at which a lens shows directions given as x / z and y / z."""
    return distort(points, lens) * points.new_tensor(lens.focal) + points.new_tensor(lens.centre)


def pinhole_for(lens: CameraRecord) -> CameraRecord:
    """Return the pinhole of the same image size that shows nothing which the lens does not show.

    It keeps the focal lengths and the centre where it can; where its border would see beyond the photograph, or so far
    out that the lens's formula folds back, it zooms in as little as needed.

    Raises:
        BadInputError: four times the focal length would not do: distortion that cannot be undone.
    """
    if not lens.bends:
        return lens

    def zoomed(factor: float) -> CameraRecord:
        focal = [factor * one for one in lens.focal]
        return CameraRecord("PINHOLE", lens.width, lens.height, (*focal, *lens.centre))

    if _sees(lens, zoomed(1.0)):
        return zoomed(1.0)
    low, high = 1.0, _MOST_ZOOM
    if not _sees(lens, zoomed(high)):
        raise BadInputError(
            f"the distortion of {lens.lens} {lens.parameters} on {lens.width} x {lens.height} pixels cannot be undone: "
            f"even {_MOST_ZOOM:g} times its focal length sees outside the photograph"
        )
    for _ in range(_ZOOM_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _sees(lens, zoomed(middle)) else (middle, high)
    return zoomed(high)


def undistort(
    image: Float[Tensor, "h w 3"], lens: CameraRecord, pinhole: CameraRecord
) -> Float[Tensor, "h w 3"]:
    """Return a photograph as a pinhole would have taken it, sampled bilinearly.

    Args:
        image: as the lens took it.
        lens: that took it, with as many pixels.
        pinhole: as `pinhole_for` gives it; pixels beyond the photograph repeat its border.

    Raises:
        BadInputError: an image of another size than the lens's.
    """
    if tuple(image.shape[:2]) != (lens.height, lens.width):
        raise BadInputError(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels is not of a lens with {lens.width} x {lens.height}"
        )
    rows = torch.arange(pinhole.height, dtype=torch.float64) + 0.5
    columns = torch.arange(pinhole.width, dtype=torch.float64) + 0.5
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(-1, 2)
    found = to_pixels(_directions(pixels, pinhole), lens)
    grid = 2 * found / found.new_tensor([lens.width, lens.height]) - 1
    sampled = torch.nn.functional.grid_sample(
        image.permute(2, 0, 1)[None],
        grid.reshape(1, pinhole.height, pinhole.width, 2).to(image),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return sampled[0].permute(1, 2, 0).contiguous()


def resized(lens: CameraRecord, width: int, height: int) -> CameraRecord:
    """Return the lens of the same photographs in another number of pixels; distortion has no unit and stays.

    Models with one focal length keep one where both sides shrink alike.
    """
    across, down = width / lens.width, height / lens.height
    kept = LENSES[lens.lens][2]
    first, rest = lens.parameters[:kept], lens.parameters[kept:]
    if kept == 4:
        scaled = (first[0] * across, first[1] * down, first[2] * across, first[3] * down)
        return replace(lens, width=width, height=height, parameters=(*scaled, *rest))
    # one focal length: sides are whole pixels, so that they may shrink a little differently
    focal = first[0] * (across * down) ** 0.5
    parameters = (focal, first[1] * across, first[2] * down, *rest)
    return replace(lens, width=width, height=height, parameters=parameters)


def _directions(pixels: Tensor, pinhole: CameraRecord) -> Tensor:
    return (pixels - pixels.new_tensor(pinhole.centre)) / pixels.new_tensor(pinhole.focal)


def _sees(lens: CameraRecord, pinhole: CameraRecord) -> bool:
    """Return whether all of a pinhole's image lies in the lens's, and is not folded."""
    columns = torch.linspace(0, pinhole.width, _EDGE, dtype=torch.float64)
    rows = torch.linspace(0, pinhole.height, _EDGE, dtype=torch.float64)
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(-1, 2)
    points = _directions(pixels, pinhole).requires_grad_()
    found = to_pixels(points, lens)
    ends = found.new_tensor([lens.width, lens.height])
    inside = ((found >= -_EDGE_SLACK) & (found <= ends + _EDGE_SLACK)).all()
    (across,) = torch.autograd.grad(found[:, 0].sum(), points, retain_graph=True)
    (down,) = torch.autograd.grad(found[:, 1].sum(), points)
    upright = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0] > 0
    return bool(inside & upright.all())


def _straight(points: Tensor) -> Tensor:
    return points


def _radial(points: Tensor, *terms: float) -> Tensor:
    squared = points.square().sum(-1, keepdim=True)
    return points * (1 + _polynomial(squared, terms))


def _tangential(points: Tensor, p1: float, p2: float) -> Tensor:
    """Return what a lens that is not centred adds."""
    u, v = points.unbind(-1)
    squared = u * u + v * v
    across = 2 * p1 * u * v + p2 * (squared + 2 * u * u)
    down = 2 * p2 * u * v + p1 * (squared + 2 * v * v)
    return torch.stack([across, down], dim=-1)


def _opencv(points: Tensor, k1: float, k2: float, p1: float, p2: float) -> Tensor:
    return _radial(points, k1, k2) + _tangential(points, p1, p2)


def _full_opencv(
    points: Tensor,
    k1: float,
    k2: float,
    p1: float,
    p2: float,
    k3: float,
    k4: float,
    k5: float,
    k6: float,
) -> Tensor:
    squared = points.square().sum(-1, keepdim=True)
    above, below = 1 + _polynomial(squared, (k1, k2, k3)), 1 + _polynomial(squared, (k4, k5, k6))
    return points * above / below + _tangential(points, p1, p2)


def _fisheye(points: Tensor, *terms: float) -> Tensor:
    """Return directions at a distance from the centre that is their angle to the axis, times a polynomial of it."""
    radius = points.square().sum(-1, keepdim=True).clamp(min=_LEAST_RADIUS**2).sqrt()
    angle = torch.atan(radius)
    return points * angle / radius * (1 + _polynomial(angle.square(), terms))


def _fov(points: Tensor, omega: float) -> Tensor:
    if abs(omega) < _LEAST_ANGLE:
        return points
    radius = points.square().sum(-1, keepdim=True).clamp(min=_LEAST_RADIUS**2).sqrt()
    slope = 2 * torch.tan(torch.as_tensor(omega / 2, dtype=points.dtype))
    return points * torch.atan(radius * slope) / (radius * omega)


def _thin_prism(
    points: Tensor,
    k1: float,
    k2: float,
    p1: float,
    p2: float,
    k3: float,
    k4: float,
    sx1: float,
    sy1: float,
) -> Tensor:
    bent = _fisheye(points)
    prism = bent.square().sum(-1, keepdim=True) * bent.new_tensor([sx1, sy1])
    return _radial(bent, k1, k2, k3, k4) + _tangential(bent, p1, p2) + prism


def _polynomial(value: Tensor, terms: tuple[float, ...]) -> Tensor:
    """Return `t1 v + t2 v² + …`."""
    total = torch.zeros_like(value)
    for term in reversed(terms):
        total = (total + term) * value
    return total


_MODELS: dict[str, Callable[..., Tensor]] = {
    "SIMPLE_PINHOLE": _straight,
    "PINHOLE": _straight,
    "SIMPLE_RADIAL": _radial,
    "RADIAL": _radial,
    "OPENCV": _opencv,
    "FULL_OPENCV": _full_opencv,
    "OPENCV_FISHEYE": _fisheye,
    "SIMPLE_RADIAL_FISHEYE": _fisheye,
    "RADIAL_FISHEYE": _fisheye,
    "FOV": _fov,
    "THIN_PRISM_FISHEYE": _thin_prism,
}
