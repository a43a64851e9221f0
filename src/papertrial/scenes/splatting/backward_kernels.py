"""The compiled kernel of the CPU that takes an image's gradients back to its primitives' projections.

It walks the primitives in the same order as `blending_kernels` and meets the same pixels, so that nothing of that walk
need be kept but each pixel's sums.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np

from papertrial.scenes.splatting.kernel_basis import (
    CHOSEN,
    FEATURES,
    GAUSSIAN,
    LEAST_ALPHA,
    LEAST_TRANSMITTANCE,
    LIGHT,
    OF_CONSTANT,
    OF_DEPTH,
    OF_FEATURES,
    OF_LINEAR,
    OF_MEDIAN,
    OF_SQUARE,
    REST,
    SCREEN_COLUMNS,
    SUM_W,
    SUM_WM,
    SUM_WMM,
    SUM_WZ,
    SURFEL,
    TO_FEATURES,
    TO_OPACITY,
    jit,
)
from papertrial.scenes.splatting.lanes import WIDTH, add, any_of, both, lanes, load, ramp, store, total, where
from papertrial.scenes.splatting.meeting import distortion_depth, fall, meet, span, taken
from papertrial.scenes.splatting.primitives import LEAST_DEPTH


@jit
@no_type_check
def blend_backward(
    kind: int,
    band: int,
    first: int,
    last: int,
    order: Any,
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
    planes: Any,
    places: Any,
    of_outputs: Any,
    gradients: Any,
) -> None:
    """Walk the primitives again in the rows from `first` to `last`, and sum up the gradients of these rows.

    Written is `gradients[band]`: for each primitive that reaches a pixel here, at its number in `places`, the gradients
    of its projection, its opacity and its features (see `kernel_basis`).
    """
    channels = features.shape[1]
    work = np.zeros((last - first, OF_FEATURES + channels, planes.shape[2]))
    with_median = _begin(first, last, width, planes, of_outputs, work)
    of_own = np.empty((1, channels, WIDTH))
    nothing = lanes(0.0)
    for k in range(len(order)):
        place = places[band, k]
        if place < 0:
            continue
        n = order[k]
        s, r, opacity = taken(screen, n), reach[n], opacities[n]
        of_own[:] = 0.0
        # what a primitive is given is linear in sums over its pixels: of g = dL/d(X, Y, Z), x g and y g on the disc,
        # of dL/drho with powers of dx and dy on the screen's circle or a Gaussian, of dL/dz with u and v
        gx, gy, gz = nothing, nothing, nothing
        x_gx, x_gy, x_gz = nothing, nothing, nothing
        y_gx, y_gy, y_gz = nothing, nothing, nothing
        around, around_x, around_y, around_xx, around_xy, around_yy = (
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
        )
        deep, deep_u, deep_v, faded = nothing, nothing, nothing, nothing
        for row in range(max(first, rows[n, 0]), min(last, rows[n, 1])):
            y = row + 0.5
            at = row - first
            line, begin, end = span(kind, s, y, r, width)
            dy = y - (s[10] if kind == SURFEL else s[1])
            row_gx, row_gy, row_gz = nothing, nothing, nothing
            row_around, row_x = nothing, nothing
            for column in range(begin, end, WIDTH):
                x = ramp(column + 0.5)
                rho, z, u, v, inverse, on_disc, seen = meet(kind, s, line, x, y)
                e = fall(rho)
                alpha = opacity * e
                free = alpha <= most_alpha
                alpha = where(free, alpha, most_alpha)
                seen = both(both(seen, rho <= r), both(z > near_at_pixel, alpha >= LEAST_ALPHA))
                if not any_of(seen):
                    continue
                before = load(work, at, LIGHT, column)
                alpha = where(seen, alpha, 0.0)
                kept = 1.0 - alpha
                after = before * kept
                left = after > LEAST_TRANSMITTANCE
                store(work, at, LIGHT, column, where(left, after, -1.0))
                seen = both(seen, left)
                w = where(seen, alpha * before, 0.0)
                z = where(seen, z, 0.0)
                m = distortion_depth(z, near, far)
                depth_slope = load(work, at, OF_DEPTH, column)
                linear, square = load(work, at, OF_LINEAR, column), load(work, at, OF_SQUARE, column)
                bent = m * square
                q = load(work, at, OF_CONSTANT, column) + depth_slope * z + m * (linear + bent)
                for channel in range(channels):
                    g = load(work, at, OF_FEATURES + channel, column)
                    q = q + g * features[n, channel]
                    add(of_own, 0, channel, 0, g * w)
                rest = load(work, at, REST, column) - w * q
                store(work, at, REST, column, rest)
                to_alpha = before * q - rest / kept
                to_m = w * (linear + 2.0 * bent)
                if far != 0.0:
                    to_m = where(
                        z > max(near, LEAST_DEPTH), to_m * (far / (far - near) * near) / (z * z), 0.0
                    )
                to_z = w * depth_slope + to_m
                if with_median:
                    mine = both(seen, load(planes, row, CHOSEN, column) == lanes(k))
                    to_z = to_z + where(mine, load(work, at, OF_MEDIAN, column), 0.0)
                free = both(free, seen)
                to_alpha = where(free, to_alpha, 0.0)
                faded = faded + to_alpha * e
                to_rho = to_alpha * alpha * -0.5
                deep = deep + to_z
                if kind == SURFEL:
                    on_disc = both(on_disc, seen)
                    disc_z = where(on_disc, to_z, 0.0)
                    u, v = where(on_disc, u, 0.0), where(on_disc, v, 0.0)
                    inverse = where(on_disc, inverse, 0.0)
                    deep_u = deep_u + disc_z * u
                    deep_v = deep_v + disc_z * v
                    of_x = (2.0 * u * to_rho + disc_z * s[6]) * inverse
                    of_y = (2.0 * v * to_rho + disc_z * s[7]) * inverse
                    of_z = -1.0 * (of_x * u + of_y * v)
                    row_gx, row_gy, row_gz = row_gx + of_x, row_gy + of_y, row_gz + of_z
                    x_gx, x_gy, x_gz = x_gx + x * of_x, x_gy + x * of_y, x_gz + x * of_z
                    to_rho = where(on_disc, 0.0, to_rho)
                dx = x - (s[9] if kind == SURFEL else s[0])
                row_around = row_around + to_rho
                row_x = row_x + to_rho * dx
                if kind == GAUSSIAN:
                    around_xx = around_xx + to_rho * dx * dx
            around, around_x = around + row_around, around_x + row_x
            around_y = around_y + row_around * dy
            if kind == SURFEL:
                gx, gy, gz = gx + row_gx, gy + row_gy, gz + row_gz
                y_gx, y_gy, y_gz = y_gx + y * row_gx, y_gy + y * row_gy, y_gz + y * row_gz
            else:
                around_xy = around_xy + row_x * dy
                around_yy = around_yy + row_around * (dy * dy)
        out = gradients[band, place]
        out[TO_OPACITY] = total(faded)
        for channel in range(channels):
            out[TO_FEATURES + channel] = total(load(of_own, 0, channel, 0))
        if kind == GAUSSIAN:
            sums = total(around_x), total(around_y), total(around_xx), total(around_xy), total(around_yy)
            _give_gaussian(s, sums, total(deep), out)
        else:
            g = total(gx), total(gy), total(gz)
            x_g, y_g = (total(x_gx), total(x_gy), total(x_gz)), (total(y_gx), total(y_gy), total(y_gz))
            _give_surfel(s, g, x_g, y_g, out)
            out[6] += total(deep_u)
            out[7] += total(deep_v)
            out[8] += total(deep)
            out[9] = -4 * total(around_x)
            out[10] = -4 * total(around_y)


@jit
@no_type_check
def _give_gaussian(s: Any, sums: tuple[float, ...], deep: float, out: Any) -> None:
    """Write the gradient of centre, conic and depth, given sums of dL/drho with dx, dy, dx², dx dy, dy²."""
    x, y, xx, xy, yy = sums
    out[0] = -2 * (s[2] * x + s[3] * y)
    out[1] = -2 * (s[3] * x + s[4] * y)
    out[2], out[3], out[4] = xx, 2 * xy, yy
    out[5] = deep
    out[6:SCREEN_COLUMNS] = 0.0


@jit
@no_type_check
def _give_surfel(t: Any, g: Any, x: Any, y: Any, out: Any) -> None:
    """Write the gradient of the rows T, given the sums of g = dL/d(X, Y, Z), of x g and of y g.

    With (X, Y, Z) = h_u x h_v, h_u = x T_w - T_u and h_v = y T_w - T_v, the gradient of h_u is h_v x g and that of h_v
    is g x h_u; what these give T_w with x y cancels.
    """
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        out[i] = (t[3 + j] * g[k] - t[3 + k] * g[j]) - (t[6 + j] * y[k] - t[6 + k] * y[j])
        out[3 + i] = (g[j] * t[k] - g[k] * t[j]) - (x[j] * t[6 + k] - x[k] * t[6 + j])
        out[6 + i] = (x[j] * t[3 + k] - x[k] * t[3 + j]) + (t[j] * y[k] - t[k] * y[j])


@jit
@no_type_check
def _begin(
    first: int,
    last: int,
    width: int,
    planes: Any,
    of_outputs: Any,
    work: Any,
) -> bool:
    """Write what the walk back needs of every pixel; return whether the median depth has a gradient anywhere.

    REST begins as the sum over all contributions of weight times the weight's gradient, which the sums give.
    """
    of_features, of_alpha, of_depth, of_distortion, of_median = of_outputs
    with_median = False
    for row in range(first, last):
        at = row - first
        for column in range(width):
            w, wz = planes[row, SUM_W, column], planes[row, SUM_WZ, column]
            wm, wmm = planes[row, SUM_WM, column], planes[row, SUM_WMM, column]
            bend = of_distortion[row, column]
            work[at, LIGHT, column] = 1.0
            work[at, OF_CONSTANT, column] = of_alpha[row, column] + bend * wmm
            work[at, OF_DEPTH, column] = of_depth[row, column]
            work[at, OF_LINEAR, column] = -2 * bend * wm
            work[at, OF_SQUARE, column] = bend * w
            rest = of_alpha[row, column] * w + of_depth[row, column] * wz + 2 * bend * (w * wmm - wm * wm)
            for channel in range(of_features.shape[2]):
                g = of_features[row, column, channel]
                work[at, OF_FEATURES + channel, column] = g
                rest += g * planes[row, FEATURES + channel, column]
            work[at, REST, column] = rest
            if of_median[row, column] != 0.0:
                work[at, OF_MEDIAN, column] = of_median[row, column]
                with_median = True
    return with_median
