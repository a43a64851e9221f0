"""Frames that a moving scene is trained on and tested on, and what cannot be trained on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.image_losses import WINDOW, check_images, similarity, window

FEWEST_FRAMES_A_SEGMENT = 2
_BLOCK = 8  # pixels a side over which noise averages out
_BLOCK_SIGMAS = 7.0  # of a block's mean: a million blocks of pure noise stay below 5
_MEDIAN_OF_NORMAL = 0.6745  # of the absolute value, in standard deviations
_SAME_POSE = 1e-6


class TimedView(NamedTuple):
    """A photograph: its camera, its time within 0 and 1, its image (H x W x 3, within 0 and 1).

    `mask` (H x W, boolean) says which pixels count in masked metrics; None where there is none.
    """

    camera: Camera
    time: float
    image: Tensor
    mask: Tensor | None = None


def check_views(views: Sequence[TimedView], segments: int) -> None:
    """Raise for frames that cannot be trained on; warn where nothing moves in them.

    Raises:
        BadInputError: fewer than two frames, times outside 0 to 1 or not sorted, more segments than half of the
            frames, images of different sizes or that are not their cameras'.
    """
    if len(views) < 2:
        raise BadInputError(f"a moving scene needs 2 frames or more, got {len(views)}")
    check_times([view.time for view in views])
    moments = len({view.time for view in views})
    if segments > moments / FEWEST_FRAMES_A_SEGMENT:
        raise BadInputError(
            f"{segments} segments need {FEWEST_FRAMES_A_SEGMENT * segments} moments or more, there are {moments}; "
            f"take at most {moments // FEWEST_FRAMES_A_SEGMENT} segments"
        )
    sizes = {tuple(view.image.shape[:2]) for view in views}
    if len(sizes) > 1:
        found = ", ".join(f"{width} x {height}" for height, width in sorted(sizes))
        raise BadInputError(f"all images must have one size, these have {found}; crop or shrink them first")
    for view in views:
        blank = view.image.new_empty(view.camera.height, view.camera.width, 3)
        check_images(blank, view.image, view.camera.name)
    if all(torch.equal(view.image, views[0].image) for view in views):
        warnings.warn(
            f"no motion found: all {len(views)} images are the same; the scene will be still", stacklevel=2
        )
    elif _only_noise(views):
        warnings.warn(
            f"no motion found: the camera stands still, and its {len(views)} images differ by no more than noise",
            stacklevel=2,
        )


def _only_noise(views: Sequence[TimedView]) -> bool:
    """Return whether one standing camera took all images, and nothing in them changes but pixels on their own.

    Each image's distance from the mean of all is averaged over blocks of pixels. Independent noise shrinks by the root
    of how many there are; what moves or changes as a whole does not. Where the camera moves, images cannot tell:
    `evaluation.shown_motion` asks the fitted scene.
    """
    first = views[0].camera
    if any(not torch.allclose(view.camera.viewmat, first.viewmat, rtol=0, atol=_SAME_POSE) for view in views):
        return False
    images = torch.stack([view.image for view in views]).permute(0, 3, 1, 2).double()
    away = images - images.mean(0)
    noise = float(away.abs().median()) / _MEDIAN_OF_NORMAL
    block = max(1, min(_BLOCK, *away.shape[2:]))
    most = float(torch.nn.functional.avg_pool2d(away, block).abs().max())
    return most * block <= _BLOCK_SIGMAS * noise


def check_times(times: Sequence[float]) -> None:
    """Raise for times that are not within 0 and 1, or not sorted.

    Raises:
        BadInputError: with the first of them.
    """
    for place, time in enumerate(times):
        if not 0 <= time <= 1:
            raise BadInputError(
                f"times lie within 0 and 1 (spread_times makes them so), frame {place} has {time}"
            )
        if place and time < times[place - 1]:
            raise BadInputError(
                f"frames come in the order of time, frame {place} has {time} after {times[place - 1]}"
            )


def spread_times(moments: Sequence[float]) -> list[float]:
    """Return moments on a scale from 0, the first, to 1, the last.

    Raises:
        BadInputError: fewer than two different moments.
    """
    low, high = (min(moments), max(moments)) if moments else (0.0, 0.0)
    if high <= low:
        raise BadInputError(f"motion needs two different moments at least, got {len(set(moments))}")
    return [(moment - low) / (high - low) for moment in moments]


def warn_of_unseen_times(train: Sequence[TimedView], test: Sequence[TimedView]) -> None:
    """Warn of test frames at moments that no training frame shows: there the fields interpolate."""
    seen = {round(view.time, 6) for view in train}
    unseen = [view.time for view in test if round(view.time, 6) not in seen]
    if unseen:
        warnings.warn(
            f"{len(unseen)} of {len(test)} test frames are at times never trained on (the first is {unseen[0]:.4f}); "
            "the scene is interpolated there",
            stacklevel=2,
        )


def masked_ssim(image: Float[Tensor, "h w 3"], view: TimedView) -> float:
    """Return the SSIM of the pixels of a view's mask.

    Moments are those of the window's pixels inside the mask, weighed as the window weighs them and divided by the
    share of its width that they fill, along rows and then columns; windows that lie wholly outside count as 1.

    Raises:
        BadInputError: see `masked_psnr`; or an image smaller than the window.

    Source: the masked SSIM of arXiv 2210.13445's released code (partial convolutions).
    """
    mask = _checked_mask(view)
    if min(mask.shape) < WINDOW:
        raise BadInputError(
            f"SSIM looks at windows of {WINDOW} x {WINDOW} pixels, the image has {mask.shape[1]} x {mask.shape[0]}"
        )
    a, b = (one.detach().double().permute(2, 0, 1) for one in (image, view.image))
    seen = mask.double().expand_as(a)
    mean_a, mean_b, aa, bb, ab = (_partial_blur(one, seen) for one in (a, b, a * a, b * b, a * b))
    means = (mean_a * mean_a, mean_b * mean_b, mean_a * mean_b)
    spread_a, spread_b = (aa - means[0]).clamp(min=0), (bb - means[1]).clamp(min=0)
    most = (spread_a * spread_b).sqrt()  # a covariance is no larger, whatever dividing has made of it
    together = (ab - means[2]).clamp(-most, most)
    return float(similarity(means, (spread_a, spread_b, together)).mean())


def _partial_blur(image: Float[Tensor, "c h w"], seen: Float[Tensor, "c h w"]) -> Float[Tensor, "c y x"]:
    """Blur along rows, then columns, with what is seen only, wherever the whole window lies in the image."""
    weights = window(image)
    for shape in ((1, 1, 1, WINDOW), (1, 1, WINDOW, 1)):
        blurred = conv2d((image * seen)[:, None], weights.view(shape))[:, 0]
        filled = conv2d(seen[:, None], torch.ones_like(weights).view(shape))[:, 0]
        image = torch.where(filled > 0, blurred * WINDOW / filled.clamp(min=1), 0)
        seen = (filled > 0).to(image)
    return image


def masked_psnr(image: Float[Tensor, "h w 3"], view: TimedView) -> float:
    """Return the PSNR in dB over the pixels of a view's mask.

    Raises:
        BadInputError: the view has no mask, or an empty one.
    """
    mask = _checked_mask(view)
    error = float((image.detach().double() - view.image.double()).square()[mask].mean())
    return float("inf") if error == 0 else -10 * float(torch.tensor(error).log10())


def _checked_mask(view: TimedView) -> Bool[Tensor, "h w"]:
    if view.mask is None:
        raise BadInputError(
            f"masked metrics need a covisible mask of every test view; {view.camera.name!r} has none "
            "(covisible/2x/val/<id>.png); leave the masks out to score all pixels"
        )
    if not bool(view.mask.any()):
        raise BadInputError(f"the mask of {view.camera.name!r} leaves no pixel")
    return view.mask
