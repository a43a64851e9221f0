"""How well a trained scene shows its test frames, and pictures of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from papertrial.scenes.image_losses import psnr, ssim
from papertrial.scenes.modec_gs.intervals import Intervals
from papertrial.scenes.modec_gs.scene import Player
from papertrial.scenes.modec_gs.views import TimedView, masked_psnr, masked_ssim
from papertrial.scenes.pictures import colour_picture, enlarge, error_picture, strip
from papertrial.scenes.procedural_clip import MOVING_UNTIL

SHOWN_PIXELS = 192  # a side, at least, of what is kept
_SHOWN_TIMES = (0.1, 0.25, 0.75)
_MOMENTS, _MOVING_SHARE, _TIMES_THE_ERROR = 9, 0.999, 3.0


class Scores(NamedTuple):
    """Of a scene on its test frames.

    Attributes:
        psnr: mean over frames in dB, over covisible pixels where frames have masks.
        ssim: mean over frames, likewise.
        moving_psnr: over all pixels, of all frames, on which something moves; NaN where that is not known.
    """

    psnr: float
    ssim: float
    moving_psnr: float


class ShownMotion(NamedTuple):
    """Of a scene from cameras that stand still.

    Attributes:
        change: how much brightness changes over time where it changes most (99.9th percentile of pixels).
        error: root mean square error of the training frames.
        found: whether the change stands out from the error.
    """

    change: float
    error: float
    found: bool


def render_views(player: Player, views: Sequence[TimedView]) -> list[Tensor]:
    """Return what the cameras of views see, each (H, W, 3) within 0 and 1, on the CPU."""
    return [player.render(view.camera, view.time).colour.clamp(0, 1).cpu() for view in views]


def score(
    images: Sequence[Tensor], views: Sequence[TimedView], moving: Sequence[Tensor] | None = None
) -> Scores:
    """Hold rendered images against test frames.

    Args:
        images: as `render_views` gives them.
        views: that they are of.
        moving: where something moves in each.
    """
    each = [
        psnr(image, view.image) if view.mask is None else masked_psnr(image, view)
        for image, view in zip(images, views, strict=True)
    ]
    alike = [
        float(ssim(image, view.image)) if view.mask is None else masked_ssim(image, view)
        for image, view in zip(images, views, strict=True)
    ]
    found = math.nan
    if moving is not None and any(bool(one.any()) for one in moving):
        errors = [
            (image.double() - view.image.double()).square()[where]
            for image, view, where in zip(images, views, moving, strict=True)
        ]
        found = -10 * math.log10(float(torch.cat(errors).mean()))
    return Scores(sum(each) / len(each), sum(alike) / len(alike), found)


def shown_motion(player: Player, views: Sequence[TimedView], moments: int = _MOMENTS) -> ShownMotion:
    """Look for motion in what a trained scene shows: from cameras that are held still while its time goes by.

    Training with gates that close, or on frames in which nothing moves, leaves a scene whose pictures change by less
    than they are wrong. The 99.9th percentile over pixels of the range over time is held against three times the root
    mean square error of the training frames.

    Args:
        player: of the scene.
        views: that it was trained on.
        moments: of time that are looked at, from each of three cameras.
    """
    error = math.sqrt(
        sum(
            float((image - view.image.cpu()).square().mean())
            for image, view in zip(render_views(player, views), views, strict=True)
        )
        / len(views)
    )
    times = [at / (moments - 1) for at in range(moments)]
    ranges = []
    for view in (views[0], views[len(views) // 2], views[-1]):
        seen = torch.stack(render_views(player, [view._replace(time=time) for time in times])).mean(-1)
        ranges.append((seen.amax(0) - seen.amin(0)).flatten())
    change = float(np.quantile(torch.cat(ranges).numpy(), _MOVING_SHARE))  # torch's takes no large pictures
    return ShownMotion(change, error, change > _TIMES_THE_ERROR * error)


def fast_interval_length(intervals: Intervals, until: float = MOVING_UNTIL) -> float:
    """Return how long the segments are that the fast first part of a clip lies in, relative to even ones.

    The part's length over how many segments it is divided into, those that lie in it only partly counted by their
    share in it. Time that two segments within the part pass to each other leaves it at 1: the part is divided into as
    many as before. It is below 1 where time was passed to the rest of the clip.
    """
    inside = intervals.borders.clamp(max=until).diff()
    segments = float((inside / intervals.lengths).sum())
    return until * len(intervals) / segments


def interval_rows(intervals: Intervals) -> list[dict[str, int | float]]:
    """Return a table of the segments: start, end, and length relative to even ones."""
    borders, count = intervals.borders.tolist(), len(intervals)
    return [
        {
            "segment": at,
            "start": round(borders[at], 5),
            "end": round(borders[at + 1], 5),
            "relative_length": round((borders[at + 1] - borders[at]) * count, 4),
        }
        for at in range(count)
    ]


def film(images: Sequence[Tensor]) -> UInt8[np.ndarray, "t h w 3"]:
    """Return images as frames of a film, each pixel a square, so that the film is some 192 pixels high."""
    return np.stack([enlarge(colour_picture(image), _factor(image)) for image in images])


def comparison(images: Sequence[Tensor], views: Sequence[TimedView]) -> UInt8[np.ndarray, "h w 3"]:
    """Return truth, rendering and error side by side for three times: while things move fast, as they stop, later."""
    rows = []
    for wanted in _SHOWN_TIMES:
        at = min(range(len(views)), key=lambda place: abs(views[place].time - wanted))
        factor = _factor(images[at])
        pictures = [
            (f"truth, t = {views[at].time:.2f}", colour_picture(views[at].image)),
            ("rendered", colour_picture(images[at])),
            ("error, 0 to 0.25", error_picture(images[at], views[at].image)),
        ]
        rows.append(strip([(label, enlarge(picture, factor)) for label, picture in pictures]))
    return np.concatenate(rows)


def _factor(image: Tensor) -> int:
    return max(1, math.ceil(SHOWN_PIXELS / image.shape[0]))
