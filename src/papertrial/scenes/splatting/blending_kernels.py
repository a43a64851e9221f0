"""The compiled kernel of the CPU that blends primitives into an image.

Primitives are walked front to back, row by row (`meeting`), four pixels at a time (`lanes`). The image is cut into
bands of rows, which own their pixels and so can run side by side, each in a thread of its own (the kernels let Python's
lock go); each band sums its own gradients, and the sums are added in a fixed order, so that results do not depend on
the number of threads.
"""

from __future__ import annotations

from typing import Any, no_type_check

from papertrial.scenes.splatting.kernel_basis import (
    CHOSEN,
    FEATURES,
    LEAST_ALPHA,
    LEAST_TRANSMITTANCE,
    LIGHT,
    MEDIAN,
    SUM_W,
    SUM_WM,
    SUM_WMM,
    SUM_WZ,
    jit,
)
from papertrial.scenes.splatting.lanes import WIDTH, add, any_of, both, load, ramp, store, where
from papertrial.scenes.splatting.meeting import distortion_depth, fall, meet, span, taken


@jit
@no_type_check
def blend(
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
    outputs: Any,
) -> None:
    """Blend all primitives, front to back, in the rows from `first` to `last`.

    Written are: `planes` (H, FEATURES + C, padded W), whose LIGHT ends below 0 where a pixel was full before the last
    contribution; row `band` of `places`: each primitive's number among those that reach a pixel here, or -1; and these
    rows of the five outputs.
    """
    channels = features.shape[1]
    planes[first:last] = 0.0
    planes[first:last, LIGHT] = 1.0
    planes[first:last, CHOSEN] = -1.0
    met = 0
    for k in range(len(order)):
        n = order[k]
        places[band, k] = -1
        top, bottom = max(first, rows[n, 0]), min(last, rows[n, 1])
        if top >= bottom:
            continue
        s, r, opacity, hit = taken(screen, n), reach[n], opacities[n], False
        for row in range(top, bottom):
            y = row + 0.5
            line, begin, end = span(kind, s, y, r, width)
            for column in range(begin, end, WIDTH):
                x = ramp(column + 0.5)
                rho, z, _, _, _, _, seen = meet(kind, s, line, x, y)
                alpha = opacity * fall(rho)
                alpha = where(alpha < most_alpha, alpha, most_alpha)
                seen = both(both(seen, rho <= r), both(z > near_at_pixel, alpha >= LEAST_ALPHA))
                seen = both(seen, x < width)
                if not any_of(seen):
                    continue
                hit = True
                before = load(planes, row, LIGHT, column)
                alpha = where(seen, alpha, 0.0)
                after = before * (1.0 - alpha)
                left = after > LEAST_TRANSMITTANCE
                store(planes, row, LIGHT, column, where(left, after, -1.0))
                seen = both(seen, left)
                w = where(seen, alpha * before, 0.0)
                z = where(seen, z, 0.0)
                m = distortion_depth(z, near, far)
                wm = w * m
                add(planes, row, SUM_W, column, w)
                add(planes, row, SUM_WM, column, wm)
                add(planes, row, SUM_WMM, column, wm * m)
                if far != 0.0:
                    add(planes, row, SUM_WZ, column, w * z)
                # as sums: stores under a mask are slow
                middle = both(seen, before > 0.5)
                replaced, stays = where(middle, 1.0, 0.0), where(middle, 0.0, 1.0)
                store(planes, row, MEDIAN, column, load(planes, row, MEDIAN, column) * stays + z * replaced)
                store(planes, row, CHOSEN, column, load(planes, row, CHOSEN, column) * stays + k * replaced)
                for channel in range(channels):
                    add(planes, row, FEATURES + channel, column, w * features[n, channel])
        if hit:
            places[band, k] = met
            met += 1
    if far == 0.0:  # m is z
        planes[first:last, SUM_WZ] = planes[first:last, SUM_WM]
    _develop(first, last, width, planes, outputs)


@jit
@no_type_check
def _develop(first: int, last: int, width: int, planes: Any, outputs: Any) -> None:
    """Write features, alpha, depth, distortion and median depth, in the outputs' own type."""
    features, alpha, depth, distortion, median = outputs
    for row in range(first, last):
        for column in range(width):
            w, wm = planes[row, SUM_W, column], planes[row, SUM_WM, column]
            alpha[row, column] = w
            depth[row, column] = planes[row, SUM_WZ, column]
            distortion[row, column] = w * planes[row, SUM_WMM, column] - wm * wm
            median[row, column] = planes[row, MEDIAN, column]
            for channel in range(features.shape[2]):
                features[row, column, channel] = planes[row, FEATURES + channel, column]
