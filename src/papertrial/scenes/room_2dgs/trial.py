"""2DGS-Room on trial: one room reconstructed with seeds and priors, without them, and without each part."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.errors import BadInputError, unknown
from papertrial.scenes.reconstructing.deed import check_device
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from papertrial.scenes.plain_splats import PlainFit
    from papertrial.scenes.room_2dgs.arms import ArmSettings
    from papertrial.scenes.room_2dgs.fitting import SeedFit
    from papertrial.scenes.room_2dgs.inputs import Inputs
else:  # help is read without torch, and a protocol cannot be checked at run time
    PlainFit = ArmSettings = SeedFit = Inputs = Any

_BACKENDS = ("auto", "numba", "torch", "gsplat", "dense")
_FIRST_ROOM = 300  # rooms before it were looked at while the trial was made
_TRUTH_A_PIXEL = 10  # true points for a pixel of one photograph: at 64 x 64 they lie 4 cm apart
_LONG = 5_000  # iterations from which plain 2DGS prunes large surfels as released
_SEEDS_RATE = 5.0  # at 10 two of the four arms with seeds collapse on the room that rates are tuned on
_INPUTS = "inputs.safetensors"


@dataclass(frozen=True)
class RoomTrial(Trial):
    """Reconstruct one room with plain 2DGS, with 2DGS-Room, and with 2DGS-Room less each of its parts.

    The room is 4 x 3 x 2.6 m with a table, a sofa and a poster; walls and ceiling have no texture, so that
    photographs say nothing about where they are and structure from motion has no points there. All arms get the
    same photographs, sparse points, steps and rasteriser; all but plain 2DGS and no-priors get depth known up to
    scale and shift and normals turned by 5 degrees along each of two axes, 6.3 in the mean. Depth rendered in all
    training views is fused, and points on the fused surface are held against true ones at 5 cm.

    All step counts of the paper and its bases are for 30,000 iterations and follow in proportion: growth of seeds from
    a twentieth of the run to its middle, the multi-view term from a quarter on, normal consistency from 7/30 on;
    updates stay 10 steps apart or more. Priors count from the first step on; depth priors are brought to a standard
    deviation of 1, since their unit is not the metre. In so few steps plain 2DGS is better off without resets of its
    opacities and without pruning large surfels, which walls are made of: below 5,000 steps it prunes none, and below
    10,000, where resets would come within 1,000 steps of each other, it has no resets. From there on it has both as
    released. Seeds grow on cells of 16, 4 and 1 voxels, as released. The finest are 4 cm, finer than the 5 cm that
    surfaces are measured to; the coarsest are 64 cm, so that not all of them are taken from the start: where they are,
    the released rule adds nothing on the finer ones either. Both ways of growing have a budget: surfels, or seeds; with
    as many surfels as 800 seeds show in a view, some 3,300, the arms without seeds do worse. The arms without seeds
    tune their learning rates, which are for a run sixty times as long; the arms with seeds share one. In the tuning
    room rates of 1, 2.5 and 20 are worse than the better one of the grid. A `rate` of 1 gives every arm the paper's.

    Runs are chaotic: rounding alone moves the F-score of a room by a tenth or more (0.38 and 0.55 for the same room and
    seed, with one formula written in two ways). Three rooms say little about differences below that.

    With `colmap` the same arms reconstruct a capture of your own. Its priors have to lie there before:
    `papertrial.scenes.reconstructing.write_priors` asks networks about its photographs and writes them.

    Attributes:
        iterations: steps; the paper takes 30,000.
        pixels: a side of the made room's photographs.
        views: of the made room, to train on.
        test_views: of the made room, to test on.
        points: of the made room's sparse cloud, outliers among them.
        voxel: edge of the cells that seeds come from and grow into, in scene units; 0 takes the median distance of
            the points.
        per_anchor: surfels of a seed.
        surfels: at most, of the arms without seeds; 0 for no limit.
        seed_points: from which on growth adds no more, of the arms with seeds: as many as there are sparse points; 0
            for no limit.
        rate: multiplies all learning rates; if not given, 5 for seeds, and tuned for the arms without them.
        dist: weight of the distortion, of depths remapped between 0.2 and 100 as in 2DGS's scripts, which give 1000 for
            bounded objects and 100 for open scenes.
        normal_consistency: weight of the surfels' normals against those of the depth.
        compared: pixels that the multi-view term compares in a step; 0 for all.
        fusion_voxel: edge of the voxels that depth is fused in, in scene units; distances are cut at three of them.
        farthest: depth that is still fused, in scene units.
        colmap: a folder with a COLMAP model (`sparse/0`), its `images`, and priors as `depth/NAME.npy` and
            `normal/NAME.npy`, in place of the made room.
        truth: PLY file of true points for `colmap`, in its frame and in metres; without it, only PSNR and SSIM are
            measured.
        hold_out: every so many photographs of `colmap` are tested on; 0 for none.
        longest: pixels of the longer side that photographs of `colmap` are shrunk to; 0 keeps them.
        backend: of the rasteriser: auto, numba (CPU), torch (any device), gsplat (CUDA; a surfel's depth is its
            centre's, and surfels that come nearer than 0.2 are cut by their centres alone), dense (tiny scenes).
        device: where to fit: cpu, or cuda with the backends auto, torch or gsplat.
    """

    iterations: int = 500
    pixels: int = 64
    views: int = 24
    test_views: int = 6
    points: int = 800
    voxel: float = 0.04
    per_anchor: int = 10
    surfels: int = 2000
    seed_points: int = 800
    rate: float | None = None
    dist: float = 0.0
    normal_consistency: float = 0.05
    compared: int = 128
    fusion_voxel: float = 0.05
    farthest: float = 6.0
    colmap: str | None = None
    truth: str | None = None
    hold_out: int = 8
    longest: int = 0
    backend: str = "auto"
    device: str = "cpu"

    arms: ClassVar[tuple[str, ...]] = (
        "2dgs",
        "room_2dgs",
        "no-seeds",
        "no-depth",
        "no-normal",
        "no-priors",
        "no-mv",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "f_score": Metric("", "higher"),
        "accuracy": Metric("m", "lower"),
        "completeness": Metric("m", "lower"),
        "precision": Metric("", "higher", shown=False),
        "recall": Metric("", "higher", shown=False),
        "psnr": Metric("dB", "higher"),
        "ssim": Metric("", "higher", shown=False),
        "surfels": Metric("", "lower", shown=False),
        "seconds": Metric("s", "lower"),
    }
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {
        arm: {"rate": (5.0, 10.0)} for arm in ("2dgs", "no-seeds")
    }
    tuned_on = "f_score"
    prepared_by = ("pixels", "views", "test_views", "points", "colmap")
    curve = "loss"

    def check(self) -> None:
        """Raise `BadInputError` for settings that no arm could work with."""
        for name, least in (
            ("iterations", 1),
            ("pixels", 12),
            ("views", 2),
            ("test_views", 1),
            ("points", 20),
            ("per_anchor", 1),
            ("surfels", 0),
            ("seed_points", 0),
            ("compared", 0),
            ("hold_out", 0),
            ("longest", 0),
        ):
            if getattr(self, name) < least:
                raise BadInputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("dist", "normal_consistency"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInputError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name in ("fusion_voxel", "farthest", *(("rate",) if self.rate is not None else ())):
            if not 0 < getattr(self, name) < math.inf:
                raise BadInputError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.backend not in _BACKENDS:
            raise unknown("backend", self.backend, _BACKENDS)
        check_device(self.device, self.backend)
        if self.truth is not None and self.colmap is None:
            raise BadInputError("truth goes with colmap: the made room knows its own")
        for name in ("colmap", "truth"):
            given = getattr(self, name)
            if given is not None and not Path(given).exists():
                raise BadInputError(f"{name} is not there: {given}")
        if self.colmap is not None and self.truth is None and self.rate is None:
            raise BadInputError(
                "learning rates are tuned on the F-score, which needs truth; give --rate, or --truth with true points"
            )

    def prepare(self, seed: int, folder: Path) -> None:
        """Make the room and everything that is given of it; a capture is read where it is."""
        if self.colmap is not None:
            return
        from papertrial.scenes.procedural_room import RoomSettings, make_room
        from papertrial.scenes.room_2dgs.inputs import of_room, save_inputs

        how = RoomSettings(
            seed=_FIRST_ROOM + seed,
            pixels=self.pixels,
            train=self.views,
            test=self.test_views,
            sparse=self.points,
            truth=_TRUTH_A_PIXEL * self.pixels**2,
        )
        save_inputs(of_room(make_room(how)), folder / _INPUTS)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Fit one arm and measure its surface and its pictures."""
        from papertrial.scenes import compiled_losses
        from papertrial.scenes.fitting import diverged_at, fit
        from papertrial.scenes.room_2dgs.arms import make_fit
        from papertrial.scenes.room_2dgs.strips import view_strip
        from papertrial.scenes.splatting import warm_up

        inputs = self._inputs(watch.prepared)
        fitted = make_fit(
            arm,
            inputs.train,
            inputs.priors,
            inputs.points,
            inputs.colours,
            self._settings(seed),
            track_lengths=inputs.track_lengths,
        )
        if self.device == "cpu":
            compiled_losses.warm_up()
            if self.backend in ("auto", "numba"):
                warm_up()
        began = time.perf_counter()
        history = fit(
            fitted,
            self.iterations,
            on_step=lambda done, values: watch.step(done, self.iterations, loss=values["loss"]),
            pixels=inputs.train[0].camera.width * inputs.train[0].camera.height,
        )
        seconds = time.perf_counter() - began
        if diverged_at(history) is not None:
            return {**dict.fromkeys(self.metrics, math.nan), "seconds": seconds}
        reach = (0.5, 4.5) if self.colmap is None else (None, None)
        watch.keep("test-view", view_strip(fitted, (inputs.test or inputs.train)[0], *reach))
        return {**self._scores(fitted, inputs), "seconds": seconds}

    def scale(self) -> str:
        """Say what is reconstructed, from how much, and in how many steps."""
        what = (
            f"room of 4 x 3 x 2.6 m, {self.views} views of {self.pixels} x {self.pixels}, {self.points} sparse points"
            if self.colmap is None
            else f"capture {Path(self.colmap).name}"
        )
        return f"{what}, {self.iterations} iterations, {self.device}"

    @classmethod
    def quick(cls) -> RoomTrial:
        """Return the trial with eight steps on tiny photographs, without tuning."""
        return cls(
            rate=5.0,
            iterations=8,
            pixels=16,
            views=10,
            test_views=1,
            points=120,
            voxel=0.1,
            per_anchor=5,
            surfels=200,
            seed_points=150,
            compared=32,
            fusion_voxel=0.2,
        )

    def _inputs(self, prepared: Path) -> Inputs:
        from papertrial.scenes.room_2dgs.inputs import load_inputs, of_capture

        if self.colmap is None:
            return load_inputs(prepared / _INPUTS).to(self.device)
        truth = None if self.truth is None else Path(self.truth)
        return of_capture(Path(self.colmap), self.hold_out, self.longest or None, truth).to(self.device)

    def _settings(self, seed: int) -> ArmSettings:
        """Return the settings of all arms for this run."""
        from papertrial.scenes.plain_splats import DensifySettings, PlainSettings, Rates
        from papertrial.scenes.room_2dgs.arms import ArmSettings
        from papertrial.scenes.room_2dgs.settings import MultiViewSettings, PriorSettings, SeedSettings
        from papertrial.scenes.scaffold import GrowthSettings
        from papertrial.scenes.splatting import Rules

        common: dict[str, Any] = {
            "normal_consistency": self.normal_consistency,
            "distortion": self.dist,
            "rules": Rules.released(near_at_pixel=self.backend != "gsplat"),
            "backend": self.backend,
            "seed": seed,
        }
        large = DensifySettings().large if self.iterations >= _LONG else math.inf
        plain = PlainSettings(
            rates=Rates().times(1.0 if self.rate is None else self.rate),
            densify=DensifySettings(most=self.surfels or None, large=large),
            **common,
        )
        seeds = SeedSettings(
            voxel=self.voxel,
            per_anchor=self.per_anchor,
            growth=GrowthSettings(most_anchors=self.seed_points or None),
            rate=_SEEDS_RATE if self.rate is None else self.rate,
            **common,
        )
        compared = MultiViewSettings(pixels=self.compared or None)
        priors = PriorSettings(
            unit_deviation=True
        )  # neither the made room's depths nor a network's are metric
        return ArmSettings(seeds, plain, priors, compared).for_iterations(self.iterations)

    def _scores(self, fitted: SeedFit | PlainFit, inputs: Inputs) -> dict[str, float]:
        """Return all metrics but the time."""
        from papertrial.scenes.geometry_metrics import compare_clouds
        from papertrial.scenes.image_losses import psnr, ssim
        from papertrial.scenes.room_2dgs.arms import surfels_of
        from papertrial.scenes.room_2dgs.surface import fused_points
        from papertrial.scenes.tsdf import Settings

        scores = dict.fromkeys(self.metrics, math.nan)
        shown = [(fitted.render(view.camera).colour.clamp(0, 1), view.image) for view in inputs.test]
        if shown:
            scores["psnr"] = sum(psnr(*pair) for pair in shown) / len(shown)
            scores["ssim"] = sum(float(ssim(*pair)) for pair in shown) / len(shown)
        scores["surfels"] = float(surfels_of(fitted))
        if inputs.truth is not None:
            settings = Settings(self.fusion_voxel, 3 * self.fusion_voxel, self.farthest)
            points = fused_points(fitted, [view.camera for view in inputs.train], settings)
            if len(points):
                scores |= compare_clouds(points, inputs.truth)._asdict()
            else:
                scores |= {"f_score": 0.0, "precision": 0.0, "recall": 0.0}
        return scores


trials: dict[str, type[Trial]] = {"reconstruction": RoomTrial}
