"""A furnished room whose every surface is known, and what reconstruction is given of it.

The walls have no texture, on purpose: photographs say nothing about where they are, and structure from motion finds no
points there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, intrinsics_for, look_at
from papertrial.scenes.raytracing import (
    Paint,
    Rectangle,
    Vector,
    View,
    World,
    box,
    look,
    random_waves,
    sample_rectangles,
)

SIZE = (4.0, 3.0, 2.6)  # metres
ITEMS = ("walls", "ceiling", "floor", "table", "sofa", "poster")
_DEGREES = 80.0  # field of view
_EYE = (1.25, 1.65)  # metres above the floor
_FEWEST_CAMERAS = 2


@dataclass(frozen=True)
class RoomView:
    """What a camera sees, and what cheap networks would guess of it.

    Attributes:
        exact: the truth.
        prior_depth: the depth after an unknown affine map, with smooth noise.
        prior_normals: the normals in the camera's frame, each turned a little.
    """

    exact: View
    prior_depth: Float[Tensor, "h w"]
    prior_normals: Float[Tensor, "h w 3"]


@dataclass(frozen=True)
class SparseCloud:
    """Points as structure from motion finds them.

    Attributes:
        points: in the world, metres.
        colours: within 0 and 1.
        track_lengths: in how many photographs each was found.
        outliers: how many of the points, the last ones, lie on no surface.
    """

    points: Float[Tensor, "n 3"]
    colours: Float[Tensor, "n 3"]
    track_lengths: Int[Tensor, " n"]
    outliers: int


@dataclass(frozen=True)
class Room:
    """Views to train on, views to test on, and the truth.

    Attributes:
        world: that is seen.
        train: views with priors.
        test: views between them.
        cloud: sparse points.
        truth: points that lie uniformly on what the training cameras see.
    """

    world: World
    train: tuple[RoomView, ...]
    test: tuple[View, ...]
    cloud: SparseCloud
    truth: Float[Tensor, "n 3"]


@dataclass(frozen=True)
class RoomSettings:
    """How a room is made.

    Attributes:
        seed: of everything that is drawn.
        pixels: a side.
        train: cameras to train on.
        test: cameras to test on.
        sparse: points of the cloud, outliers among them.
        truth: true points that are drawn; those that no camera sees are left out.
        noise: of the cloud's points, in metres.
        outliers: share of the cloud.
        depth_noise: of the depth prior, in metres before the affine map.
        normal_degrees: how far a prior normal is turned along each of the two directions across it, as a standard
            deviation: at 5 degrees the whole turn is 6.3 in the mean (times the root of half of pi).
    """

    seed: int = 0
    pixels: int = 64
    train: int = 24
    test: int = 6
    sparse: int = 1500
    truth: int = 20000
    noise: float = 0.01
    outliers: float = 0.03
    depth_noise: float = 0.02
    normal_degrees: float = 5.0

    def __post_init__(self) -> None:
        if min(self.pixels, self.sparse, self.truth) < 1 or self.train < _FEWEST_CAMERAS or self.test < 0:
            raise BadInputError(
                f"a room needs pixels, points and at least {_FEWEST_CAMERAS} training cameras, got {self}"
            )
        if not 0 <= self.outliers < 1 or min(self.noise, self.depth_noise, self.normal_degrees) < 0:
            raise BadInputError(f"noise is at least 0 and the share of outliers below 1, got {self}")


def make_room(settings: RoomSettings | None = None) -> Room:
    """Build the room, look at it from all cameras, and simulate what reconstruction starts from."""
    settings = settings or RoomSettings()
    draw = np.random.default_rng(settings.seed)
    world = furnished(draw)
    train = _cameras(settings.train, settings.pixels, 0.0, "train", draw)
    test = _cameras(settings.test, settings.pixels, 0.37, "test", draw) if settings.test else []
    views = tuple(_with_priors(look(world, camera), settings, draw) for camera in train)
    points = sample_rectangles(world.rectangles, settings.truth, draw).points
    seen = np.any([world.sees(camera, points) for camera in train], axis=0)
    truth = torch.from_numpy(points[seen]).float()
    cloud = sparse_cloud(world, train, settings, draw)
    return Room(world, views, tuple(look(world, camera) for camera in test), cloud, truth)


def furnished(draw: np.random.Generator) -> World:
    """Return the room: 4 x 3 x 2.6 m, a table, a sofa block and a poster; floor, furniture and poster have texture."""
    width, depth, height = SIZE

    def textured(colour: Vector, shortest: float, strength: float) -> Paint:
        return Paint(colour, random_waves(draw, 6, shortest, strength))

    white, wood = Paint((0.86, 0.84, 0.8)), textured((0.5, 0.36, 0.24), 0.3, 0.5)
    shell = box((0.0, 0.0, 0.0), SIZE, white)
    floor = Rectangle((0.0, 0.0, 0.0), (width, depth, 0.0), textured((0.52, 0.46, 0.4), 0.4, 0.5), 2)
    ceiling = Rectangle((0.0, 0.0, height), SIZE, Paint((0.92, 0.92, 0.92)), 1)
    walls = [side for side in shell if side.axis != 2]
    poster = Rectangle(
        (1.3, depth - 0.01, 1.0), (2.7, depth - 0.01, 2.0), textured((0.5, 0.5, 0.5), 0.25, 1.2), 5
    )
    return World((*walls, ceiling, floor, *_table(wood), *_sofa(textured((0.3, 0.4, 0.6), 0.3, 0.6)), poster))


def _table(paint: Paint) -> list[Rectangle]:
    """A top of 1.2 x 0.8 m, 4 cm thick, 75 cm high, on four legs."""
    sides = box((1.4, 1.1, 0.71), (2.6, 1.9, 0.75), paint, 3)
    for x in (1.45, 2.47):
        for y in (1.15, 1.77):
            sides += box((x, y, 0.0), (x + 0.08, y + 0.08, 0.71), paint, 3)
    return sides


def _sofa(paint: Paint) -> list[Rectangle]:
    """A seat and a back, against the wall at x = 0."""
    return box((0.0, 0.6, 0.0), (0.8, 2.2, 0.42), paint, 4) + box(
        (0.0, 0.6, 0.42), (0.25, 2.2, 0.85), paint, 4
    )


def _cameras(count: int, pixels: int, start: float, name: str, draw: np.random.Generator) -> list[Camera]:
    """Place cameras on an ellipse about the room's middle; they look across it, up and down by turns."""
    middle_x, middle_y = SIZE[0] / 2, SIZE[1] / 2
    found = []
    for place in range(count):
        turn = 2 * math.pi * (place + start) / count
        height = float(draw.uniform(*_EYE))
        eye = (middle_x + 1.45 * math.cos(turn), middle_y + 1.0 * math.sin(turn), height)
        aside = float(draw.uniform(-0.5, 0.5))
        target = (
            middle_x - 1.6 * math.cos(turn + aside),
            middle_y - 1.2 * math.sin(turn + aside),
            (0.5, 1.2, 1.9)[place % 3],
        )
        matrix = intrinsics_for(pixels, pixels, _DEGREES)
        found.append(
            Camera(look_at(eye, target), matrix, pixels, pixels, f"{name}_{place:03d}").to(torch.float32)
        )
    return found


def _with_priors(view: View, settings: RoomSettings, draw: np.random.Generator) -> RoomView:
    height, width = view.depth.shape
    coarse = torch.from_numpy(draw.normal(size=(1, 1, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    scale, shift = float(draw.uniform(0.5, 2.0)), float(draw.uniform(-0.5, 0.5))
    prior = scale * (view.depth + settings.depth_noise * smooth[0, 0]) + shift
    in_camera = view.normals.double() @ view.camera.rotation.double().T
    return RoomView(view, prior.float(), _turned(in_camera, settings.normal_degrees, draw).float())


def _turned(normals: Float[Tensor, "h w 3"], degrees: float, draw: np.random.Generator) -> Tensor:
    """Turn unit normals by normally distributed angles along both directions across each."""
    noise = torch.from_numpy(draw.normal(size=tuple(normals.shape))) * math.radians(degrees)
    across = noise - (noise * normals).sum(-1, keepdim=True) * normals
    angle = across.norm(dim=-1, keepdim=True)
    return normals * torch.cos(angle) + across * torch.sinc(angle / math.pi)


def sparse_cloud(
    world: World, cameras: list[Camera], settings: RoomSettings, draw: np.random.Generator
) -> SparseCloud:
    """Simulate structure from motion: points of textured surfaces that two cameras or more find, and outliers.

    A camera that sees a point finds it seven times in ten. Outliers lie anywhere in the room and were found two or
    three times, as wrong matches are.

    Raises:
        BadInputError: the cameras see too little texture.
    """
    strays = round(settings.sparse * settings.outliers)
    wanted = settings.sparse - strays
    samples = sample_rectangles(
        [one if one.paint.textured else _without_area(one) for one in world.rectangles],
        8 * wanted + 1000,
        draw,
    )
    seen = np.stack([world.sees(camera, samples.points) for camera in cameras])
    found = (seen & (draw.uniform(size=seen.shape) < 0.7)).sum(0)
    chosen = np.flatnonzero(found >= _FEWEST_CAMERAS)[:wanted]
    if len(chosen) < wanted:
        raise BadInputError(
            f"only {len(chosen)} of {wanted} points are seen by two cameras; give more cameras"
        )
    points = samples.points[chosen] + settings.noise * draw.normal(size=(wanted, 3))
    colours = world.colour(samples.points[chosen], samples.normals[chosen], samples.shape[chosen])
    wild = draw.uniform(size=(strays, 3)) * SIZE
    lengths = np.concatenate([found[chosen], draw.integers(2, 4, size=strays)])
    return SparseCloud(
        torch.from_numpy(np.concatenate([points, wild])).float(),
        torch.from_numpy(np.concatenate([colours, draw.uniform(size=(strays, 3))])).float(),
        torch.from_numpy(lengths),
        strays,
    )


def _without_area(one: Rectangle) -> Rectangle:
    return Rectangle(one.low, one.low, one.paint, one.item)
