"""The compiled kernels of the CPU: primitives onto the screen, and back."""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np

from papertrial.scenes.splatting.kernel_basis import (
    LEAST_ALPHA,
    SLACK,
    SURFEL,
    TO_FEATURES,
    TO_OPACITY,
    jit,
)

_BLUR = 0.3
_MARGIN = 0.15


@jit
@no_type_check
def _rotation(quat: Any, out: Any) -> float:
    """Write the rotation of a quaternion (w, x, y, z) into `out`, and return the quaternion's norm."""
    norm = math.sqrt(quat[0] ** 2 + quat[1] ** 2 + quat[2] ** 2 + quat[3] ** 2)
    w, x, y, z = quat[0] / norm, quat[1] / norm, quat[2] / norm, quat[3] / norm
    out[0, 0] = 1 - 2 * (y * y + z * z)
    out[0, 1] = 2 * (x * y - w * z)
    out[0, 2] = 2 * (x * z + w * y)
    out[1, 0] = 2 * (x * y + w * z)
    out[1, 1] = 1 - 2 * (x * x + z * z)
    out[1, 2] = 2 * (y * z - w * x)
    out[2, 0] = 2 * (x * z - w * y)
    out[2, 1] = 2 * (y * z + w * x)
    out[2, 2] = 1 - 2 * (x * x + y * y)
    return norm


@jit
@no_type_check
def _rotation_backward(quat: Any, norm: float, grad: Any, out: Any) -> None:
    """Add the gradient of a quaternion, given that of its rotation."""
    w, x, y, z = quat[0] / norm, quat[1] / norm, quat[2] / norm, quat[3] / norm
    gw = 2 * (
        -z * grad[0, 1] + y * grad[0, 2] + z * grad[1, 0] - x * grad[1, 2] - y * grad[2, 0] + x * grad[2, 1]
    )
    gx = 2 * (
        y * grad[0, 1]
        + z * grad[0, 2]
        + y * grad[1, 0]
        - 2 * x * grad[1, 1]
        - w * grad[1, 2]
        + z * grad[2, 0]
        + w * grad[2, 1]
        - 2 * x * grad[2, 2]
    )
    gy = 2 * (
        -2 * y * grad[0, 0]
        + x * grad[0, 1]
        + w * grad[0, 2]
        + x * grad[1, 0]
        + z * grad[1, 2]
        - w * grad[2, 0]
        + z * grad[2, 1]
        - 2 * y * grad[2, 2]
    )
    gz = 2 * (
        -2 * z * grad[0, 0]
        - w * grad[0, 1]
        + x * grad[0, 2]
        + w * grad[1, 0]
        - 2 * z * grad[1, 1]
        + y * grad[1, 2]
        + x * grad[2, 0]
        + y * grad[2, 1]
    )
    along = w * gw + x * gx + y * gy + z * gz
    out[0] += (gw - w * along) / norm
    out[1] += (gx - x * along) / norm
    out[2] += (gy - y * along) / norm
    out[3] += (gz - z * along) / norm


@jit
@no_type_check
def project(
    kind: int,
    band: int,
    first: int,
    last: int,
    means: Any,
    quats: Any,
    scales: Any,
    opacities: Any,
    viewmat: Any,
    intrinsics: Any,
    width: int,
    height: int,
    near: float,
    screen: Any,
    depth: Any,
    rows: Any,
    reach: Any,
) -> None:
    """Put the primitives from `first` to `last` on the screen.

    Written are: `screen`, the projections (see the module); `depth` of the centres; `rows`, first and last row + 1,
    empty for what is not seen; `reach`, the largest rho at which alpha reaches 1/255.
    """
    c, axes, world = np.empty(3), np.empty((3, 3)), np.empty((3, 3))
    for n in range(first, last):
        _to_camera(viewmat, means[n], c)
        depth[n] = c[2]
        if c[2] <= near or opacities[n] < LEAST_ALPHA:
            continue
        reach[n] = 2.0 * math.log(opacities[n] / LEAST_ALPHA)
        _rotation(quats[n], world)
        _turn(viewmat, world, axes)
        if kind == SURFEL:
            _project_surfel(axes, c, scales[n], intrinsics, screen[n])
            left, right = _surfel_extent(screen[n], reach[n], 0)
            low, high = _surfel_extent(screen[n], reach[n], 1)
        else:
            _project_gaussian(axes, c, scales[n], intrinsics, width, height, screen[n])
            left, right = _gaussian_extent(screen[n], reach[n], 0)
            low, high = _gaussian_extent(screen[n], reach[n], 1)
        if high >= 0.0 and low <= height and right >= -SLACK and left <= width + SLACK:
            rows[n, 0] = max(0, math.ceil(max(low, 0.0) - 0.5 - SLACK))
            rows[n, 1] = min(height, math.floor(min(high, float(height)) + 0.5 + SLACK))


@jit
@no_type_check
def _to_camera(viewmat: Any, mean: Any, out: Any) -> None:
    for i in range(3):
        out[i] = viewmat[i, 0] * mean[0] + viewmat[i, 1] * mean[1] + viewmat[i, 2] * mean[2] + viewmat[i, 3]


@jit
@no_type_check
def _turn(viewmat: Any, world: Any, out: Any) -> None:
    for i in range(3):
        for j in range(3):
            out[i, j] = (
                viewmat[i, 0] * world[0, j] + viewmat[i, 1] * world[1, j] + viewmat[i, 2] * world[2, j]
            )


@jit
@no_type_check
def _project_surfel(axes: Any, c: Any, scale: Any, intrinsics: Any, out: Any) -> None:
    for i in range(3):
        for j in range(3):
            total = 0.0
            for k in range(i, 3):  # the camera matrix is upper triangular
                entry = c[k] if j == 2 else axes[k, j] * scale[j]
                total += intrinsics[i, k] * entry
            out[3 * i + j] = total
    norm = out[6] * out[6] + out[7] * out[7] - out[8] * out[8]
    if norm == 0.0:
        norm = -1e-12
    out[9] = (out[0] * out[6] + out[1] * out[7] - out[2] * out[8]) / norm
    out[10] = (out[3] * out[6] + out[4] * out[7] - out[5] * out[8]) / norm


@jit
@no_type_check
def _surfel_extent(t: Any, reach: float, axis: int) -> tuple[float, float]:
    """Return between which columns (axis 0) or rows (axis 1) alpha can reach 1/255."""
    norm = reach * (t[6] * t[6] + t[7] * t[7]) - t[8] * t[8]
    if norm >= 0.0:
        return -np.inf, np.inf
    a, b, c = t[3 * axis], t[3 * axis + 1], t[3 * axis + 2]
    middle = (reach * (a * t[6] + b * t[7]) - c * t[8]) / norm
    half = math.sqrt(max(middle * middle - (reach * (a * a + b * b) - c * c) / norm, 0.0))
    circle = math.sqrt(reach / 2)
    return min(middle - half, t[9 + axis] - circle), max(middle + half, t[9 + axis] + circle)


@jit
@no_type_check
def _project_gaussian(
    axes: Any, c: Any, scale: Any, intrinsics: Any, width: int, height: int, out: Any
) -> None:
    fx, fy, skew = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 1]
    cx, cy = intrinsics[0, 2], intrinsics[1, 2]
    z = c[2]
    u, v = c[0] / z, c[1] / z
    out[0], out[1] = fx * u + skew * v + cx, fy * v + cy
    wide, high = _MARGIN * width / fx, _MARGIN * height / fy
    u = min(max(u, -(cx / fx + wide)), (width - cx) / fx + wide)
    v = min(max(v, -(cy / fy + high)), (height - cy) / fy + high)
    xx, xy, yy = _BLUR, 0.0, _BLUR
    for j in range(3):
        a = (fx * axes[0, j] + skew * axes[1, j] - (fx * u + skew * v) * axes[2, j]) / z * scale[j]
        b = (fy * axes[1, j] - fy * v * axes[2, j]) / z * scale[j]
        xx += a * a
        xy += a * b
        yy += b * b
    determinant = xx * yy - xy * xy
    out[2], out[3], out[4], out[5] = yy / determinant, -xy / determinant, xx / determinant, z


@jit
@no_type_check
def _gaussian_extent(s: Any, reach: float, axis: int) -> tuple[float, float]:
    """Return between which columns (axis 0) or rows (axis 1) alpha can reach 1/255."""
    half = math.sqrt(reach * s[4 - 2 * axis] / (s[2] * s[4] - s[3] * s[3]))
    return s[axis] - half, s[axis] + half


@jit
@no_type_check
def project_backward(
    kind: int,
    band: int,
    first: int,
    last: int,
    order: Any,
    means: Any,
    quats: Any,
    scales: Any,
    viewmat: Any,
    intrinsics: Any,
    width: int,
    height: int,
    screen: Any,
    places: Any,
    gradients: Any,
    to_means: Any,
    to_quats: Any,
    to_scales: Any,
    to_opacities: Any,
    to_features: Any,
    to_probe: Any,
) -> None:
    """Write the gradients of the primitives that lie from `first` to `last` in the order of depth.

    What the bands of the image gave to a primitive is summed here, and chained from its projection to its own numbers.
    """
    channels = to_features.shape[1]
    g, c, to_c = np.empty(gradients.shape[2]), np.empty(3), np.empty(3)
    world, axes = np.empty((3, 3)), np.empty((3, 3))
    to_axes, to_world = np.empty((3, 3)), np.empty((3, 3))
    to_quat, to_scale, to_place = np.empty(4), np.empty(3), np.empty(2)
    for k in range(first, last):
        n = order[k]
        g[:] = 0.0
        for one in range(places.shape[0]):
            place = places[one, k]
            if place >= 0:
                for column in range(len(g)):
                    g[column] += gradients[one, place, column]
        to_opacities[n] = g[TO_OPACITY]
        for channel in range(channels):
            to_features[n, channel] = g[TO_FEATURES + channel]
        to_c[:], to_axes[:], to_quat[:], to_scale[:], to_place[:] = 0.0, 0.0, 0.0, 0.0, 0.0
        _to_camera(viewmat, means[n], c)
        norm = _rotation(quats[n], world)
        _turn(viewmat, world, axes)
        if kind == SURFEL:
            _surfel_backward(screen[n], g, axes, scales[n], intrinsics, to_axes, to_c, to_scale, to_place)
        else:
            size = width, height
            _gaussian_backward(
                screen[n], g, axes, c, scales[n], intrinsics, size, to_axes, to_c, to_scale, to_place
            )
        for i in range(3):
            to_means[n, i] = viewmat[0, i] * to_c[0] + viewmat[1, i] * to_c[1] + viewmat[2, i] * to_c[2]
            to_scales[n, i] = to_scale[i]
            for j in range(3):
                to_world[i, j] = (
                    viewmat[0, i] * to_axes[0, j]
                    + viewmat[1, i] * to_axes[1, j]
                    + viewmat[2, i] * to_axes[2, j]
                )
        _rotation_backward(quats[n], norm, to_world, to_quat)
        for i in range(4):
            to_quats[n, i] = to_quat[i]
        to_probe[n, 0], to_probe[n, 1] = to_place[0], to_place[1]


@jit
@no_type_check
def _surfel_backward(
    t: Any,
    g: Any,
    axes: Any,
    scale: Any,
    intrinsics: Any,
    to_axes: Any,
    to_c: Any,
    to_scale: Any,
    to_probe: Any,
) -> None:
    """Chain the low-pass centre into the rows, and the rows to axes, centre and scales."""
    norm = t[6] * t[6] + t[7] * t[7] - t[8] * t[8]
    if norm == 0.0:
        norm = -1e-12
    for axis in range(2):
        part = g[9 + axis] / norm
        for j in range(3):
            sign = 1.0 if j < 2 else -1.0
            row = t[3 * axis + j]
            g[3 * axis + j] += part * sign * t[6 + j]
            g[6 + j] += part * sign * (row - 2 * t[9 + axis] * t[6 + j])
    to_probe[0], to_probe[1] = g[2] * t[8], g[5] * t[8]
    for k in range(3):
        for j in range(3):
            total = 0.0
            for i in range(k + 1):
                total += intrinsics[i, k] * g[3 * i + j]
            if j == 2:
                to_c[k] += total
            else:
                to_axes[k, j] += scale[j] * total
                to_scale[j] += axes[k, j] * total


@jit
@no_type_check
def _gaussian_backward(
    s: Any,
    g: Any,
    axes: Any,
    c: Any,
    scale: Any,
    intrinsics: Any,
    size: tuple[int, int],
    to_axes: Any,
    to_c: Any,
    to_scale: Any,
    to_probe: Any,
) -> None:
    """Chain centre, conic and depth to axes, centre and scales."""
    fx, fy, skew = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 1]
    cx, cy = intrinsics[0, 2], intrinsics[1, 2]
    z = c[2]
    true_u, true_v = c[0] / z, c[1] / z
    wide, high = _MARGIN * size[0] / fx, _MARGIN * size[1] / fy
    u = min(max(true_u, -(cx / fx + wide)), (size[0] - cx) / fx + wide)
    v = min(max(true_v, -(cy / fy + high)), (size[1] - cy) / fy + high)
    to_probe[0], to_probe[1] = g[0], g[1]
    # the gradient of the covariance is -C G C, with the conic C and half of the mixed gradient on either side
    a, b, d = s[2], s[3], s[4]
    gaa, gab, gdd = g[2], 0.5 * g[3], g[4]
    xx = -(a * a * gaa + 2 * a * b * gab + b * b * gdd)
    xy = -(a * b * gaa + (a * d + b * b) * gab + b * d * gdd)
    yy = -(b * b * gaa + 2 * b * d * gab + d * d * gdd)
    j02, j12 = -(fx * u + skew * v) / z, -fy * v / z
    g00, g01, g02, g11, g12 = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(3):
        e0, e1, e2 = axes[0, j] * scale[j], axes[1, j] * scale[j], axes[2, j] * scale[j]
        p = fx / z * e0 + skew / z * e1 + j02 * e2
        q = fy / z * e1 + j12 * e2
        gp, gq = 2 * (xx * p + xy * q), 2 * (xy * p + yy * q)
        g00 += gp * e0
        g01 += gp * e1
        g02 += gp * e2
        g11 += gq * e1
        g12 += gq * e2
        m0, m1, m2 = gp * fx / z, gp * skew / z + gq * fy / z, gp * j02 + gq * j12
        to_scale[j] += axes[0, j] * m0 + axes[1, j] * m1 + axes[2, j] * m2
        to_axes[0, j] += scale[j] * m0
        to_axes[1, j] += scale[j] * m1
        to_axes[2, j] += scale[j] * m2
    to_z = g[5] - (g00 * fx + g01 * skew + g02 * j02 * z + g11 * fy + g12 * j12 * z) / (z * z)
    to_u, to_v = fx * g[0], skew * g[0] + fy * g[1]
    if u == true_u:
        to_u -= g02 * fx / z
    if v == true_v:
        to_v -= (g02 * skew + g12 * fy) / z
    to_c[0] += to_u / z
    to_c[1] += to_v / z
    to_c[2] += to_z - (to_u * true_u + to_v * true_v) / z
