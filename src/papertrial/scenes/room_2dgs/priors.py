"""Predicted depth and normals of the photographs, and the loss they make.

Source: arXiv 2412.03428, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, project_points
from papertrial.scenes.prior_losses import align_depth, check_depth_prior, depth_prior_loss, normal_prior_loss
from papertrial.scenes.room_2dgs.settings import PriorSettings
from papertrial.scenes.surface_views import SurfaceView, surface_depth

_LEAST_POINTS = 10  # of an image that tells depth from disparity
_LEAST_LENGTH = 0.5  # of a predicted normal that is one; zeros mark pixels without


class Prior(NamedTuple):
    """What networks predict of one photograph.

    Attributes:
        depth: H x W, relative: larger is farther; None where there is none.
        normals: H x W x 3 in the camera's frame (x right, y down, z forward), facing it; zeros mark pixels without,
            None where there is none.
    """

    depth: Tensor | None = None
    normals: Tensor | None = None


class PriorTerm:
    """Holds what a view shows against its prior."""

    def __init__(
        self,
        priors: Sequence[Prior],
        cameras: Sequence[Camera],
        settings: PriorSettings | None = None,
        points: Float[Tensor, "n 3"] | None = None,
    ) -> None:
        """Check the priors of all views.

        Args:
            priors: one for each camera.
            cameras: of the training views.
            settings: weights and steps.
            points: sparse points of the scene, by which depth is told from disparity.

        Raises:
            BadInputError: another number of priors than of cameras; a prior of another size than its image, with values
                that are not finite, or that is constant (the message names the image); depth priors that are disparity.
        """
        if len(priors) != len(cameras):
            raise BadInputError(f"{len(cameras)} views have {len(priors)} priors; give one for each")
        self.settings = settings or PriorSettings()
        for prior, camera in zip(priors, cameras, strict=True):
            if prior.depth is not None:
                check_depth_prior(prior.depth, (camera.width, camera.height), camera.name)
            if prior.normals is not None:
                check_normal_prior(prior.normals, camera)
        if points is not None:
            check_not_disparity([prior.depth for prior in priors], cameras, points)
        self._depths = [self._scaled(prior.depth) for prior in priors]
        self._normals = [prior.normals for prior in priors]
        self._with_normal = [None if one is None else has_normal(one) for one in self._normals]

    def __call__(self, number: int, at: int, view: SurfaceView) -> dict[str, Tensor]:
        """Return the weighted terms of the view in place `at`; a view without a prior has none."""
        settings = self.settings
        if number < settings.start:
            return {}
        losses = {}
        depth, normals, with_normal = self._depths[at], self._normals[at], self._with_normal[at]
        if depth is not None and settings.depth > 0:
            rendered = surface_depth(view.out, settings.depth_ratio)
            there = rendered.detach() > 0
            if bool(there.any()):  # where nothing is, no depth was rendered
                losses["depth_prior"] = settings.depth * depth_prior_loss(
                    rendered,
                    depth.to(rendered),
                    there,
                    gradient_weight=settings.gradient,
                    through_alignment=settings.through_alignment,
                )
        if normals is not None and with_normal is not None and settings.normal > 0:
            losses["normal_prior"] = settings.normal * normal_prior_loss(
                view.normals @ view.camera.rotation.T,
                normals.to(view.normals),
                with_normal.to(view.normals.device),
                l1_weight=settings.normal_l1,
                cosine_weight=settings.normal_cosine,
            )
        return losses

    def _scaled(self, depth: Tensor | None) -> Tensor | None:
        if depth is None or not self.settings.unit_deviation:
            return depth
        return depth / depth.std(correction=0)


def has_normal(normals: Float[Tensor, "h w 3"]) -> Bool[Tensor, "h w"]:
    """Return which pixels of a prior have a normal."""
    return normals.norm(dim=-1) > _LEAST_LENGTH


def check_not_disparity(
    depths: Sequence[Tensor | None], cameras: Sequence[Camera], points: Float[Tensor, "n 3"]
) -> None:
    """Raise where most depth priors grow towards the camera.

    Sparse points tell, but not of one image: some of them are wrong, and some lie behind what the image shows. So
    images vote, each that sees ten points or more.

    Raises:
        BadInputError: most images' priors fall where the points' depth grows.
    """
    falling, voting = [], 0
    for depth, camera in zip(depths, cameras, strict=True):
        if depth is None:
            continue
        known = known_depth(points, camera)
        seen = known > 0
        if int(seen.sum()) >= _LEAST_POINTS:
            voting += 1
            if float(align_depth(known, depth.to(known), seen).scale) < 0:
                falling.append(camera.name)
    if 2 * len(falling) > voting:
        raise BadInputError(
            f"the depth priors of {len(falling)} of {voting} images, {falling[0]!r} the first of them, grow towards "
            "the camera: they are disparity, give 1 / prior"
        )


def known_depth(points: Float[Tensor, "n 3"], camera: Camera) -> Float[Tensor, "h w"]:
    """Return the depths of sparse points at the pixels they fall on, the nearest where several do; 0 elsewhere."""
    here = camera.to(points.dtype)
    pixels, depth, seen = project_points(points, here)
    column, row = pixels[seen].long().unbind(-1)
    nearest = points.new_full((camera.height * camera.width,), torch.inf)
    nearest = nearest.scatter_reduce(0, row * camera.width + column, depth[seen], "amin")
    return torch.where(torch.isfinite(nearest), nearest, 0.0).reshape(camera.height, camera.width)


def check_normal_prior(normals: Float[Tensor, "h w 3"], camera: Camera) -> None:
    """Raise for a normal prior that nothing can be learnt from, naming its image.

    Raises:
        BadInputError: another size, values that are not finite, no normal at all, or most of them facing away.
    """
    size = (normals.shape[1], normals.shape[0])
    if size != (camera.width, camera.height):
        raise BadInputError(
            f"the normal prior of image {camera.name!r} is {size[0]} x {size[1]} pixels, "
            f"the image {camera.width} x {camera.height}"
        )
    if not bool(torch.isfinite(normals).all()):
        bad = int((~torch.isfinite(normals)).any(-1).sum())
        raise BadInputError(f"the normal prior of image {camera.name!r} has {bad} pixels that are not finite")
    real = has_normal(normals)
    if not bool(real.any()):
        raise BadInputError(
            f"the normal prior of image {camera.name!r} has no normal: vectors of length 1 are wanted"
        )
    away = float((normals[real][:, 2] > 0).float().mean())
    if away > 0.5:
        raise BadInputError(
            f"{100 * away:.0f} % of the normals predicted for image {camera.name!r} point away from the camera: "
            "its frame is x right, y down, z forward, so that what faces it has z below 0; negate y and z of normals "
            "that have y up and z towards the viewer"
        )
