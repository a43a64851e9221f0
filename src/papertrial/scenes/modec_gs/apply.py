"""`papertrial apply reconstruct --method modec_gs`: a scene in which things move, from photographs with times."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from papertrial.deeds import Deed, Fact
from papertrial.errors import BadInputError
from papertrial.scenes.reconstructing.deed import POSES, Reconstruct

if TYPE_CHECKING:
    from papertrial.deeds import Progress
    from papertrial.scenes.cameras import Camera
    from papertrial.scenes.modec_gs.scene import ModecScene
    from papertrial.scenes.modec_gs.training import TrainingSettings
    from papertrial.scenes.modec_gs.views import TimedView
    from papertrial.scenes.reconstructing.capture import Capture
    from papertrial.scenes.reconstructing.reconstruction import Reconstruction
    from papertrial.scenes.scaffold import Decoded
else:  # help is read without torch, and a protocol cannot be checked at run time
    Progress = Camera = Decoded = ModecScene = TrainingSettings = TimedView = Capture = Reconstruction = Any

_SAME = 1e-6  # of two times


@dataclass(frozen=True)
class ReconstructMotion(Reconstruct):
    """Turn posed photographs taken one after the other into a scene that moves, in one small file.

    Times come from a transforms.json (`time` of each frame) or from HyperNeRF's metadata; else the photographs, in the
    order of their names, are taken to be evenly spaced. Splats are written for the times that are asked for. One
    moving phone is enough where its poses are known; things that move fast or far want more iterations and denser
    sparse points, and quality hangs on both points and poses (COLMAP's are those that the field's authors recommend).

    Attributes:
        data: a scene in HyperNeRF's layout (also Nerfies, DyCheck's iPhone and Nvidia's scenes), in place of colmap
            or images; its test frames are held out.
        format: of data: hypernerf.
        reduction: of data's frames, by which they are smaller than their cameras say: those in rgb/2x by 2.
        segments: of time; 6 or more, since fewer than 5 never adjust; at most half of the moments.
        gates: of each anchor: two, one or none.
        voxel: edge of the cells that get an anchor, in scene units; 0 for the median distance of the sparse points.
        most: anchors at most that growth leads to.
        batch: photographs of a step.
        spatial: cells a side of the field that moves Gaussians; the one that moves anchors has half as many.
        temporal: cells along time of the field that moves Gaussians; half of the moments if not given, 100 at most.
        hidden: width of the deformation networks.
        rate: multiplies the first learning rates of fields and deformation networks; the paper's are for 20,000
            steps, and are raised in proportion for fewer, to ten times at most, if not given.
        times: of the splats that are written, within 0 and 1; the first is also splats.ply, and the mesh is of all.
    """

    data: Path | None = None
    format: Literal["hypernerf"] = "hypernerf"
    reduction: int = 2
    segments: int = 8
    gates: Literal["two", "one", "none"] = "two"
    voxel: float = 0.0
    most: int = 50_000
    batch: int = 2
    spatial: int = 64
    temporal: int | None = None
    hidden: int = 128
    rate: float | None = None
    times: tuple[float, ...] = (0.0, 0.5, 1.0)
    mesh: bool = False  # one mesh of things that move shows them at all times at once

    may_change: ClassVar[frozenset[str]] = Reconstruct.may_change | {"data", "times"}

    def check(self) -> None:
        """Raise for settings that cannot work.

        Raises:
            BadInputError: the first of them.
        """
        if self.data is not None and (self.colmap is not None or self.images is not None):
            raise BadInputError("give data, or colmap and images, not both")
        if self.data is None:
            super().check()
        wanted = {"segments": 1, "most": 1, "batch": 1, "spatial": 2, "hidden": 1, "reduction": 1}
        for name, least in wanted.items():
            if getattr(self, name) < least:
                raise BadInputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.iterations < 2:
            raise BadInputError(
                f"iterations are parted into two stages, 2 or more are needed, got {self.iterations}"
            )
        if self.voxel < 0 or (self.rate is not None and not self.rate > 0):
            raise BadInputError(f"voxel must be 0 or more and rate above 0, got {self.voxel} and {self.rate}")
        if not self.times or not all(0 <= time <= 1 for time in self.times):
            raise BadInputError(f"times of splats lie within 0 and 1, got {self.times}")

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Fit and write; see `Reconstruct.run`."""
        if self.data is None:
            return super().run(progress)
        self.check()
        self._check_out()
        from papertrial.scenes.modec_gs.hypernerf import write_transforms

        folder = self.out / POSES
        # Written anew each time: what lies there may be of other data, and a checkpoint of other frames is refused.
        write_transforms(self.data, folder, longest=self.longest or None, reduction=self.reduction)
        return replace(self, data=None, images=folder).run(progress)

    def start(self, capture: Capture) -> Reconstruction:
        """Return the method at work on the views to train on."""
        import torch

        from papertrial.scenes.cameras import scene_extent
        from papertrial.scenes.hexplane import box_around
        from papertrial.scenes.modec_gs.scene import ModecScene, make_anchors
        from papertrial.scenes.modec_gs.storage import save_scene
        from papertrial.scenes.modec_gs.training import ModecTraining
        from papertrial.scenes.reconstructing.reconstruction import Reconstruction

        views = self._views(capture)
        settings = self._settings(views)
        torch.manual_seed(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        anchors = make_anchors(capture.points, self.voxel, settings)
        scene = ModecScene(anchors, settings, box_around(capture.points), generator=generator).to(self.device)
        extent = scene_extent([view.camera for view in views])
        fitted = ModecTraining(scene, views, self._training(), extent)

        def save(path: Path) -> None:
            save_scene(path, scene)

        def write(path: Path) -> int:
            facts["motion"] = _motion(scene, views, self.backend)
            return self._write_splats(path, scene, views)

        between = [f"{time:g}" for time in self.times if all(abs(time - one.time) > _SAME for one in views)]
        facts: dict[str, Fact] = {
            "anchors_at_start": len(anchors),
            "segments": self.segments,
            "moments": len({view.time for view in views}),
            "splats_at": ", ".join(f"{time:g}" for time in self.times),
            "splats_between_photographs": ", ".join(between) or "none",
        }
        return Reconstruction(fitted, save, write, lambda: len(scene.anchors), facts)

    def _views(self, capture: Capture) -> list[TimedView]:
        from papertrial.scenes.modec_gs.views import TimedView

        found = [
            TimedView(view.camera, time, view.image)
            for view, time in zip(capture.views, capture.frame_times(), strict=True)
        ]
        return sorted(found, key=lambda view: view.time)

    def _settings(self, views: list[TimedView]) -> Any:
        from papertrial.scenes.cameras import near_plane
        from papertrial.scenes.modec_gs.settings import GLOBAL_PENALTY, FieldSettings, SceneSettings

        moments = len({view.time for view in views})
        temporal = self.temporal or min(100, max(2, moments // 2))
        return SceneSettings(
            near=near_plane([view.camera for view in views]),
            gates=self.gates,
            segments=self.segments,
            global_field=FieldSettings(
                max(2, self.spatial // 2), max(2, self.segments), penalty=GLOBAL_PENALTY
            ),
            local_field=FieldSettings(self.spatial, temporal),
            hidden=self.hidden,
        )

    def _training(self) -> TrainingSettings:
        from papertrial.scenes.modec_gs.training import COARSE, FINE, TrainingSettings
        from papertrial.scenes.scaffold import GrowthSettings

        rate = self.rate or min(10.0, max(1.0, (COARSE + FINE) / self.iterations))
        growth = GrowthSettings(min_opacity=0.01, most_anchors=self.most)
        settings = TrainingSettings(
            batch=self.batch,
            growth=growth,
            field_rate=rate,
            network_rate=rate,
            seed=self.seed,
            backend=self.backend,
        )
        scaled = settings.scaled(self.iterations)
        return scaled if rate == 1 else replace(scaled, motion_schedule=max(1, scaled.fine))

    def _write_splats(self, path: Path, scene: ModecScene, views: list[TimedView]) -> int:
        """Write the Gaussians of each asked time, as baked from the training cameras; return those of the first."""
        from papertrial.scenes.reconstructing.baking import bake, write_baked

        device = scene.anchors.positions.device
        cameras = [view.camera.to(device) for view in views]
        counts = []
        for place, time in enumerate(self.times):
            baked = bake(partial(_decoded, scene, time), cameras)
            counts.append(write_baked(path.with_stem(f"{path.stem}_{time:g}"), baked, "gaussian"))
            if place == 0:
                write_baked(path, baked, "gaussian")
        return counts[0]


def _motion(scene: ModecScene, views: list[TimedView], backend: str) -> str:
    """Say whether what the scene shows moves; where it does not, the user shall not take it for a moving one."""
    from papertrial.scenes.modec_gs.evaluation import shown_motion
    from papertrial.scenes.modec_gs.scene import Player

    seen = shown_motion(Player(scene, backend=backend), views)
    how = f"pixels change by up to {seen.change:.3f}, frames are off by {seen.error:.3f}"
    if seen.found:
        return f"found: {how}"
    return f"no motion found: {how}; more iterations are wanted, or the place is still"


def _decoded(scene: ModecScene, time: float, camera: Camera) -> Decoded:
    return scene.frames([camera], [time])[0].decoded


deeds: dict[str, type[Deed]] = {"reconstruct": ReconstructMotion}
