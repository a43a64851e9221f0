"""The compiled kernel that carries pixels and patches between two views, with its analytic gradient.

A plane (n, d) carries the ray r of a pixel to `A r - b (n · r) / d` in the other image, where `A` is the other camera's
matrix times the turn between both and `b` its matrix times the shift: the homography of arXiv 2412.03428, equation 14,
without building it. All that a plane does to a pixel goes through the number (n · r) / d.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numba
import numpy as np

STEADY = 1e-8  # added to variances; least length of a normal that is divided by
FLAT = 1e-6  # variance of a patch that has no texture
LEAST_DISTANCE = 1e-6  # of a plane from the camera, and of what lands in front of it

_jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
_in_place: Any = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")


@_in_place
@no_type_check
def _corners(x: float, y: float, height: int, width: int, rows: Any, columns: Any, shares: Any) -> None:
    """Write the four pixels about a place and their bilinear shares; places outside are taken to the border."""
    at_x, at_y = min(max(x - 0.5, 0.0), width - 1.0), min(max(y - 0.5, 0.0), height - 1.0)
    column, row = int(at_x), int(at_y)
    right, below = at_x - column, at_y - row
    for corner in range(4):
        is_below, is_right = corner // 2, corner % 2
        rows[corner] = min(row + is_below, height - 1)
        columns[corner] = min(column + is_right, width - 1)
        shares[corner] = (below if is_below else 1 - below) * (right if is_right else 1 - right)


@_in_place
@no_type_check
def _ray(matrix: Any, x: float, y: float, out: Any) -> None:
    for axis in range(3):
        out[axis] = matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 2]


@_jit
@no_type_check
def _plane(
    depth: Any, normals: Any, inverse: Any, x: float, y: float, rows: Any, columns: Any, shares: Any, out: Any
) -> None:
    """Write unit normal and distance of the tangent planes about a place, their shares summed."""
    _corners(x, y, depth.shape[0], depth.shape[1], rows, columns, shares)
    out[:] = 0.0
    for corner in range(4):
        row, column = rows[corner], columns[corner]
        one, two, three = normals[row, column]
        length = max(math.sqrt(one * one + two * two + three * three), STEADY)
        right, down = column + 0.5, row + 0.5
        level = 0.0
        for axis in range(3):
            along = inverse[axis, 0] * right + inverse[axis, 1] * down + inverse[axis, 2]
            unit = normals[row, column, axis] / length
            out[axis] += shares[corner] * unit
            level -= unit * along * depth[row, column]
        out[3] += shares[corner] * max(level, 0.0)


@_in_place
@no_type_check
def _carry(way: Any, ray: Any, slant: float, out: Any) -> None:
    """Write where a ray lands (x, y, depth): x and y only where it is in front."""
    for axis in range(3):
        along = way[axis, 0] * ray[0] + way[axis, 1] * ray[1] + way[axis, 2] * ray[2]
        out[axis] = along - way[axis, 3] * slant
    if out[2] > LEAST_DISTANCE:
        out[0] /= out[2]
        out[1] /= out[2]


@_in_place
@no_type_check
def _inside(x: float, y: float, image: Any) -> bool:
    return 0.5 <= x <= image.shape[1] - 0.5 and 0.5 <= y <= image.shape[0] - 0.5


@_in_place
@no_type_check
def _to_slant(way: Any, landed: Any, to_x: float, to_y: float) -> float:
    """Return the gradient of the slant, (n · r) / d, from that of where it makes a pixel land."""
    back = to_x * landed[0] + to_y * landed[1]
    return -(way[0, 3] * to_x + way[1, 3] * to_y - way[2, 3] * back) / landed[2]


@_in_place
@no_type_check
def _add_slant(to_slant: float, ray: Any, slant: float, distance: float, out: Any) -> None:
    """Add the gradient of a plane's normal and distance that the slant of one ray has."""
    for axis in range(3):
        out[axis] += to_slant * ray[axis] / distance
    out[3] -= to_slant * slant / distance


@_jit
@no_type_check
def _patches(
    grey: Any,
    other: Any,
    x: float,
    y: float,
    reach: int,
    plane: Any,
    inverse: Any,
    there: Any,
    first: Any,
    second: Any,
    slopes: Any,
) -> bool:
    """Write both patches and how the second changes with its slants; False where a pixel falls outside."""
    rows, columns, shares = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4)
    ray, landed = np.empty(3), np.empty(3)
    at = 0
    for below in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            here_x, here_y = x + right, y + below
            if not _inside(here_x, here_y, grey):
                return False
            _ray(inverse, here_x, here_y, ray)
            slant = (plane[0] * ray[0] + plane[1] * ray[1] + plane[2] * ray[2]) / plane[3]
            _carry(there, ray, slant, landed)
            if landed[2] <= LEAST_DISTANCE or not _inside(landed[0], landed[1], other):
                return False
            _corners(here_x, here_y, grey.shape[0], grey.shape[1], rows, columns, shares)
            first[at] = 0.0
            for corner in range(4):
                first[at] += shares[corner] * grey[rows[corner], columns[corner]]
            _corners(landed[0], landed[1], other.shape[0], other.shape[1], rows, columns, shares)
            second[at] = 0.0
            for corner in range(4):
                second[at] += shares[corner] * other[rows[corner], columns[corner]]
            upper = other[rows[1], columns[1]] - other[rows[0], columns[0]]
            lower = other[rows[3], columns[3]] - other[rows[2], columns[2]]
            left = other[rows[2], columns[2]] - other[rows[0], columns[0]]
            far = other[rows[3], columns[3]] - other[rows[1], columns[1]]
            share_x, share_y = shares[1] + shares[3], shares[2] + shares[3]
            to_x, to_y = (1 - share_y) * upper + share_y * lower, (1 - share_x) * left + share_x * far
            slopes[at] = _to_slant(there, landed, to_x, to_y)
            at += 1
    return True


@_jit
@no_type_check
def _correlation(first: Any, second: Any, to_second: Any) -> tuple[float, bool]:
    """Return the correlation of two patches and whether both have texture; write its gradient."""
    first -= first.mean()
    second -= second.mean()
    spread, other = (first * first).mean(), (second * second).mean()
    root = math.sqrt((spread + STEADY) * (other + STEADY))
    value = (first * second).mean() / root
    for at in range(len(first)):
        to_second[at] = (first[at] / root - value * second[at] / (other + STEADY)) / len(first)
    return value, spread > FLAT and other > FLAT


@_jit
@no_type_check
def _way_back(
    their_depth: Any,
    their_normals: Any,
    their_inverse: Any,
    landed: Any,
    x: float,
    y: float,
    back: Any,
    to_landed: Any,
) -> float:
    """Return how far from (x, y) a pixel ends that landed in the neighbour; infinite where it does not come back.

    Writes the gradient of that by the place where it landed, the neighbour's planes held fast.
    """
    rows, columns, shares = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4)
    plane, ray, ended = np.empty(4), np.empty(3), np.empty(3)
    _plane(their_depth, their_normals, their_inverse, landed[0], landed[1], rows, columns, shares, plane)
    if plane[3] <= LEAST_DISTANCE:
        return np.inf
    _ray(their_inverse, landed[0], landed[1], ray)
    _carry(back, ray, (plane[0] * ray[0] + plane[1] * ray[1] + plane[2] * ray[2]) / plane[3], ended)
    if ended[2] <= LEAST_DISTANCE:
        return np.inf
    to_landed[:] = 0.0
    error = math.sqrt((ended[0] - x) ** 2 + (ended[1] - y) ** 2)
    if error <= STEADY:
        return STEADY
    to_x, to_y = (ended[0] - x) / error / ended[2], (ended[1] - y) / error / ended[2]
    to_z = -(to_x * ended[0] + to_y * ended[1])
    shift = (back[0, 3] * to_x + back[1, 3] * to_y + back[2, 3] * to_z) / plane[3]
    for axis in range(3):
        to_ray = back[0, axis] * to_x + back[1, axis] * to_y + back[2, axis] * to_z - shift * plane[axis]
        to_landed[0] += to_ray * their_inverse[axis, 0]
        to_landed[1] += to_ray * their_inverse[axis, 1]
    return error


@_jit
@no_type_check
def _unlike(
    grey: Any, other: Any, x: float, y: float, reach: int, plane: Any, inverse: Any, there: Any, out: Any
) -> float:
    """Return 1 - NCC of a patch and its image, nan where there is none; add its gradient by the plane to `out`."""
    size = (2 * reach + 1) ** 2
    first, second, slopes, to_second = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    if not _patches(grey, other, x, y, reach, plane, inverse, there, first, second, slopes):
        return np.nan
    value, textured = _correlation(first, second, to_second)
    if not textured:
        return np.nan
    ray = np.empty(3)
    place = 0
    for below in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            _ray(inverse, x + right, y + below, ray)
            slant = (plane[0] * ray[0] + plane[1] * ray[1] + plane[2] * ray[2]) / plane[3]
            _add_slant(-to_second[place] * slopes[place], ray, slant, plane[3], out)
            place += 1
    return 1 - value


@_jit
@no_type_check
def compare(
    depth: Any,
    normals: Any,
    their_depth: Any,
    their_normals: Any,
    grey: Any,
    other: Any,
    pixels: Any,
    inverse: Any,
    their_inverse: Any,
    there: Any,
    back: Any,
    most_error: float,
    reach: int,
    to_error: Any,
    to_patch: Any,
) -> tuple[float, int, float, int]:
    """Return the sum of round trips' errors and their number, the sum of 1 - NCC and the number of patches.

    Args:
        depth: height, width, of the reference.
        normals: height, width, 3, in its frame.
        their_depth: of the neighbour.
        their_normals: in the neighbour's frame.
        grey: the reference's photograph.
        other: the neighbour's.
        pixels: n, 2: x and y of what is compared.
        inverse: of the reference's camera matrix.
        their_inverse: of the neighbour's.
        there: 3 x 4, the neighbour's matrix times turn and shift from the reference.
        back: 3 x 4, the other way round.
        most_error: of a round trip that counts, in pixels.
        reach: pixels of a patch to either side of its middle.
        to_error: n, 4; zeros, for the gradients of the errors by normal and distance of the pixels' planes.
        to_patch: n, 4; zeros, likewise of 1 - NCC.
    """
    rows, columns, shares = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4)
    plane, ray, landed, to_landed = np.empty(4), np.empty(3), np.empty(3), np.empty(2)
    errors, compared, unlike, patches = 0.0, 0, 0.0, 0
    for at in range(len(pixels)):
        x, y = pixels[at]
        _plane(depth, normals, inverse, x, y, rows, columns, shares, plane)
        if plane[3] <= LEAST_DISTANCE:
            continue
        _ray(inverse, x, y, ray)
        slant = (plane[0] * ray[0] + plane[1] * ray[1] + plane[2] * ray[2]) / plane[3]
        _carry(there, ray, slant, landed)
        if landed[2] <= LEAST_DISTANCE or not _inside(landed[0], landed[1], their_depth):
            continue
        error = _way_back(their_depth, their_normals, their_inverse, landed, x, y, back, to_landed)
        if error >= most_error:
            continue
        errors += error
        compared += 1
        to_slant = _to_slant(there, landed, to_landed[0], to_landed[1])
        _add_slant(to_slant, ray, slant, plane[3], to_error[at])
        found = _unlike(grey, other, x, y, reach, plane, inverse, there, to_patch[at])
        if not math.isnan(found):
            unlike += found
            patches += 1
    return errors, compared, unlike, patches


@_jit
@no_type_check
def spread(
    depth: Any, normals: Any, inverse: Any, pixels: Any, to_plane: Any, to_depth: Any, to_normals: Any
) -> None:
    """Add to depth and normals the gradients that the planes at pixels have: normal and distance, n x 4."""
    rows, columns, shares = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4)
    ray, unit, pull = np.empty(3), np.empty(3), np.empty(3)
    for at in range(len(pixels)):
        if not to_plane[at].any():
            continue
        _corners(pixels[at, 0], pixels[at, 1], depth.shape[0], depth.shape[1], rows, columns, shares)
        for corner in range(4):
            share, row, column = shares[corner], rows[corner], columns[corner]
            if share == 0:
                continue
            _ray(inverse, column + 0.5, row + 0.5, ray)
            one, two, three = normals[row, column]
            length = math.sqrt(one * one + two * two + three * three)
            below = max(length, STEADY)
            facing = 0.0
            for axis in range(3):
                unit[axis] = normals[row, column, axis] / below
                facing -= unit[axis] * ray[axis]
            to_distance = share * to_plane[at, 3] if facing * depth[row, column] >= 0 else 0.0
            to_depth[row, column] += to_distance * facing
            along = 0.0
            for axis in range(3):
                pull[axis] = share * to_plane[at, axis] - to_distance * depth[row, column] * ray[axis]
                along += pull[axis] * unit[axis]
            for axis in range(3):
                bent = pull[axis] - along * unit[axis] if length >= STEADY else pull[axis]
                to_normals[row, column, axis] += bent / below
