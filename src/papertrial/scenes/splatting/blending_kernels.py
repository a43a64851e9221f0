"""The compiled kernels of the CPU: exact rows, blending, and blending backwards.

Primitives are walked front to back. For each row that one covers, one quadratic gives the exact interval of x in which
its alpha can reach 1/255; nothing is listed and nothing is lost. The image is cut into bands of rows, which own their
pixels and so can run side by side, each in a thread of its own (the kernels let Python's lock go); each band sums its
own gradients, and the sums are added in a fixed order, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

from papertrial.scenes.splatting.kernel_basis import (
    FEATURES,
    GAUSSIAN,
    GRADIENTS,
    LEAST_ALPHA,
    LIGHT,
    MEDIAN,
    OF_ALPHA,
    OF_DEPTH,
    OF_DISTORTION,
    OF_MEDIAN,
    PREFIX,
    SLACK,
    SUM_W,
    SUM_WM,
    SUM_WMM,
    SUM_WZ,
    SURFEL,
    TOTAL,
    in_place,
    jit,
)

_LEAST_TRANSMITTANCE = 1e-4
_NO_LINE = (0.0,) * 9


@jit
@no_type_check
def _taken(screen: Any, n: int) -> tuple[float, ...]:
    """Return a primitive's projection as numbers: read once, since every write to a pixel might change an array."""
    s = screen[n]
    return s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10]


@jit
@no_type_check
def _surfel_line(t: Any, y: float) -> tuple[float, ...]:
    """Return the row's line: (X, Y, Z) of the intersection is `line[0:3] + x * line[3:6]`; `line[6:9]` is h_v."""
    a, b, c = y * t[6] - t[3], y * t[7] - t[4], y * t[8] - t[5]
    return (
        t[2] * b - t[1] * c,
        t[0] * c - t[2] * a,
        t[1] * a - t[0] * b,
        t[7] * c - t[8] * b,
        t[8] * a - t[6] * c,
        t[6] * b - t[7] * a,
        a,
        b,
        c,
    )


@jit
@no_type_check
def _surfel_interval(t: Any, y: float, reach: float, line: Any, width: int) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    a = line[3] * line[3] + line[4] * line[4] - reach * line[5] * line[5]
    b = line[0] * line[3] + line[1] * line[4] - reach * line[2] * line[5]
    c = line[0] * line[0] + line[1] * line[1] - reach * line[2] * line[2]
    inside = b * b - a * c
    if a > 0.0:
        if inside >= 0.0:
            root = math.sqrt(inside)
            low, high = (-b - root) / a, (-b + root) / a
    elif a == 0.0 or inside <= 0.0:
        return -math.inf, math.inf
    else:  # the disc crosses the camera's plane on this row: it lies on both sides of the roots, seldom in the image
        root = math.sqrt(inside)
        left, right = (-b + root) / a, (-b - root) / a
        if left >= 0.0:
            low, high = -math.inf, left
        if right <= width:
            low, high = min(low, right), math.inf
    away = y - t[10]
    inside = reach / 2 - away * away
    if inside >= 0.0:
        root = math.sqrt(inside)
        low, high = min(low, t[9] - root), max(high, t[9] + root)
    return low, high


@jit
@no_type_check
def _gaussian_interval(s: Any, y: float, reach: float) -> tuple[float, float]:
    dy = y - s[1]
    inside = s[3] * s[3] * dy * dy - s[2] * (s[4] * dy * dy - reach)
    if inside < 0.0:
        return math.inf, -math.inf
    root = math.sqrt(inside)
    return s[0] + (-s[3] * dy - root) / s[2], s[0] + (-s[3] * dy + root) / s[2]


@jit
@no_type_check
def _columns(low: float, high: float, width: int) -> tuple[int, int]:
    """Return first and last column + 1 of the pixels whose centres lie in an interval, with room for rounding."""
    if not low <= high or high < 0.0 or low > width:
        return 0, 0
    begin, end = math.ceil(max(low, 0.0) - 0.5 - SLACK), math.floor(min(high, float(width)) + 0.5 + SLACK)
    return max(0, begin), min(width, end)


@in_place
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
    inverse = 1.0 / below
    u, v = (line[0] + x * line[3]) * inverse, (line[1] + x * line[4]) * inverse
    disc = u * u + v * v
    dx, dy = x - s[9], y - s[10]
    screen = 2 * (dx * dx + dy * dy)
    on_disc = disc <= screen
    depth = u * s[6] + v * s[7] + s[8] if on_disc else s[8]
    if depth <= near_at_pixel:
        return -1.0, 0.0, 0.0, 0.0, False
    return (disc if on_disc else screen), depth, u, v, on_disc


@in_place
@no_type_check
def _remap(depth: float, near: float, far: float) -> float:
    """Return the depth that the distortion is taken of; `far` 0 keeps it as it is."""
    return depth if far == 0.0 else far / (far - near) * (1 - near / max(depth, 1e-9))


@jit
@no_type_check
def blend(
    kind: int,
    first: int,
    last: int,
    screen: Any,
    rows: Any,
    reach: Any,
    opacities: Any,
    features: Any,
    width: int,
    most_alpha: float,
    near_at_pixel: float,
    near: float,
    far: float,
    pixels: Any,
    chosen: Any,
    touched: Any,
) -> None:
    """Blend all primitives, front to back, in the rows from `first` to `last`.

    Written are: `pixels` (H, W, FEATURES + C), whose LIGHT begins at 1 and ends below 0 where a pixel was full before
    the last contribution; `chosen`, the primitive of the median depth, or -1; `touched`, which primitives reach a
    pixel here.
    """
    channels = features.shape[1]
    for n in range(len(screen)):
        s, r, opacity = _taken(screen, n), reach[n], opacities[n]
        line, hit = _NO_LINE, False
        for row in range(max(first, rows[n, 0]), min(last, rows[n, 1])):
            y = row + 0.5
            if kind == SURFEL:
                line = _surfel_line(s, y)
                low, high = _surfel_interval(s, y, r, line, width)
            else:
                low, high = _gaussian_interval(s, y, r)
            begin, end = _columns(low, high, width)
            for column in range(begin, end):
                rho, z, _, _, _ = _meet(kind, s, line, column + 0.5, y, near_at_pixel)
                if rho < 0.0 or rho > r:
                    continue
                alpha = min(most_alpha, opacity * math.exp(-0.5 * rho))
                if alpha < LEAST_ALPHA:
                    continue
                hit = True
                before = pixels[row, column, LIGHT]
                after = before * (1 - alpha)
                if after <= _LEAST_TRANSMITTANCE:
                    pixels[row, column, LIGHT] = -1.0
                    continue
                pixels[row, column, LIGHT] = after
                w = alpha * before
                m = _remap(z, near, far)
                pixels[row, column, SUM_W] += w
                pixels[row, column, SUM_WZ] += w * z
                pixels[row, column, SUM_WM] += w * m
                pixels[row, column, SUM_WMM] += w * m * m
                if before > 0.5:
                    pixels[row, column, MEDIAN] = z
                    chosen[row, column] = n
                for channel in range(channels):
                    pixels[row, column, FEATURES + channel] += w * features[n, channel]
        if hit:
            touched[n] = True


@jit
@no_type_check
def blend_backward(
    kind: int,
    first: int,
    last: int,
    screen: Any,
    rows: Any,
    reach: Any,
    opacities: Any,
    features: Any,
    width: int,
    most_alpha: float,
    near_at_pixel: float,
    near: float,
    far: float,
    chosen: Any,
    pixels: Any,
    to_screen: Any,
    to_opacity: Any,
    to_features: Any,
) -> None:
    """Walk the primitives again in the rows from `first` to `last`, and add up the gradients of these rows.

    `pixels` (H, W, GRADIENTS + C) holds what `backward_pixels` writes; its LIGHT, PREFIX and TOTAL change here.
    """
    channels = features.shape[1]
    for n in range(len(screen)):
        s, r, opacity = _taken(screen, n), reach[n], opacities[n]
        line = _NO_LINE
        for row in range(max(first, rows[n, 0]), min(last, rows[n, 1])):
            y = row + 0.5
            if kind == SURFEL:
                line = _surfel_line(s, y)
                low, high = _surfel_interval(s, y, r, line, width)
            else:
                low, high = _gaussian_interval(s, y, r)
            begin, end = _columns(low, high, width)
            # what a row gives to its primitive is linear in these sums over its pixels
            disc_x = disc_y = disc_z = disc_xx = disc_xy = disc_xz = 0.0
            depth_u = depth_v = depth_all = rho_all = rho_x = rho_xx = 0.0
            faded = 0.0
            for column in range(begin, end):
                x = column + 0.5
                rho, z, u, v, on_disc = _meet(kind, s, line, x, y, near_at_pixel)
                if rho < 0.0 or rho > r:
                    continue
                e = math.exp(-0.5 * rho)
                alpha = opacity * e
                clamped = alpha > most_alpha
                if clamped:
                    alpha = most_alpha
                if alpha < LEAST_ALPHA:
                    continue
                before = pixels[row, column, LIGHT]
                after = before * (1 - alpha)
                if after <= _LEAST_TRANSMITTANCE:
                    pixels[row, column, LIGHT] = -1.0
                    continue
                pixels[row, column, LIGHT] = after
                w = alpha * before
                m = _remap(z, near, far)
                of_depth, bend = pixels[row, column, OF_DEPTH], pixels[row, column, OF_DISTORTION]
                s0, s1 = pixels[row, column, SUM_W], pixels[row, column, SUM_WM]
                q = pixels[row, column, OF_ALPHA] + of_depth * z
                q += bend * (m * m * s0 + pixels[row, column, SUM_WMM] - 2 * m * s1)
                for channel in range(channels):
                    g = pixels[row, column, GRADIENTS + channel]
                    q += g * features[n, channel]
                    to_features[n, channel] += w * g
                passed = pixels[row, column, PREFIX] + w * q
                pixels[row, column, PREFIX] = passed
                to_alpha = before * q - (pixels[row, column, TOTAL] - passed) / (1 - alpha)
                to_z = w * of_depth
                to_m = 2 * w * bend * (m * s0 - s1)
                if far == 0.0:
                    to_z += to_m
                elif z > 1e-9:
                    to_z += to_m * far / (far - near) * near / (z * z)
                if chosen[row, column] == n:
                    to_z += pixels[row, column, OF_MEDIAN]
                to_rho = 0.0
                if not clamped:
                    faded += to_alpha * e
                    to_rho = -0.5 * alpha * to_alpha
                depth_all += to_z
                if on_disc:
                    depth_u += to_z * u
                    depth_v += to_z * v
                    inverse = 1.0 / (line[2] + x * line[5])
                    gx = (2 * u * to_rho + to_z * s[6]) * inverse
                    gy = (2 * v * to_rho + to_z * s[7]) * inverse
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
                dy = y - s[1]
                out[0] -= 2 * (s[2] * rho_x + s[3] * dy * rho_all)
                out[1] -= 2 * (s[3] * rho_x + s[4] * dy * rho_all)
                out[2] += rho_xx
                out[3] += 2 * dy * rho_x
                out[4] += dy * dy * rho_all
                out[5] += depth_all
            elif begin < end:
                out[9] -= 4 * rho_x
                out[10] -= 4 * (y - s[10]) * rho_all
                out[6] += depth_u
                out[7] += depth_v
                out[8] += depth_all
                _disc_backward(s, line, y, disc_x, disc_y, disc_z, disc_xx, disc_xy, disc_xz, out)


@jit
@no_type_check
def backward_pixels(
    kind: int,
    first: int,
    last: int,
    image: Any,
    of_image: Any,
    of_alpha: Any,
    of_depth: Any,
    of_distortion: Any,
    of_median: Any,
    pixels: Any,
) -> None:
    """Write what `blend_backward` needs of every pixel: the outputs' gradients beside the sums of `image`.

    TOTAL becomes the sum over all contributions of weight times the weight's gradient, which these sums give.
    """
    for row in range(first, last):
        for column in range(image.shape[1]):
            w, wz = image[row, column, SUM_W], image[row, column, SUM_WZ]
            wm, wmm = image[row, column, SUM_WM], image[row, column, SUM_WMM]
            total = of_alpha[row, column] * w + of_depth[row, column] * wz
            total += 2 * of_distortion[row, column] * (w * wmm - wm * wm)
            for channel in range(of_image.shape[2]):
                g = of_image[row, column, channel]
                total += g * image[row, column, FEATURES + channel]
                pixels[row, column, GRADIENTS + channel] = g
            pixels[row, column, SUM_W] = w
            pixels[row, column, SUM_WM] = wm
            pixels[row, column, SUM_WMM] = wmm
            pixels[row, column, LIGHT] = 1.0
            pixels[row, column, PREFIX] = 0.0
            pixels[row, column, TOTAL] = total
            pixels[row, column, OF_ALPHA] = of_alpha[row, column]
            pixels[row, column, OF_DEPTH] = of_depth[row, column]
            pixels[row, column, OF_DISTORTION] = of_distortion[row, column]
            pixels[row, column, OF_MEDIAN] = of_median[row, column]


@jit
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
