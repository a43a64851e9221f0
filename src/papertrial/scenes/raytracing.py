"""Worlds of rectangles and spheres, seen exactly: one ray a pixel, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from numpy import ndarray
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, rays

_TOUCH = 1e-9  # metres: rectangles that share an edge leave no gap
_AHEAD = 1e-9  # metres: what a ray meets lies farther from where it starts
_HIDDEN = 1e-6  # metres: a point that is so much behind what its ray meets is not seen
_LIGHT = np.array([0.36, -0.48, 0.8])  # unit, towards the light
_AMBIENT = 0.65
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Paint:
    """A colour, and smooth waves of colour through space.

    Attributes:
        colour: red, green, blue within 0 and 1.
        waves: rows of wave vector (radians a metre), phase, and amplitude in red, green, blue; none for no texture.
    """

    colour: Vector
    waves: Float64[ndarray, "k 7"] = field(default_factory=lambda: np.zeros((0, 7)))

    @property
    def textured(self) -> bool:
        """Whether places on it can be told apart."""
        return len(self.waves) > 0

    def at(self, points: Float64[ndarray, "n 3"]) -> Float64[ndarray, "n 3"]:
        """Return the colour at points, before any light."""
        phases = points @ self.waves[:, :3].T + self.waves[:, 3]
        return np.clip(np.array(self.colour) + np.sin(phases) @ self.waves[:, 4:], 0.0, 1.0)


def random_waves(
    draw: np.random.Generator, count: int, shortest: float, strength: float
) -> Float64[ndarray, "k 7"]:
    """Return waves of random direction, one to three times the shortest wavelength (metres), of a total strength."""
    vectors = draw.normal(size=(count, 3))
    lengths = shortest * draw.uniform(1.0, 3.0, size=(count, 1))
    vectors *= 2 * np.pi / lengths / np.linalg.norm(vectors, axis=1, keepdims=True)
    phases = draw.uniform(0, 2 * np.pi, size=(count, 1))
    return np.concatenate([vectors, phases, strength / count * draw.uniform(-1, 1, size=(count, 3))], axis=1)


@dataclass(frozen=True)
class Rectangle:
    """A flat, axis-aligned rectangle: low and high agree along one axis.

    Attributes:
        low: least corner.
        high: greatest corner.
        paint: of its surface.
        item: number of the thing that it belongs to.
    """

    low: Vector
    high: Vector
    paint: Paint
    item: int = 0

    @property
    def axis(self) -> int:
        """The axis that it has no extent along."""
        return int(np.argmin(np.subtract(self.high, self.low)))

    @property
    def area(self) -> float:
        """In square metres."""
        return float(np.prod(np.delete(np.subtract(self.high, self.low), self.axis)))


@dataclass(frozen=True)
class Sphere:
    """A sphere.

    Attributes:
        centre: of it.
        radius: above 0.
        paint: of its surface.
        item: number of the thing that it belongs to.
    """

    centre: Vector
    radius: float
    paint: Paint
    item: int = 0


def box(low: Vector, high: Vector, paint: Paint, item: int = 0) -> list[Rectangle]:
    """Return the six sides of a box.

    Raises:
        BadInputError: a box without extent along an axis.
    """
    if not all(one < two for one, two in zip(low, high, strict=True)):
        raise BadInputError(f"a box goes from a lower to a higher corner, got {low} and {high}")
    sides = []
    for axis in range(3):
        for level in (low[axis], high[axis]):
            corners = [list(low), list(high)]
            corners[0][axis] = corners[1][axis] = level
            (a, b, c), (d, e, f) = corners
            sides.append(Rectangle((a, b, c), (d, e, f), paint, item))
    return sides


class Hits(NamedTuple):
    """What rays meet first.

    Attributes:
        depth: in lengths of the ray's direction; 0 where nothing is met.
        normal: unit, against the ray.
        shape: place of what is met among the world's shapes; -1 for none.
    """

    depth: Any
    normal: Any
    shape: Any


@dataclass(frozen=True)
class World:
    """Shapes, and the background's colour.

    Attributes:
        rectangles: come first among the shapes.
        spheres: come after them.
        shift: by item, how far its texture has moved along with it.
        background: where nothing is met.
    """

    rectangles: tuple[Rectangle, ...]
    spheres: tuple[Sphere, ...] = ()
    shift: tuple[tuple[int, Vector], ...] = ()
    background: Vector = (0.0, 0.0, 0.0)

    @property
    def shapes(self) -> tuple[Rectangle | Sphere, ...]:
        """All shapes, in the order of `Hits.shape`."""
        return (*self.rectangles, *self.spheres)

    def cast(self, origin: Float64[ndarray, " 3"], directions: Float64[ndarray, "n 3"]) -> Hits:
        """Return what rays from one place meet first."""
        distances, normals = [], []
        if self.rectangles:
            found, facing = self._rectangles(origin, directions)
            distances.append(found)
            normals.append(facing)
        for sphere in self.spheres:
            found, facing = _meet_sphere(sphere, origin, directions)
            distances.append(found[:, None])
            normals.append(facing[:, None])
        if not distances:
            empty = np.zeros(len(directions))
            return Hits(empty, np.zeros_like(directions), np.full(len(directions), -1))
        depth = np.concatenate(distances, axis=1)
        nearest = depth.argmin(axis=1)
        rows = np.arange(len(directions))
        met = np.isfinite(depth[rows, nearest])
        normal = np.concatenate(normals, axis=1)[rows, nearest]
        return Hits(
            np.where(met, depth[rows, nearest], 0.0),
            np.where(met[:, None], normal, 0.0),
            np.where(met, nearest, -1),
        )

    def _rectangles(self, origin: Any, directions: Any) -> tuple[Any, Any]:
        low = np.array([one.low for one in self.rectangles])
        high = np.array([one.high for one in self.rectangles])
        axis = np.array([one.axis for one in self.rectangles])
        rows = np.arange(len(axis))
        along = directions[:, axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (low[rows, axis] - origin[axis]) / along
            points = origin + depth[..., None] * directions[:, None]
            inside = (points >= low - _TOUCH) & (points <= high + _TOUCH)
        inside[:, rows, axis] = True
        depth = np.where((depth > _AHEAD) & inside.all(-1), depth, np.inf)
        normals = np.zeros((*depth.shape, 3))
        normals[:, rows, axis] = -np.sign(along)
        return depth, normals

    def colour(
        self,
        points: Float64[ndarray, "n 3"],
        normals: Float64[ndarray, "n 3"],
        shape: Int[ndarray, " n"],
    ) -> Float64[ndarray, "n 3"]:
        """Return the colour of points of shapes: paint in a light that comes from one side, from wherever seen."""
        colours = np.broadcast_to(np.array(self.background), points.shape).copy()
        shifts = dict(self.shift)
        for place in np.unique(shape[shape >= 0]):
            one = self.shapes[place]
            chosen = shape == place
            moved = np.array(shifts.get(one.item, (0.0, 0.0, 0.0)))
            light = _AMBIENT + (1 - _AMBIENT) * np.clip(normals[chosen] @ _LIGHT, 0, None)
            colours[chosen] = one.paint.at(points[chosen] - moved) * light[:, None]
        return colours

    def sees(self, camera: Camera, points: Float64[ndarray, "n 3"]) -> Bool[ndarray, " n"]:
        """Return which points of surfaces a camera sees: inside its image, and with nothing before them."""
        view, matrix = camera.viewmat.double().numpy(), camera.intrinsics.double().numpy()
        in_camera = points @ view[:3, :3].T + view[:3, 3]
        front = in_camera[:, 2] > _AHEAD
        pixels = (in_camera @ matrix.T)[:, :2] / np.where(front, in_camera[:, 2], 1.0)[:, None]
        inside = front & (pixels >= 0).all(1) & (pixels < (camera.width, camera.height)).all(1)
        origin = camera.centre.double().numpy()
        away = points[inside] - origin
        seen = np.zeros(len(points), dtype=bool)
        seen[inside] = self.cast(origin, away).depth >= 1 - _HIDDEN / np.linalg.norm(away, axis=1)
        return seen


@dataclass(frozen=True)
class View:
    """What a camera sees exactly.

    Attributes:
        camera: that sees it.
        colour: within 0 and 1.
        depth: along the optical axis; 0 where nothing is.
        normals: unit, in the world's frame, facing the camera.
        items: number of the thing at each pixel; -1 for none.
    """

    camera: Camera
    colour: Float[Tensor, "h w 3"]
    depth: Float[Tensor, "h w"]
    normals: Float[Tensor, "h w 3"]
    items: Int[Tensor, "h w"]


def look(world: World, camera: Camera) -> View:
    """Trace one ray through the centre of every pixel (float32 images of float64 rays)."""
    exact = camera.to(torch.float64)
    directions = rays(exact).reshape(-1, 3).numpy()
    origin = exact.centre.numpy()
    hits = world.cast(origin, directions)
    colours = world.colour(origin + hits.depth[:, None] * directions, hits.normal, hits.shape)
    numbers = np.array([one.item for one in world.shapes] + [-1])[hits.shape]
    size = (camera.height, camera.width)

    def image(values: Any, *more: int) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).reshape(*size, *more)

    return View(
        camera,
        image(colours, 3).float(),
        image(hits.depth).float(),
        image(hits.normal, 3).float(),
        image(numbers),
    )


def _meet_sphere(sphere: Sphere, origin: Any, directions: Any) -> tuple[Any, Any]:
    """Return where rays meet a sphere from outside, and its normals there."""
    away = origin - np.array(sphere.centre)
    a = (directions**2).sum(1)
    b = directions @ away
    inside = b * b - a * (away @ away - sphere.radius**2)
    depth = (-b - np.sqrt(np.clip(inside, 0, None))) / a
    depth = np.where((inside >= 0) & (depth > _AHEAD), depth, np.inf)
    ends = np.where(np.isfinite(depth), depth, 0.0)[:, None] * directions + away
    return depth, ends / sphere.radius


class Samples(NamedTuple):
    """Points of rectangles: places, normals of their planes, and which rectangles they are on."""

    points: Any
    normals: Any
    shape: Any


def sample_rectangles(rectangles: Sequence[Rectangle], count: int, draw: np.random.Generator) -> Samples:
    """Return points that lie uniformly on rectangles, each as often as its area asks.

    Raises:
        BadInputError: no rectangles, or none with an area.
    """
    areas = np.array([one.area for one in rectangles])
    if not areas.sum() > 0:
        raise BadInputError(f"{len(rectangles)} rectangles have no area to sample")
    shape = draw.choice(len(rectangles), size=count, p=areas / areas.sum())
    low = np.array([one.low for one in rectangles])[shape]
    high = np.array([one.high for one in rectangles])[shape]
    normals = np.eye(3)[np.array([one.axis for one in rectangles])[shape]]
    return Samples(low + (high - low) * draw.uniform(size=(count, 3)), normals, shape)
