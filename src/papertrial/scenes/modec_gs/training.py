"""Training a moving scene: still on all frames first, then in motion."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from papertrial.errors import BadInputError
from papertrial.scenes.cameras import Camera
from papertrial.scenes.fitting import Rendering, step_generator
from papertrial.scenes.image_losses import photometric_loss
from papertrial.scenes.learning_rates import exponential_rate, set_rates
from papertrial.scenes.modec_gs.intervals import AdjustmentSettings
from papertrial.scenes.modec_gs.scene import (
    GATES,
    FrameGaussians,
    ModecScene,
    Player,
    over_background,
)
from papertrial.scenes.modec_gs.views import TimedView, check_views
from papertrial.scenes.scaffold import Growth, GrowthSettings, make_optimizer, scaffold_rates, volume_loss
from papertrial.scenes.snapshots import restore_training, training_state
from papertrial.scenes.splatting import RenderOut

COARSE, FINE = 3_000, 20_000  # the paper's steps of the two stages
SCHEDULE = 30_000  # over which learning rates fall
_FIELD_RATES, _NETWORK_RATES, _GATE_RATES = (1.6e-3, 1.6e-4), (1.6e-4, 1.6e-5), (2e-3, 2e-5)
_INTERVALS, _GROWTH = "intervals.", "growth."
_FEW_STRAYS = 0.01  # of the anchors, that are not worth telling
_LEAST_INTERVAL, _STEP_OF_FEW = 50, 0.1  # steps between adjustments, and how far borders then move


@dataclass(frozen=True)
class TrainingSettings:
    """How a moving scene is trained; defaults are the paper's.

    Attributes:
        coarse: steps of the first stage, on the still scene.
        fine: steps of the second, in which anchors and Gaussians move from its first step on.
        batch: frames of a step.
        background: brightness behind the scene; 1 is white.
        schedule: steps over which learning rates fall, in each stage anew.
        growth: of anchors, in both stages; its steps are counted in each stage anew.
        adjustment: of the segments; its steps are counted from the second stage's first. None keeps them even.
        volume: weight of the mean product of the Gaussians' extents.
        anchor_rate: multiplies the rates of anchors and decoder.
        field_rate: multiplies the fields' first rate; the last stays the paper's. For short runs.
        network_rate: multiplies the deformation networks' first rate; the last stays the paper's.
        motion_schedule: steps over which the rates of fields and networks fall; `schedule` if not given.
        seed: of batches and growth.
        backend: of the rasteriser.

    Source: arXiv 2501.03714's released arguments; its training loop was not read, and what is not in the arguments
    follows Scaffold-GS's (volume, growth in both stages).
    """

    coarse: int = COARSE
    fine: int = FINE
    batch: int = 4
    background: float = 1.0
    schedule: int = SCHEDULE
    growth: GrowthSettings = field(default_factory=lambda: GrowthSettings(min_opacity=0.01))
    adjustment: AdjustmentSettings | None = field(default_factory=AdjustmentSettings)
    volume: float = 0.01
    anchor_rate: float = 1.0
    field_rate: float = 1.0
    network_rate: float = 1.0
    motion_schedule: int | None = None
    seed: int = 0
    backend: str = "auto"

    def __post_init__(self) -> None:
        if min(self.coarse, self.fine) < 0 or self.steps < 1 or min(self.batch, self.schedule) < 1:
            raise BadInputError(
                f"training needs steps, a batch and a schedule above 0, got coarse={self.coarse}, fine={self.fine}, "
                f"batch={self.batch} and schedule={self.schedule}"
            )
        rates = (self.anchor_rate, self.field_rate, self.network_rate)
        if not (0 <= self.background <= 1 and self.volume >= 0 and all(0 < one < math.inf for one in rates)):
            raise BadInputError(
                f"background lies within 0 and 1, volume is at least 0, rates are above 0; got {self.background}, "
                f"{self.volume} and {rates}"
            )

    @property
    def steps(self) -> int:
        """Steps of both stages."""
        return self.coarse + self.fine

    def scaled(self, iterations: int) -> TrainingSettings:
        """Return the settings for another number of steps in all: everything in proportion to the paper's 23,000.

        Adjustments come every 50 steps at least, from a quarter of the second stage on. Where that makes them fewer
        than the paper's, they move a border by 0.1 of a uniform segment [ours]: by 0.01 nothing would be seen.

        Raises:
            BadInputError: too few steps for two stages.
        """
        if iterations < 2:
            raise BadInputError(f"two stages need 2 steps or more, got {iterations}")
        share = iterations / (COARSE + FINE)
        coarse = max(1, round(share * COARSE))
        adjustment = self.adjustment
        if adjustment is not None and share < 1:
            proportional = round(share * adjustment.interval)
            adjustment = replace(
                adjustment,
                start=round((iterations - coarse) / 4),
                interval=min(max(proportional, _LEAST_INTERVAL), max(1, (iterations - coarse) // 4)),
                step=adjustment.step if proportional >= _LEAST_INTERVAL else _STEP_OF_FEW,
            )
        return replace(
            self,
            coarse=coarse,
            fine=iterations - coarse,
            schedule=max(1, round(share * SCHEDULE)),
            growth=self.growth.scaled(max(1, round(share * SCHEDULE))),
            adjustment=adjustment,
        )


class ModecTraining:
    """A moving scene, its optimiser, and the frames that it is fitted to; what `scenes.fitting.fit` asks for.

    Source: arXiv 2501.03714, section 3 and appendix, with the schedule of its released arguments.
    """

    def __init__(
        self, scene: ModecScene, views: Sequence[TimedView], settings: TrainingSettings, extent: float
    ) -> None:
        """Prepare training.

        Args:
            scene: that is trained in place.
            views: to train on, in the order of time.
            settings: of the training.
            extent: of the scene (`cameras.scene_extent`), by which rates are scaled.

        Raises:
            BadInputError: frames that cannot be trained on (`check_views`), or an extent that is not above 0.
        """
        check_views(views, scene.settings.segments if scene.settings.moves_anchors else 1)
        device = scene.anchors.positions.device
        self.scene, self.settings = scene, settings
        self.views = [
            view._replace(camera=view.camera.to(device), image=view.image.to(device)) for view in views
        ]
        if settings.adjustment is not None:
            scene.intervals.settings = settings.adjustment
        self._rates = scaffold_rates(scene.decoder, extent, settings.schedule, settings.anchor_rate)
        further = {
            "fields": (_FIELD_RATES, settings.field_rate),
            "networks": (_NETWORK_RATES, settings.network_rate),
        }
        for name, ((first, last), multiplier) in further.items():
            steps = settings.motion_schedule or settings.schedule
            self._rates[name] = exponential_rate(extent * multiplier * first, extent * last, steps)
        if scene.gates is not None:
            self._rates[GATES] = exponential_rate(*_GATE_RATES, settings.schedule)
        fused = device.type == "cpu"
        self.optimizer = make_optimizer(scene.anchors, scene.decoder, self._rates, fused=fused)
        self._add_deformations()
        self.growth = Growth(scene.anchors, self.optimizer, settings.growth, seed=settings.seed)
        self._strays_told = False

    def _add_deformations(self) -> None:
        parts = [self.scene.global_deformation, self.scene.local_deformation]
        groups = {
            "fields": [part.field.cells for part in parts if part is not None],
            "networks": [one for part in parts if part is not None for one in part.network.parameters()],
        }
        for name, parameters in groups.items():
            if not parameters:
                del self._rates[name]
                continue
            self.optimizer.add_param_group({"params": parameters, "lr": self._rates[name](0), "name": name})

    def step(self, number: int) -> Mapping[str, float]:
        """Take one step: the first `coarse` on the still scene, then in motion; see `scenes.fitting.Fitted`."""
        settings, scene = self.settings, self.scene
        still = number < settings.coarse
        within = number if still else number - settings.coarse
        if number == settings.coarse:
            self._begin_second_stage()
        set_rates(self.optimizer, self._rates, within)
        views = self._batch(number)
        frames = scene.frames([view.camera for view in views], [view.time for view in views], still=still)
        if not all(_is_finite(frame) for frame in frames):
            return {"loss": math.nan, "anchors": float(len(scene.anchors))}
        outs = [
            scene.rasterize(frame.decoded, view.camera, backend=settings.backend, track=True)
            for frame, view in zip(frames, views, strict=True)
        ]
        loss = self._loss(frames, outs, views, still)
        self.optimizer.zero_grad()
        if not still:
            for field_ in scene.fields():
                field_.clear_gradient()
        loss.backward()
        value = float(loss.detach())
        found = {"loss": value, "anchors": float(len(scene.anchors))}
        if not math.isfinite(value):
            return found
        gradients = [
            len(views) * out.screen_gradients() for out in outs
        ]  # as if each frame were a step of its own
        if not still and settings.adjustment is not None:
            for view, out, gradient in zip(views, outs, gradients, strict=True):
                scene.intervals.observe(view.time, float(gradient[out.visible].norm(dim=-1).sum()))
        self._grow(within + 1, frames, outs, gradients)
        self.optimizer.step()
        if not still and settings.adjustment is not None:
            scene.intervals.advance(within + 1)
        return found

    def state(self) -> dict[str, Tensor]:
        """Return all that later steps depend on."""
        found = training_state(self.scene, self.optimizer)
        for prefix, part in ((_INTERVALS, self.scene.intervals), (_GROWTH, self.growth)):
            found |= {prefix + name: tensor for name, tensor in part.state().items()}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go to where a state was taken.

        Raises:
            BadInputError: it is of another scene.
        """
        restore_training(self.scene, self.optimizer, state)
        for prefix, part in ((_INTERVALS, self.scene.intervals), (_GROWTH, self.growth)):
            part.restore(
                {name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)}
            )

    def render(self, camera: Camera, time: float = 0.0) -> Rendering:
        """Return what a camera sees at a time. For many frames of a finished scene, keep a `Player`."""
        how = self.settings
        return Player(self.scene, background=how.background, backend=how.backend).render(camera, time)

    def _begin_second_stage(self) -> None:
        """Start counting anew: moments, statistics of growth and schedules, as for a scene that was just made."""
        self.optimizer.state.clear()
        self.growth = Growth(
            self.scene.anchors, self.optimizer, self.settings.growth, seed=self.settings.seed + 1
        )

    def _batch(self, number: int) -> list[TimedView]:
        draw = step_generator(self.settings.seed, number)
        count = min(self.settings.batch, len(self.views))
        return [
            self.views[place] for place in torch.randperm(len(self.views), generator=draw)[:count].tolist()
        ]

    def _loss(
        self,
        frames: Sequence[FrameGaussians],
        outs: Sequence[RenderOut],
        views: Sequence[TimedView],
        still: bool,
    ) -> Tensor:
        background, volume = self.settings.background, self.settings.volume
        each = [
            photometric_loss(over_background(out, background), view.image)
            + volume * volume_loss(frame.decoded, "gaussian")
            for frame, out, view in zip(frames, outs, views, strict=True)
        ]
        loss = torch.stack(each).mean()
        return loss if still else loss + self.scene.penalty()

    def _grow(
        self,
        step: int,
        frames: Sequence[FrameGaussians],
        outs: Sequence[RenderOut],
        gradients: Sequence[Tensor],
    ) -> None:
        growth = self.settings.growth
        if not growth.first_statistics < step < growth.stop:
            return
        for frame, out, gradient in zip(frames, outs, gradients, strict=True):
            self.growth.observe(frame.decoded, frame.visible, gradient, out.visible)
        if step > growth.start and step % growth.interval == 0:
            self.growth.update()
            self._warn_of_strays()

    def _warn_of_strays(self) -> None:
        """Say once, where anchors have grown beyond a field's box, that they move as its border does."""
        positions = self.scene.anchors.positions
        shares = [float(field.outside(positions).float().mean()) for field in self.scene.fields()]
        if not self._strays_told and max(shares, default=0.0) > _FEW_STRAYS:
            self._strays_told = True
            warnings.warn(
                f"{max(shares):.1%} of {len(positions)} anchors have grown beyond the box of the fields, which was "
                "drawn around the first points; there they move as its border does. Give a larger box "
                "(box_around's margin) if much of the scene lies there",
                stacklevel=2,
            )


def _is_finite(frame: FrameGaussians) -> bool:
    """Return whether a frame can be rendered: training that diverges is a result, not an error.

    Anchors at no place are seen by no camera, and would leave an empty frame that looks fine.
    """
    decoded = frame.decoded
    parts = (frame.state.positions, decoded.means, decoded.raw_quats, decoded.scales, decoded.colours)
    return all(math.isfinite(float(part.detach().sum())) for part in parts)
