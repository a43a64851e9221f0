"""Seeds fitted to the photographs of a room, one view a step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, scene_extent
from papertrial.scenes.colmap import Posed
from papertrial.scenes.fitting import LOSS, Rendering
from papertrial.scenes.image_losses import photometric_loss
from papertrial.scenes.learning_rates import set_rates
from papertrial.scenes.plain_splats.fitting import LossTerm
from papertrial.scenes.posed_views import prepared_views, view_in_turn
from papertrial.scenes.prior_losses import normal_consistency
from papertrial.scenes.room_2dgs.scene import SeedScene
from papertrial.scenes.room_2dgs.settings import SeedSettings
from papertrial.scenes.scaffold import (
    Decoded,
    Growth,
    largest_weights,
    make_optimizer,
    scaffold_rates,
    visible_anchors,
    volume_loss,
)
from papertrial.scenes.snapshots import restore_training, training_state
from papertrial.scenes.surface_views import SurfaceShape, SurfaceView, look_at_shape, look_at_surface

_GROWTH = "growth."


class Shown(NamedTuple):
    """What a camera sees, and the seeds and surfels that it sees it of."""

    view: SurfaceView
    decoded: Decoded
    visible: Tensor


class SeedFit:
    """A scene of seeds, its optimizer, and the photographs it is fitted to.

    Attributes:
        scene: seeds and networks.
        optimizer: Adam, with a group for each kind of parameter.
        growth: adds and removes seeds.
        views: cameras and photographs.
        settings: all rates, thresholds and steps.
        extent: of the scene.

    Source: arXiv 2412.03428, section 4 and equation 18.
    """

    def __init__(
        self,
        scene: SeedScene,
        views: Sequence[Posed],
        settings: SeedSettings,
        *,
        extent: float | None = None,
        terms: Sequence[LossTerm] = (),
    ) -> None:
        """Prepare to fit `scene` in place.

        Args:
            scene: as `SeedScene.from_points` makes it.
            views: cameras and photographs; sizes may differ.
            settings: all step counts as they shall be (`SeedSettings.for_iterations`).
            extent: of the scene; from the cameras if not given.
            terms: further terms of the loss: `PriorTerm`, `MultiViewTerm`.

        Raises:
            BadInputError: no views, photographs that are not of their camera's size or not within 0 and 1, poses that
                see no seed, cameras without an extent.
        """
        like = scene.anchors.positions
        self.views = prepared_views(views, like)
        self.scene, self.settings, self.terms = scene, settings, tuple(terms)
        self.extent = scene_extent([view.camera for view in self.views]) if extent is None else extent
        if self.extent <= 0:
            raise BadInputError(
                f"the scene's extent must be above 0, got {self.extent}: cameras that all stand in one place have "
                "none; give the size of what they see"
            )
        self._rates = scaffold_rates(scene.decoder, self.extent, settings.rate_steps, settings.rate)
        fused = like.device.type == "cpu"  # one walk over all parameters in place of a dozen each
        self.optimizer = make_optimizer(scene.anchors, scene.decoder, self._rates, fused=fused)
        self.growth = Growth(scene.anchors, self.optimizer, settings.growth, settings.seed)

    def view_at(self, number: int) -> int:
        """Return which view a step takes: all of them in a new order, again and again."""
        return view_in_turn(number, len(self.views), self.settings.seed)

    def show(self, camera: Camera, appearance: int | None = None, track: bool = False) -> Shown:
        """Return what a camera sees, differentiable in the scene."""
        settings = self.settings
        state = self.scene.anchors.state()
        visible = visible_anchors(state, camera, settings.rules.near)
        decoded = self.scene.decoder.decode(state, camera, anchors=visible, appearance=appearance)
        view = look_at_surface(
            decoded.primitives(),
            decoded.colours,
            camera,
            rules=settings.rasterizing,
            depth_ratio=settings.depth_ratio,
            background=settings.background,
            backend=settings.backend,
            track=track,
        )
        return Shown(view, decoded, visible)

    @torch.no_grad()
    def shape(self, camera: Camera, number: int) -> SurfaceShape:
        """Return depth and normals that a camera sees; they depend on no step and on no appearance."""
        settings = self.settings
        state = self.scene.anchors.state()
        visible = visible_anchors(state, camera, settings.rules.near)
        decoded = self.scene.decoder.decode(state, camera, anchors=visible, coloured=False)
        return look_at_shape(
            decoded.primitives(),
            camera,
            rules=settings.rasterizing,
            depth_ratio=settings.depth_ratio,
            backend=settings.backend,
        )

    def step(self, number: int) -> dict[str, float]:
        """Fit one view, then add and remove seeds where that is due.

        Figures are the loss, its terms, seeds and surfels of this view; the loss is NaN, and nothing is updated, where
        a gradient is not finite or no surfel is there.
        """
        at = self.view_at(number)
        camera, image = self.views[at]
        set_rates(self.optimizer, self._rates, number)
        appearance = at if self.scene.decoder.appearances is not None else None
        shown = self.show(camera, appearance, track=number + 1 < self.settings.growth.stop)
        counts = {"seeds": float(len(self.scene.anchors)), "primitives": float(len(shown.decoded.means))}
        if not len(shown.decoded.means):
            return {LOSS: math.nan, **counts}
        losses = self._losses(number, at, shown, image)
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        figures = {LOSS: loss.item(), **{name: one.item() for name, one in losses.items()}, **counts}
        if not (math.isfinite(figures[LOSS]) and self._gradients_are_finite()):
            return {**figures, LOSS: math.nan}
        weights = self.anchor_weights if self.settings.growth.prune == "weight" else None
        self.growth.advance(number + 1, shown.decoded, shown.visible, shown.view.out, weights)
        self.optimizer.step()
        return figures

    def _losses(self, number: int, at: int, shown: Shown, image: Float[Tensor, "h w 3"]) -> dict[str, Tensor]:
        """Return the weighted terms of the loss by name."""
        settings, view = self.settings, shown.view
        losses = {"photometric": photometric_loss(view.colour, image, settings.ssim_share)}
        if settings.volume > 0:
            losses["volume"] = settings.volume * volume_loss(shown.decoded, "surfel")
        if settings.normal_consistency > 0 and number >= settings.normal_start:
            consistency = normal_consistency(view.normals, view.surface_normals)
            losses["normal_consistency"] = settings.normal_consistency * consistency
        if settings.distortion > 0 and number >= settings.distortion_start:
            losses["distortion"] = settings.distortion * view.distortion.mean()
        for term in self.terms:
            losses.update(term(number, at, view))
        return losses

    def _gradients_are_finite(self) -> bool:
        gradients = [one.grad for one in self.scene.parameters() if one.grad is not None]
        return all(math.isfinite(float(gradient.sum())) for gradient in gradients)

    def _appearance(self, camera: Camera) -> int | None:
        if self.scene.decoder.appearances is None:
            return None
        away = torch.stack([(view.camera.centre - camera.centre).norm() for view in self.views])
        return int(away.argmin())

    def _decode(self, camera: Camera) -> Decoded:
        visible = visible_anchors(self.scene.anchors.state(), camera, self.settings.rules.near)
        return self.scene.decode(camera, visible, self._appearance(camera))

    @torch.no_grad()
    def anchor_weights(self) -> Float[Tensor, " a"]:
        """Return each seed's largest blending weight of any of its surfels in any training view."""
        anchors, settings = self.scene.anchors, self.settings
        largest = anchors.positions.new_zeros(len(anchors))
        for camera, _ in self.views:
            decoded = self._decode(camera)
            weights = largest_weights(decoded.primitives(), camera, settings.rasterizing, settings.backend)
            owner = decoded.slots.div(anchors.per_anchor, rounding_mode="floor")
            largest = largest.scatter_reduce(0, owner, weights, "amax")
        return largest

    @torch.no_grad()
    def surfels(self) -> int:
        """Return how many surfels the training views show together: those with an opacity above 0 in any."""
        anchors = self.scene.anchors
        there = torch.zeros(len(anchors) * anchors.per_anchor, dtype=torch.bool)
        for camera, _ in self.views:
            there[self._decode(camera).slots.cpu()] = True
        return int(there.sum())

    def state(self) -> dict[str, Tensor]:
        """Return the scene, Adam's moments, the growth's statistics and its generator."""
        growth = {_GROWTH + name: tensor for name, tensor in self.growth.state().items()}
        return {**training_state(self.scene, self.optimizer), **growth}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go to where `state` was taken.

        Raises:
            BadInputError: a state of another scene.
        """
        restore_training(self.scene, self.optimizer, state)
        own = {name[len(_GROWTH) :]: tensor for name, tensor in state.items() if name.startswith(_GROWTH)}
        self.growth.restore(own)

    @torch.no_grad()
    def render(self, camera: Camera, time: float = 0.0) -> Rendering:
        """Return what a camera sees; nothing moves, so that any time gives the same."""
        like = self.scene.anchors.positions
        here = camera.to(like.dtype).to(like.device)
        view = self.show(here, self._appearance(here)).view
        return Rendering(view.colour, view.alpha, view.depth, view.normals)
