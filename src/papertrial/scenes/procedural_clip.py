"""A clip of moving things whose depth, masks and motion are known, from two cameras that move.

A box slides fast in the first quarter and then stands still; a ball has a bump that swells and shrinks all the time.
The floor and the back wall are textured and still. The camera to train on swings from side to side, as those of public
captures of moving things do: from one that passes only once, nobody could tell how far away a thing is that moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, depth_to_points, intrinsics_for, look_at
from papertrial.scenes.raytracing import Paint, Sphere, Vector, View, World, box, look, random_waves

ITEMS = ("floor", "wall", "sides", "box", "ball", "bump")
FLOOR, WALL, SIDES, BOX, BALL, BUMP = range(6)
MOVING_UNTIL = 0.25  # of the clip: then the box stands still
_TRAVEL = 0.8  # metres
_BOX = ((-1.3, 0.2, 0.0), (-0.7, 0.7, 0.5))  # corners at the start
_BALL, _BALL_RADIUS = (0.9, 0.6, 0.45), 0.45
_BUMP_AT = (0.64, -0.64, 0.4249)  # unit: where on the ball
_BUMP_RADIUS, _BUMP_SWELL, _BUMP_BEATS = 0.2, 0.08, 3.0
_HALL = ((-3.0, -4.0, 0.0), (3.0, 2.0, 3.0))
_DEGREES = 60.0
_SWING, _SWINGS = 35.0, 4  # degrees to either side, and how often there and back


@dataclass(frozen=True)
class Frame:
    """One moment from one camera.

    Attributes:
        time: 0 at the first frame, 1 at the last.
        exact: colour, depth, normals and items (see `ITEMS`).
        motion: how far the surface at each pixel moves until the next frame, in the world, metres.
    """

    time: float
    exact: View
    motion: Float[Tensor, "h w 3"]

    @property
    def moving(self) -> Bool[Tensor, "h w"]:
        """Where something moves until the next frame."""
        return self.motion.abs().amax(-1) > 0


@dataclass(frozen=True)
class Clip:
    """Frames of the camera to train on, and of another at the same times; noisy points to start from.

    Attributes:
        train: one moving camera.
        test: another path.
        points: of the surfaces in the first frame, then of all frames, in metres.
        colours: of these points, within 0 and 1.
    """

    train: tuple[Frame, ...]
    test: tuple[Frame, ...]
    points: Float[Tensor, "n 3"]
    colours: Float[Tensor, "n 3"]


def make_clip(
    seed: int = 0, frames: int = 24, pixels: int = 64, points: int = 1500, noise: float = 0.01
) -> Clip:
    """Film the hall.

    Args:
        seed: of textures and points.
        frames: at least 2.
        pixels: a side.
        points: to start from: half of the first frame, half of all.
        noise: of these points, in metres.

    Raises:
        BadInputError: fewer than two frames, no pixels or no points.
    """
    if frames < 2 or pixels < 1 or points < 2 or noise < 0:
        raise BadInputError(
            f"a clip needs 2 frames, pixels and 2 points at least, got {frames}, {pixels} and {points}; "
            f"noise is at least 0, got {noise}"
        )
    paints = _paints(np.random.default_rng(seed))
    train = tuple(
        _frame(paints, place, frames, first_camera(place / (frames - 1), pixels)) for place in range(frames)
    )
    test = tuple(
        _frame(paints, place, frames, other_camera(place / (frames - 1), pixels)) for place in range(frames)
    )
    start, colours = _starting_points(train, points, noise, np.random.default_rng([seed, 1]))
    return Clip(train, test, start, colours)


def box_shift(time: float) -> Vector:
    """Return how far the box has slid: evenly until a quarter, then no farther."""
    return (_TRAVEL * min(max(time, 0.0) / MOVING_UNTIL, 1.0), 0.0, 0.0)


def bump_radius(time: float) -> float:
    """Return the radius of the bump, which beats three times."""
    return _BUMP_RADIUS + _BUMP_SWELL * math.sin(2 * math.pi * _BUMP_BEATS * time)


def bump_centre() -> Vector:
    """Return where the bump sits, on the ball's surface."""
    x, y, z = (at + _BALL_RADIUS * way for at, way in zip(_BALL, _BUMP_AT, strict=True))
    return (x, y, z)


def world_at(time: float, paints: dict[int, Paint]) -> World:
    """Return the hall at a time."""
    shift = box_shift(time)
    low, high = (tuple(np.add(corner, shift).tolist()) for corner in _BOX)
    sides = []
    for side in box(*_HALL, paints[SIDES], SIDES):
        if side.axis == 2 and side.low[2] == 0:
            side = type(side)(side.low, side.high, paints[FLOOR], FLOOR)
        elif side.axis == 1 and side.low[1] == _HALL[1][1]:
            side = type(side)(side.low, side.high, paints[WALL], WALL)
        sides.append(side)
    ball = Sphere(_BALL, _BALL_RADIUS, paints[BALL], BALL)
    bump = Sphere(bump_centre(), bump_radius(time), paints[BUMP], BUMP)
    return World((*sides, *box(low, high, paints[BOX], BOX)), (ball, bump), ((BOX, shift),))


def first_camera(time: float, pixels: int) -> Camera:
    """Return the camera to train on: it swings from left to right and back before the things."""
    turn = math.radians(-_SWING * math.cos(2 * math.pi * _SWINGS * time))
    eye = (3.2 * math.sin(turn), 0.4 - 3.2 * math.cos(turn), 1.3 + 0.2 * math.sin(2 * math.pi * time))
    return _camera(eye, pixels, f"train_{time:.4f}")


def other_camera(time: float, pixels: int) -> Camera:
    """Return the camera to test on: higher, and the other way round."""
    turn = math.radians(20 - 40 * time)
    return _camera((2.9 * math.sin(turn), 0.4 - 2.9 * math.cos(turn), 1.7), pixels, f"test_{time:.4f}")


def _camera(eye: Vector, pixels: int, name: str) -> Camera:
    view, matrix = look_at(eye, (0.1, 0.4, 0.4)), intrinsics_for(pixels, pixels, _DEGREES)
    return Camera(view, matrix, pixels, pixels, name).to(torch.float32)


def _paints(draw: np.random.Generator) -> dict[int, Paint]:
    def textured(colour: Vector, shortest: float, strength: float) -> Paint:
        return Paint(colour, random_waves(draw, 6, shortest, strength))

    return {
        FLOOR: textured((0.5, 0.45, 0.4), 0.4, 0.7),
        WALL: textured((0.55, 0.6, 0.55), 0.5, 0.7),
        SIDES: Paint((0.6, 0.6, 0.65)),
        BOX: textured((0.7, 0.3, 0.25), 0.2, 1.2),
        BALL: textured((0.3, 0.4, 0.7), 0.25, 1.0),
        BUMP: textured((0.75, 0.65, 0.2), 0.2, 0.6),
    }


def _frame(paints: dict[int, Paint], place: int, frames: int, camera: Camera) -> Frame:
    time, step = place / (frames - 1), 1 / (frames - 1)
    view = look(world_at(time, paints), camera)
    motion = torch.zeros_like(view.normals)
    slide = np.subtract(box_shift(time + step), box_shift(time))
    motion[view.items == BOX] = torch.from_numpy(slide).float()
    swell = bump_radius(time + step) - bump_radius(time)
    on_bump = view.items == BUMP
    motion[on_bump] = swell * view.normals[on_bump]  # the bump grows along its own normals
    return Frame(time, view, motion)


def _starting_points(
    frames: tuple[Frame, ...], count: int, noise: float, draw: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Pick pixels of the first frame, and as many of all frames, and carry them into the world."""
    places, colours = [], []
    for chosen, size in ((frames[:1], count // 2), (frames, count - count // 2)):
        points = torch.cat(
            [depth_to_points(one.exact.depth, one.exact.camera).reshape(-1, 3) for one in chosen]
        )
        shades = torch.cat([one.exact.colour.reshape(-1, 3) for one in chosen])
        pick = torch.from_numpy(draw.choice(len(points), size=size, replace=size > len(points)))
        places.append(points[pick])
        colours.append(shades[pick])
    found = torch.cat(places)
    return found + noise * torch.from_numpy(draw.normal(size=tuple(found.shape))).float(), torch.cat(colours)
