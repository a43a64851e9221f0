"""The compiled kernels of the CPU: projection, exact rows, blending, and all of it backwards.

Primitives are walked front to back. For each row that one covers, one quadratic gives the exact interval of x in which
its alpha can reach 1/255; nothing is listed and nothing is lost. The image is cut into bands of rows, which own their
pixels and so can run side by side, each in a thread of its own (the kernels let Python's lock go); each band sums its
own gradients, and the sums are added in a fixed order, so that results do not depend on the number of threads.

Layout of a primitive's projection, one row of `screen`: surfels hold T_u, T_v, T_w (9), then the low-pass centre (2);
Gaussians hold the centre (2), the conic (3) and the depth (1). Arithmetic is in float64.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numba
import numpy as np

SURFEL, GAUSSIAN = 0, 1
SURFEL_COLUMNS, GAUSSIAN_COLUMNS = 11, 6
BANDS = 4

_LEAST_ALPHA = 1.0 / 255.0
_LEAST_TRANSMITTANCE = 1e-4
_BLUR = 0.3
_MARGIN = 0.15
_SLACK = 0.01  # pixels: what rounding may take from an interval

_jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
# What every pixel calls is put in place: a call passes arrays by their eight parts, which costs more than its sums.
_in_place: Any = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")


@_jit
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


@_jit
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


@_jit
@no_type_check
def project(
    kind: int,
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
        if c[2] <= near or opacities[n] < _LEAST_ALPHA:
            continue
        reach[n] = 2.0 * math.log(opacities[n] / _LEAST_ALPHA)
        _rotation(quats[n], world)
        _turn(viewmat, world, axes)
        if kind == SURFEL:
            _project_surfel(axes, c, scales[n], intrinsics, screen[n])
            low, high = _surfel_rows(screen[n], reach[n])
        else:
            _project_gaussian(axes, c, scales[n], intrinsics, width, height, screen[n])
            low, high = _gaussian_rows(screen[n], reach[n])
        if high >= 0.0 and low <= height:
            rows[n, 0] = max(0, math.ceil(max(low, 0.0) - 0.5 - _SLACK))
            rows[n, 1] = min(height, math.floor(min(high, float(height)) + 0.5 + _SLACK))


@_jit
@no_type_check
def _to_camera(viewmat: Any, mean: Any, out: Any) -> None:
    for i in range(3):
        out[i] = viewmat[i, 0] * mean[0] + viewmat[i, 1] * mean[1] + viewmat[i, 2] * mean[2] + viewmat[i, 3]


@_jit
@no_type_check
def _turn(viewmat: Any, world: Any, out: Any) -> None:
    for i in range(3):
        for j in range(3):
            out[i, j] = (
                viewmat[i, 0] * world[0, j] + viewmat[i, 1] * world[1, j] + viewmat[i, 2] * world[2, j]
            )


@_jit
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


@_jit
@no_type_check
def _surfel_rows(t: Any, reach: float) -> tuple[float, float]:
    norm = reach * (t[6] * t[6] + t[7] * t[7]) - t[8] * t[8]
    if norm >= 0.0:
        return -np.inf, np.inf
    middle = (reach * (t[3] * t[6] + t[4] * t[7]) - t[5] * t[8]) / norm
    half = middle * middle - (reach * (t[3] * t[3] + t[4] * t[4]) - t[5] * t[5]) / norm
    half = math.sqrt(max(half, 0.0))
    circle = math.sqrt(reach / 2)
    return min(middle - half, t[10] - circle), max(middle + half, t[10] + circle)


@_jit
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


@_jit
@no_type_check
def _gaussian_rows(s: Any, reach: float) -> tuple[float, float]:
    half = math.sqrt(reach * s[2] / (s[2] * s[4] - s[3] * s[3]))
    return s[1] - half, s[1] + half


@_jit
@no_type_check
def _surfel_line(t: Any, y: float, line: Any) -> None:
    """Write the row's line: (X, Y, Z) of the intersection is `line[0:3] + x * line[3:6]`; `line[6:9]` is h_v."""
    a, b, c = y * t[6] - t[3], y * t[7] - t[4], y * t[8] - t[5]
    line[0], line[1], line[2] = -(t[1] * c - t[2] * b), -(t[2] * a - t[0] * c), -(t[0] * b - t[1] * a)
    line[3], line[4], line[5] = t[7] * c - t[8] * b, t[8] * a - t[6] * c, t[6] * b - t[7] * a
    line[6], line[7], line[8] = a, b, c


@_jit
@no_type_check
def _surfel_interval(t: Any, y: float, reach: float, line: Any) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    a = line[3] * line[3] + line[4] * line[4] - reach * line[5] * line[5]
    b = line[0] * line[3] + line[1] * line[4] - reach * line[2] * line[5]
    c = line[0] * line[0] + line[1] * line[1] - reach * line[2] * line[2]
    if a <= 0.0:  # the disc crosses the camera's plane on this row
        return -np.inf, np.inf
    inside = b * b - a * c
    if inside >= 0.0:
        root = math.sqrt(inside)
        low, high = (-b - root) / a, (-b + root) / a
    away = y - t[10]
    inside = reach / 2 - away * away
    if inside >= 0.0:
        root = math.sqrt(inside)
        low, high = min(low, t[9] - root), max(high, t[9] + root)
    return low, high


@_jit
@no_type_check
def _gaussian_interval(s: Any, y: float, reach: float) -> tuple[float, float]:
    dy = y - s[1]
    inside = s[3] * s[3] * dy * dy - s[2] * (s[4] * dy * dy - reach)
    if inside < 0.0:
        return np.inf, -np.inf
    root = math.sqrt(inside)
    return s[0] + (-s[3] * dy - root) / s[2], s[0] + (-s[3] * dy + root) / s[2]


@_jit
@no_type_check
def _columns(low: float, high: float, width: int) -> tuple[int, int]:
    """Return first and last column + 1 of the pixels whose centres lie in an interval, with room for rounding."""
    if not low <= high or high < 0.0 or low > width:
        return 0, 0
    begin, end = math.ceil(max(low, 0.0) - 0.5 - _SLACK), math.floor(min(high, float(width)) + 0.5 + _SLACK)
    return max(0, begin), min(width, end)


@_in_place
@no_type_check
def _meet(
    kind: int, s: Any, line: Any, x: float, y: float, near_at_pixel: float
) -> tuple[float, float, float, float, bool]:
    """Return rho, depth, u, v and whether the disc (not the screen's circle) decides; rho < 0 where nothing is met."""
    if kind == GAUSSIAN:
        dx, dy = x - s[0], y - s[1]
        return s[2] * dx * dx + 2 * s[3] * dx * dy + s[4] * dy * dy, s[5], 0.0, 0.0, False
    below = line[2] + x * line[5]
    if below == 0.0:
        return -1.0, 0.0, 0.0, 0.0, False
    u, v = (line[0] + x * line[3]) / below, (line[1] + x * line[4]) / below
    disc = u * u + v * v
    dx, dy = x - s[9], y - s[10]
    screen = 2 * (dx * dx + dy * dy)
    on_disc = disc <= screen
    depth = u * s[6] + v * s[7] + s[8] if on_disc else s[8]
    if depth <= near_at_pixel:
        return -1.0, 0.0, 0.0, 0.0, False
    return (disc if on_disc else screen), depth, u, v, on_disc


@_in_place
@no_type_check
def _remap(depth: float, near: float, far: float) -> float:
    """Return the depth that the distortion is taken of; `far` 0 keeps it as it is."""
    return depth if far == 0.0 else far / (far - near) * (1 - near / max(depth, 1e-9))


@_jit
@no_type_check
def blend(
    kind: int,
    first: int,
    last: int,
    screen: Any,
    rows: Any,
    reach: Any,
    order: Any,
    opacities: Any,
    features: Any,
    width: int,
    most_alpha: float,
    near_at_pixel: float,
    near: float,
    far: float,
    image: Any,
    sums: Any,
    median: Any,
    chosen: Any,
    light: Any,
    ended: Any,
    touched: Any,
) -> None:
    """Blend all primitives, front to back, in the rows from `first` to `last`.

    Written are: `image`, features (H, W, C); `sums` (H, W, 4) of w, w z, w m, w m²; `median`, the median depth;
    `chosen`, its primitive, or -1; `light`, what is left of it; `ended`, whether a pixel has; `touched`, which
    primitives reach a pixel here.
    """
    channels = features.shape[1]
    line = np.zeros(9)
    for n in order:
        s = screen[n]
        for row in range(max(first, rows[n, 0]), min(last, rows[n, 1])):
            y = row + 0.5
            if kind == SURFEL:
                _surfel_line(s, y, line)
                low, high = _surfel_interval(s, y, reach[n], line)
            else:
                low, high = _gaussian_interval(s, y, reach[n])
            begin, end = _columns(low, high, width)
            for column in range(begin, end):
                rho, z, _, _, _ = _meet(kind, s, line, column + 0.5, y, near_at_pixel)
                if rho < 0.0 or rho > reach[n]:
                    continue
                alpha = min(most_alpha, opacities[n] * math.exp(-0.5 * rho))
                if alpha < _LEAST_ALPHA:
                    continue
                touched[n] = True
                if ended[row, column]:
                    continue
                before = light[row, column]
                after = before * (1 - alpha)
                if after <= _LEAST_TRANSMITTANCE:
                    ended[row, column] = True
                    continue
                light[row, column] = after
                w = alpha * before
                m = _remap(z, near, far)
                sums[row, column, 0] += w
                sums[row, column, 1] += w * z
                sums[row, column, 2] += w * m
                sums[row, column, 3] += w * m * m
                if before > 0.5:
                    median[row, column] = z
                    chosen[row, column] = n
                for channel in range(channels):
                    image[row, column, channel] += w * features[n, channel]


@_jit
@no_type_check
def blend_backward(
    kind: int,
    first: int,
    last: int,
    screen: Any,
    rows: Any,
    reach: Any,
    order: Any,
    opacities: Any,
    features: Any,
    width: int,
    most_alpha: float,
    near_at_pixel: float,
    near: float,
    far: float,
    image: Any,
    sums: Any,
    chosen: Any,
    grad_image: Any,
    grad_alpha: Any,
    grad_depth: Any,
    grad_distortion: Any,
    grad_median: Any,
    total: Any,
    light: Any,
    prefix: Any,
    ended: Any,
    to_screen: Any,
    to_opacity: Any,
    to_features: Any,
) -> None:
    """Walk the primitives again in the rows from `first` to `last`, and add up the gradients of these rows.

    `total`, `light`, `prefix` and `ended` are room for a number a pixel: zeros, ones, zeros and false.
    """
    channels = features.shape[1]
    for row in range(first, last):
        for column in range(width):
            total_w, total_wz = sums[row, column, 0], sums[row, column, 1]
            total_wm, total_wmm = sums[row, column, 2], sums[row, column, 3]
            q = grad_alpha[row, column] * total_w + grad_depth[row, column] * total_wz
            q += 2 * grad_distortion[row, column] * (total_w * total_wmm - total_wm * total_wm)
            for channel in range(channels):
                q += grad_image[row, column, channel] * image[row, column, channel]
            total[row, column] = q
    line = np.zeros(9)
    for n in order:
        s = screen[n]
        for row in range(max(first, rows[n, 0]), min(last, rows[n, 1])):
            y = row + 0.5
            if kind == SURFEL:
                _surfel_line(s, y, line)
                low, high = _surfel_interval(s, y, reach[n], line)
            else:
                low, high = _gaussian_interval(s, y, reach[n])
            begin, end = _columns(low, high, width)
            # what a row gives to its primitive is linear in these sums over its pixels
            disc_x = disc_y = disc_z = disc_xx = disc_xy = disc_xz = 0.0
            depth_u = depth_v = depth_all = rho_all = rho_x = rho_xx = 0.0
            faded = 0.0
            for column in range(begin, end):
                if ended[row, column]:
                    continue
                x = column + 0.5
                rho, z, u, v, on_disc = _meet(kind, s, line, x, y, near_at_pixel)
                if rho < 0.0 or rho > reach[n]:
                    continue
                e = math.exp(-0.5 * rho)
                alpha = opacities[n] * e
                clamped = alpha > most_alpha
                if clamped:
                    alpha = most_alpha
                if alpha < _LEAST_ALPHA:
                    continue
                before = light[row, column]
                after = before * (1 - alpha)
                if after <= _LEAST_TRANSMITTANCE:
                    ended[row, column] = True
                    continue
                light[row, column] = after
                w = alpha * before
                m = _remap(z, near, far)
                bend, s0, s2 = grad_distortion[row, column], sums[row, column, 0], sums[row, column, 2]
                q = grad_alpha[row, column] + grad_depth[row, column] * z
                q += bend * (m * m * s0 + sums[row, column, 3] - 2 * m * s2)
                for channel in range(channels):
                    g = grad_image[row, column, channel]
                    q += g * features[n, channel]
                    to_features[n, channel] += w * g
                passed = prefix[row, column] + w * q
                prefix[row, column] = passed
                to_alpha = before * q - (total[row, column] - passed) / (1 - alpha)
                to_z = w * grad_depth[row, column]
                to_m = 2 * w * bend * (m * s0 - s2)
                if far == 0.0:
                    to_z += to_m
                elif z > 1e-9:
                    to_z += to_m * far / (far - near) * near / (z * z)
                if chosen[row, column] == n:
                    to_z += grad_median[row, column]
                to_rho = 0.0
                if not clamped:
                    faded += to_alpha * e
                    to_rho = -0.5 * alpha * to_alpha
                depth_all += to_z
                if on_disc:
                    depth_u += to_z * u
                    depth_v += to_z * v
                    below = line[2] + x * line[5]
                    gx = (2 * u * to_rho + to_z * s[6]) / below
                    gy = (2 * v * to_rho + to_z * s[7]) / below
                    gz = -(gx * u + gy * v)
                    disc_x += gx
                    disc_y += gy
                    disc_z += gz
                    disc_xx += x * gx
                    disc_xy += x * gy
                    disc_xz += x * gz
                else:
                    dx = x - (s[9] if kind == SURFEL else s[0])
                    rho_all += to_rho
                    rho_x += to_rho * dx
                    rho_xx += to_rho * dx * dx
            to_opacity[n] += faded
            out = to_screen[n]
            if kind == GAUSSIAN:
                dy = y - screen[n, 1]
                out[0] -= 2 * (screen[n, 2] * rho_x + screen[n, 3] * dy * rho_all)
                out[1] -= 2 * (screen[n, 3] * rho_x + screen[n, 4] * dy * rho_all)
                out[2] += rho_xx
                out[3] += 2 * dy * rho_x
                out[4] += dy * dy * rho_all
                out[5] += depth_all
            elif begin < end:
                out[9] -= 4 * rho_x
                out[10] -= 4 * (y - screen[n, 10]) * rho_all
                out[6] += depth_u
                out[7] += depth_v
                out[8] += depth_all
                _disc_backward(screen[n], line, y, disc_x, disc_y, disc_z, disc_xx, disc_xy, disc_xz, out)


@_jit
@no_type_check
def _disc_backward(
    t: Any, line: Any, y: float, gx: float, gy: float, gz: float, xx: float, xy: float, xz: float, out: Any
) -> None:
    """Add a row's gradient of T, given the sums over its pixels of g = dL/d(X, Y, Z) and of x g.

    With (X, Y, Z) = h_u x h_v, h_u = x T_w - T_u and h_v = y T_w - T_v, the gradient of h_u is h_v x g and that of
    h_v is g x h_u; h_v is the same for the whole row.
    """
    va, vb, vc = line[6], line[7], line[8]
    ua, ub, uc = vb * gz - vc * gy, vc * gx - va * gz, va * gy - vb * gx
    out[0] -= ua
    out[1] -= ub
    out[2] -= uc
    out[6] += vb * xz - vc * xy
    out[7] += vc * xx - va * xz
    out[8] += va * xy - vb * xx
    wa = (xy * t[8] - xz * t[7]) - (gy * t[2] - gz * t[1])
    wb = (xz * t[6] - xx * t[8]) - (gz * t[0] - gx * t[2])
    wc = (xx * t[7] - xy * t[6]) - (gx * t[1] - gy * t[0])
    out[3] -= wa
    out[4] -= wb
    out[5] -= wc
    out[6] += y * wa
    out[7] += y * wb
    out[8] += y * wc


@_jit
@no_type_check
def project_backward(
    kind: int,
    first: int,
    last: int,
    means: Any,
    quats: Any,
    scales: Any,
    viewmat: Any,
    intrinsics: Any,
    width: int,
    height: int,
    screen: Any,
    rows: Any,
    to_screen: Any,
    to_means: Any,
    to_quats: Any,
    to_scales: Any,
    to_probe: Any,
) -> None:
    """Add the gradients of means, quaternions, scales and places on the screen of primitives `first` to `last`."""
    g, c, to_c = np.empty(screen.shape[1]), np.empty(3), np.empty(3)
    world, axes = np.empty((3, 3)), np.empty((3, 3))
    to_axes, to_world = np.empty((3, 3)), np.empty((3, 3))
    for n in range(first, last):
        if rows[n, 0] >= rows[n, 1]:
            continue
        g[:] = 0.0
        to_c[:] = 0.0
        to_axes[:] = 0.0
        for band in range(to_screen.shape[0]):
            for i in range(g.shape[0]):
                g[i] += to_screen[band, n, i]
        _to_camera(viewmat, means[n], c)
        norm = _rotation(quats[n], world)
        _turn(viewmat, world, axes)
        if kind == SURFEL:
            _surfel_backward(
                screen[n], g, axes, scales[n], intrinsics, to_axes, to_c, to_scales[n], to_probe[n]
            )
        else:
            _gaussian_backward(
                screen[n],
                g,
                axes,
                c,
                scales[n],
                intrinsics,
                width,
                height,
                to_axes,
                to_c,
                to_scales[n],
                to_probe[n],
            )
        for i in range(3):
            for k in range(3):
                to_means[n, i] += viewmat[k, i] * to_c[k]
            for j in range(3):
                to_world[i, j] = (
                    viewmat[0, i] * to_axes[0, j]
                    + viewmat[1, i] * to_axes[1, j]
                    + viewmat[2, i] * to_axes[2, j]
                )
        _rotation_backward(quats[n], norm, to_world, to_quats[n])


@_jit
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


@_jit
@no_type_check
def _gaussian_backward(
    s: Any,
    g: Any,
    axes: Any,
    c: Any,
    scale: Any,
    intrinsics: Any,
    width: int,
    height: int,
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
    wide, high = _MARGIN * width / fx, _MARGIN * height / fy
    u = min(max(true_u, -(cx / fx + wide)), (width - cx) / fx + wide)
    v = min(max(true_v, -(cy / fy + high)), (height - cy) / fy + high)
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
