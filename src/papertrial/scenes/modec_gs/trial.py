"""MoDec-GS on trial: one moving scene, fitted with its motion in one part or in two, at equal steps and equal bytes."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.reconstructing.deed import check_device
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from papertrial.scenes.modec_gs.arms import Capture, Sizes
    from papertrial.scenes.modec_gs.training import ModecTraining, TrainingSettings
else:  # help is read without torch
    Capture = Sizes = ModecTraining = TrainingSettings = Any

_NAMED = {"gates": ("two", "one", "none"), "fields": ("small", "large")}
_NAMED["backend"] = ("auto", "numba", "torch", "gsplat")
_POSITIVE = (
    "frames",
    "pixels",
    "points",
    "coarse",
    "batch",
    "segments",
    "channels",
    "hidden",
    "per_anchor",
    "reduction",
)
_PAPERS_VOXEL = 0.01
_STILL = "still.safetensors"
_FIRST_CLIP = 400  # clips before it were looked at while the trial was made
_RATES = (8.0, 16.0)  # at 32 no arm was clearly better on the clips that were looked at


@dataclass(frozen=True)
class MotionTrial(Trial):
    """Fit a moving scene from one moving camera, and show it from another.

    Without data it is a hall, ray-traced exactly: a box that slides fast in the first quarter and then stands still,
    and a ball with a bump that swells and shrinks all the time. The training camera swings to and fro: when it passed
    by once only, the arms fitted the frames that they were trained on (18 to 21 dB on what moves fast), and from the
    other camera showed hardly more of the motion than a still scene (14 dB). All arms start from the same noisy
    points, take as many steps on the same frames, and grow their anchors by the same rule. In 4dgs one field moves
    Gaussians that are decoded from still anchors, with twice the channels of the method's fields as in the paper;
    4dgs-small is the same in as many bytes as the method. gad-lgd moves anchors to the start of their segment and
    Gaussians to the frame's time; modec also adjusts the segments. Fields are smaller than the paper's by one factor
    for all arms. still goes on without any motion, so that one sees how much of the motion the others have learned.

    Attributes:
        data: a folder with the user's frames; a made clip if not given.
        format: of the folder: "hypernerf" (also Nerfies, DyCheck's iPhone and Nvidia's scenes in that layout).
        masks: score test frames on covisible pixels, as is done on the iPhone scenes.
        reduction: of the user's frames, by which they are smaller than their cameras say: those in rgb/2x by 2.
        longest: shrink the user's frames to so many pixels on the longer side.
        frames: of the made clip.
        pixels: a side of the made clip.
        points: that the made clip starts from.
        coarse: steps of the first stage, on the still scene, which all arms share.
        steps: of the second stage.
        batch: frames of a step; the paper's is 4.
        segments: of time, for the arms that have some.
        spatial: cells a side of the local field; the paper's is 64.
        temporal: cells along time of the local field; half of the frames if not given.
        channels: of the method's fields; the paper's is 16.
        hidden: width of the deformation networks; the paper's is 128.
        per_anchor: Gaussians of each anchor; the paper's is 10.
        voxel: edge of the cells that get an anchor; 0.25 m for the made clip, the paper's 0.01 for data.
        gates: "two" logits of each anchor, "one" or "none".
        fields: "small" as in the paper's last rows, or "large": both of the method's as large as 4DGS's, as in its
            first rows.
        rate: multiplies the paper's first learning rates of fields and deformation networks, which are for 20,000
            steps; they fall to the paper's last. Tuned for every arm if not given.
        backend: of the rasteriser: auto, numba (CPU), torch (any device), gsplat (CUDA).
        device: where to train and render: cpu, or cuda.
    """

    data: str | None = None
    format: str = "hypernerf"
    masks: bool = False
    reduction: int = 2
    longest: int | None = None
    frames: int = 24
    pixels: int = 64
    points: int = 1500
    coarse: int = 350
    steps: int = 350
    batch: int = 1
    segments: int = 8
    spatial: int = 32
    temporal: int | None = None
    channels: int = 16
    hidden: int = 64
    per_anchor: int = 5
    voxel: float | None = None
    gates: str = "two"
    fields: str = "small"
    rate: float | None = None
    backend: str = "auto"
    device: str = "cpu"

    arms: ClassVar[tuple[str, ...]] = ("still", "4dgs", "4dgs-small", "gad-lgd", "modec")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "psnr": Metric("dB", "higher"),
        "moving_psnr": Metric("dB", "higher"),
        "ssim": Metric("", "higher", shown=False),
        "storage_bytes": Metric("bytes", "lower"),
        "fast_interval_length": Metric("of an even one", "lower"),
        "steps_per_second": Metric("steps/s", "higher", shown=False),
    }
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {
        arm: {"rate": _RATES} for arm in ("4dgs", "4dgs-small", "gad-lgd", "modec")
    }
    seeds = 4
    tuned_on = "psnr"
    prepared_by = (
        "data",
        "format",
        "masks",
        "reduction",
        "longest",
        "frames",
        "pixels",
        "points",
        "coarse",
        "batch",
        "per_anchor",
        "voxel",
        "backend",
        "device",
    )
    curve = "loss"

    def check(self) -> None:
        """Raise `BadInputError` for settings that no arm could work with."""
        from papertrial.scenes.modec_gs.views import check_views

        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise BadInputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, least in (("steps", 1), ("spatial", 2), ("temporal", 2)):
            given = getattr(self, name)
            if given is not None and given < least:
                raise BadInputError(f"{name} must be at least {least}, got {given}")
        for name, known in _NAMED.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        check_device(self.device, self.backend)
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise BadInputError(f"rate must be above 0, got {self.rate}")
        if self.voxel is not None and not 0 < self.voxel < math.inf:
            raise BadInputError(f"voxel must be above 0, got {self.voxel}")
        if self.data is None:
            self._check_clip()
        elif not Path(self.data).is_dir():
            raise BadInputError(f"data must be a folder, there is none at {self.data}")
        else:
            check_views(self._capture(0).train, self.segments)

    def prepare(self, seed: int, folder: Path) -> None:
        """Train the still scene that all arms begin with."""
        from papertrial.scenes.fitting import fit
        from papertrial.scenes.modec_gs.arms import still_training
        from papertrial.scenes.modec_gs.storage import save_scene

        self._compile()
        capture = self._capture(seed)
        training = still_training(capture, self._sizes(capture), self._training(seed, 1.0), self.coarse)
        fit(training, self.coarse, pixels=_pixels(capture))
        save_scene(folder / _STILL, training.scene)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Set one arm in motion and show its test frames."""
        from papertrial.scenes.fitting import diverged_at, fit
        from papertrial.scenes.modec_gs.arms import moving_training
        from papertrial.scenes.modec_gs.storage import load_scene, save_scene

        if self.rate is None and arm in self.grid:
            raise BadInputError("rate is tuned by the runner; set it to measure an arm by hand")
        self._compile()
        capture = self._capture(seed)
        still = load_scene(watch.prepared / _STILL)
        how = self._training(seed, self.rate or 1.0)
        training = moving_training(arm, still, capture, self._sizes(capture), how, self.steps)
        start = time.perf_counter()
        history = fit(
            training,
            self.steps,
            on_step=lambda done, values: watch.step(done, self.steps, loss=values["loss"]),
            pixels=_pixels(capture),
        )
        if diverged_at(history) is not None:
            return dict.fromkeys(self.metrics, math.nan)
        seconds = time.perf_counter() - start
        found = self._shown(training, capture, watch if seed == 0 else None)
        with tempfile.TemporaryDirectory() as folder:
            size = save_scene(Path(folder) / "scene.safetensors", training.scene)
        return {**found, "storage_bytes": float(size), "steps_per_second": self.steps / seconds}

    def scale(self) -> str:
        """Say whose frames, how large, how long."""
        whose = f"{self.frames} frames of {self.pixels} x {self.pixels}, {self.points} points"
        if self.data is not None:
            whose = f"{self.data}" + (f" at {self.longest} pixels" if self.longest else "")
        steps = f"{self.coarse} + {self.steps} steps of {self.batch}"
        return f"{whose}; {steps}, {self.fields} fields of {self.spatial} cells a side, {self.device}"

    @classmethod
    def quick(cls) -> MotionTrial:
        """Return the trial with few steps on small frames."""
        return cls(
            frames=12,
            pixels=24,
            points=240,
            coarse=10,
            steps=8,
            segments=6,
            spatial=8,
            channels=4,
            hidden=16,
            per_anchor=3,
        )

    def _compile(self) -> None:
        """Have all kernels ready before the clock starts."""
        from papertrial.scenes import hexplane, splatting

        if self.device == "cpu":
            hexplane.warm_up()
            if self.backend in ("auto", "numba"):
                splatting.warm_up()

    def _check_clip(self) -> None:
        if self.masks or self.longest is not None:
            raise BadInputError("masks and longest are for the user's frames; give data too")
        if self.frames < 2 or self.segments > self.frames / 2:
            raise BadInputError(
                f"segments must be at most half of the frames, {self.frames // 2}, got {self.segments}"
            )

    def _capture(self, seed: int) -> Capture:
        from papertrial.scenes.modec_gs.arms import made_capture, read_capture

        if self.data is None:
            return made_capture(_FIRST_CLIP + seed, self.frames, self.pixels, self.points)
        return read_capture(Path(self.data), self.format, self.masks, self.longest, self.reduction)

    def _sizes(self, capture: Capture) -> Sizes:
        from papertrial.scenes.cameras import near_plane
        from papertrial.scenes.modec_gs.arms import CLIP_VOXEL, Sizes

        return Sizes(
            segments=self.segments,
            spatial=self.spatial,
            temporal=self.temporal or max(2, len(capture.train) // 2),
            channels=self.channels,
            hidden=self.hidden,
            per_anchor=self.per_anchor,
            voxel=self.voxel or (CLIP_VOXEL if self.data is None else _PAPERS_VOXEL),
            gates=self.gates,
            fields=self.fields,
            device=self.device,
            near=near_plane([view.camera for view in capture.train]),
        )

    def _training(self, seed: int, rate: float) -> TrainingSettings:
        from papertrial.scenes.modec_gs.arms import CLIP_GROWTH
        from papertrial.scenes.modec_gs.training import TrainingSettings

        own = {"growth": CLIP_GROWTH} if self.data is None else {}
        return TrainingSettings(
            batch=self.batch, field_rate=rate, network_rate=rate, seed=seed, backend=self.backend, **own
        )

    def _shown(self, training: ModecTraining, capture: Capture, watch: Watch | None) -> dict[str, float]:
        """Score the test frames, and keep pictures of them where there is a watch."""
        from papertrial.scenes.modec_gs import evaluation
        from papertrial.scenes.modec_gs.scene import Player

        scene = training.scene
        player = Player(scene, background=training.settings.background, backend=self.backend)
        images = evaluation.render_views(player, capture.test)
        scores = evaluation.score(images, capture.test, capture.moving)
        segmented = scene.settings.moves_anchors
        if watch is not None:
            watch.keep("test-path", evaluation.film(images))
            watch.keep("truth-rendered-error", evaluation.comparison(images, capture.test))
            if segmented:
                watch.keep("segments", evaluation.interval_rows(scene.intervals))
        known = segmented and capture.moving is not None
        length = evaluation.fast_interval_length(scene.intervals) if known else math.nan
        return {**scores._asdict(), "fast_interval_length": length}


@dataclass(frozen=True)
class StagesTrial(MotionTrial):
    """Fit the same moving scene with motion in one stage or two, of Gaussians or of anchors, all with large fields.

    The first rows of the paper's ablation: 4dgs moves Gaussians by one field at the frame's time, anchors-alone moves
    anchors by it instead; two-anchor-stages moves anchors to the start of their segment and then anchors once more,
    gad-lgd-large moves Gaussians in the second stage. In all arms primitives are decoded from anchors, so that their
    bytes differ by fields and networks alone; the paper's 4DGS stores every Gaussian.
    """

    steps: int = 300

    arms: ClassVar[tuple[str, ...]] = ("4dgs", "anchors-alone", "two-anchor-stages", "gad-lgd-large")
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {
        arm: {"rate": _RATES} for arm in ("4dgs", "anchors-alone", "two-anchor-stages", "gad-lgd-large")
    }

    @classmethod
    def quick(cls) -> StagesTrial:
        """Return the trial with few steps on small frames."""
        return cls(**vars(MotionTrial.quick()))


def _pixels(capture: Capture) -> int:
    camera = capture.train[0].camera
    return camera.width * camera.height


trials: dict[str, type[Trial]] = {"motion": MotionTrial, "stages": StagesTrial}
