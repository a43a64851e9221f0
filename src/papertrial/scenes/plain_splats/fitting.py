"""Plain splats fitted to posed photographs, one view a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera, scene_extent
from papertrial.scenes.colmap import Posed
from papertrial.scenes.fitting import LOSS, Rendering, step_generator
from papertrial.scenes.image_losses import photometric_loss
from papertrial.scenes.learning_rates import exponential_rate, set_rates
from papertrial.scenes.plain_splats.densification import densify, observe, reset_opacities
from papertrial.scenes.plain_splats.scene import SplatScene, make_optimizer
from papertrial.scenes.plain_splats.settings import PlainSettings
from papertrial.scenes.posed_views import prepared_views, view_in_turn
from papertrial.scenes.prior_losses import normal_consistency
from papertrial.scenes.snapshots import restore_training, training_state
from papertrial.scenes.surface_views import SurfaceShape, SurfaceView, look_at_shape, look_at_surface

LossTerm = Callable[[int, int, SurfaceView], Mapping[str, Tensor]]
"""A further term of the loss: given the step's number, the view's place among the views and what it shows, it returns
weighted losses by name."""


class PlainFit:
    """A scene of plain splats, its optimizer, and the photographs it is fitted to.

    Attributes:
        scene: the primitives.
        optimizer: Adam, with a group for each parameter.
        views: cameras and photographs.
        settings: all rates, thresholds and steps.
        extent: of the scene.
    """

    def __init__(
        self,
        scene: SplatScene,
        views: Sequence[Posed],
        settings: PlainSettings,
        *,
        extent: float | None = None,
        terms: Sequence[LossTerm] = (),
    ) -> None:
        """Prepare to fit `scene` in place.

        Args:
            scene: as `SplatScene.from_points` makes it.
            views: cameras and photographs; sizes may differ.
            settings: all step counts as they shall be (`PlainSettings.for_iterations`).
            extent: of the scene; from the cameras if not given.
            terms: further terms of the loss.

        Raises:
            BadInputError: no views, photographs that are not of their camera's size or not within 0 and 1, poses that
                see no point of the scene, a scene of another kind than the settings', cameras without an extent.
        """
        if scene.kind != settings.kind:
            raise BadInputError(f"the scene is of kind {scene.kind}, the settings are for {settings.kind}")
        if settings.degree > scene.degree:
            raise BadInputError(
                f"the scene has harmonics to degree {scene.degree}, the settings want {settings.degree}"
            )
        self.views = prepared_views(views, scene.means)
        self.scene, self.settings, self.terms = scene, settings, tuple(terms)
        self.extent = scene_extent([view.camera for view in self.views]) if extent is None else extent
        self.optimizer = make_optimizer(scene, settings.rates, self.extent)
        first, last = settings.rates.position * self.extent, settings.rates.last_position * self.extent
        self._rates = {"means": exponential_rate(first, last, settings.rate_steps)}

    def view_at(self, number: int) -> int:
        """Return which view a step takes: all of them in a new order, again and again."""
        return view_in_turn(number, len(self.views), self.settings.seed)

    def look(self, camera: Camera, number: int, track: bool = False) -> SurfaceView:
        """Return what a camera sees with the harmonics of a step, differentiable in the scene."""
        settings = self.settings
        return look_at_surface(
            self.scene.primitives(),
            self.scene.colours(camera, settings.degree_at(number)),
            camera,
            rules=settings.rasterizing,
            depth_ratio=settings.depth_ratio,
            background=settings.background,
            backend=settings.backend,
            track=track,
        )

    def shape(self, camera: Camera, number: int) -> SurfaceShape:
        """Return depth and normals that a camera sees, without gradients; they depend on no step."""
        settings = self.settings
        return look_at_shape(
            self.scene.primitives(),
            camera,
            rules=settings.rasterizing,
            depth_ratio=settings.depth_ratio,
            backend=settings.backend,
        )

    def step(self, number: int) -> dict[str, float]:
        """Fit one view, then add and remove primitives or reset opacities where these are due.

        Figures are the loss, its terms and how many primitives there are; the loss is NaN, and nothing is updated,
        where a gradient is not finite or no primitive is left.
        """
        if not len(self.scene):
            return {LOSS: math.nan, "primitives": 0.0}
        at = self.view_at(number)
        camera, image = self.views[at]
        set_rates(self.optimizer, self._rates, number)
        densifying = number + 1 < self.settings.densify.stop
        shown = self.look(camera, number, track=densifying)
        losses = self._losses(number, at, shown, image)
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        figures = {LOSS: loss.item(), **{name: one.item() for name, one in losses.items()}}
        if not (math.isfinite(figures[LOSS]) and self._gradients_are_finite()):
            return {**figures, LOSS: math.nan, "primitives": float(len(self.scene))}
        self.optimizer.step()
        if densifying:
            observe(
                self.scene,
                shown.out,
                camera,
                self.settings.rasterizing,
                radii=self.settings.densify.most_radius is not None,
            )
            self._adapt(number)
        return {**figures, "primitives": float(len(self.scene))}

    def _losses(
        self, number: int, at: int, shown: SurfaceView, image: Float[Tensor, "h w 3"]
    ) -> dict[str, Tensor]:
        """Return the weighted terms of the loss by name."""
        settings = self.settings
        losses = {"photometric": photometric_loss(shown.colour, image, settings.ssim_share)}
        if settings.normal_consistency > 0 and number >= settings.normal_start:
            consistency = normal_consistency(shown.normals, shown.surface_normals)
            losses["normal_consistency"] = settings.normal_consistency * consistency
        if settings.distortion > 0 and number >= settings.distortion_start:
            losses["distortion"] = settings.distortion * shown.distortion.mean()
        for term in self.terms:
            losses.update(term(number, at, shown))
        return losses

    def _gradients_are_finite(self) -> bool:
        gradients = [one.grad for one in self.scene.parameters() if one.grad is not None]
        return all(math.isfinite(float(gradient.sum())) for gradient in gradients)

    def _adapt(self, number: int) -> None:
        done, rules = number + 1, self.settings.densify
        if rules.updates_at(done):
            densify(
                self.scene,
                self.optimizer,
                rules,
                self.extent,
                step_generator(self.settings.seed + 1, number),
                prune_faint=not rules.recovers_at(done),
                prune_large=rules.prunes_large_at(done),
            )
        if rules.resets_at(done):
            reset_opacities(self.scene, self.optimizer, rules.reset_opacity)

    def state(self) -> dict[str, Tensor]:
        """Return the scene, its statistics and Adam's moments; all draws follow from the step's number."""
        return training_state(self.scene, self.optimizer)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go to where `state` was taken.

        Raises:
            BadInputError: a state of another scene.
        """
        restore_training(self.scene, self.optimizer, state)

    @torch.no_grad()
    def render(self, camera: Camera, time: float = 0.0) -> Rendering:
        """Return what a camera sees; nothing moves, so that any time gives the same."""
        like = self.scene.means
        here = camera.to(like.dtype).to(like.device)
        shown = look_at_surface(
            self.scene.primitives(),
            self.scene.colours(here),
            here,
            rules=self.settings.rasterizing,
            depth_ratio=self.settings.depth_ratio,
            background=self.settings.background,
            backend=self.settings.backend,
        )
        return Rendering(shown.colour, shown.alpha, shown.depth, shown.normals)
