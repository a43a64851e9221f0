"""`papertrial apply reconstruct`: what every method of it does alike."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from papertrial.deeds import Deed, Fact, check_new_folder
from papertrial.errors import BadInputError
from papertrial.home import ensure_writable

if TYPE_CHECKING:
    from papertrial.deeds import Progress
    from papertrial.scenes.colmap import Posed
    from papertrial.scenes.reconstructing.capture import Capture
    from papertrial.scenes.reconstructing.reconstruction import Meshing, Reconstruction
else:  # help is read without torch, and a protocol cannot be checked at run time
    Progress = Posed = Capture = Meshing = Reconstruction = Any

SETTINGS_FILE, CHECKPOINT = "reconstruction.json", "checkpoint.safetensors"
POSES, PRIORS = "poses", "priors"  # folders of what was found before the first step
_PSNR_DIGITS = 2
_PREVIEWS = 20  # over a run, where nothing else is asked for


@dataclass(frozen=True)
class Reconstruct(Deed):
    """Turn posed photographs of one place into a scene, its splats and its mesh.

    A run that was interrupted goes on by the same command, to the bit as if it had not been. Methods subclass it and
    give `start`.

    Attributes:
        out: folder for scene, splats, mesh and pictures: new, empty, or of the same run before. `preview.png` in it
            shows how far things are.
        colmap: folder with a COLMAP model (`sparse/0`) and its images, or the model's own. Lenses that bend lines
            are undistorted.
        images: folder of photographs; poses come from a transforms.json in or beside it, else from a COLMAP model
            there, else from structure from motion (needs pycolmap).
        iterations: steps; the papers take 30000.
        longest: pixels of the longer side that photographs are shrunk to; 0 keeps them.
        hold_out: keep every so many photographs for measuring; 0 trains on all of them. If not given, those that the
            capture itself keeps: HyperNeRF's val_ids, a transforms.json's val_filenames and test_filenames.
        seed: of all that is drawn.
        backend: of the rasteriser: auto, numba (CPU), torch (any device), gsplat (CUDA; see
            `splatting.gsplat_backend` for what it takes a surfel's depth to be).
        device: where to fit: cpu, or cuda.
        preview_every: steps between pictures; a twentieth of the run if not given.
        mesh: fuse the depth of all photographs into mesh.ply.
        mesh_voxel: edge of the mesh's voxels, in scene units; about a pixel if not given.
        random_points: start from so many random points where a capture has none.
    """

    out: Path
    colmap: Path | None = None
    images: Path | None = None
    iterations: int = 3000
    longest: int = 320
    hold_out: int | None = None
    seed: int = 0
    backend: str = "auto"
    device: str = "cpu"
    preview_every: int | None = None
    mesh: bool = True
    mesh_voxel: float | None = None
    random_points: int = 0

    may_change: ClassVar[frozenset[str]] = frozenset(
        {"out", "colmap", "images", "preview_every", "mesh", "mesh_voxel"}
    )
    """Settings that may change between a run and its resumption. Where images lie is one, what they show is not."""

    def meshing(self) -> Meshing:
        """Return how depth becomes a mesh."""
        from papertrial.scenes.reconstructing.reconstruction import Meshing

        return Meshing(voxel=self.mesh_voxel)

    def start(self, capture: Capture) -> Reconstruction:
        """Return the method at work on the views to train on."""
        raise NotImplementedError

    def run(self, progress: Progress) -> dict[str, Fact]:
        """Load, fit with pictures on the way, write what came of it and return its paths and figures.

        Raises:
            BadInputError: a setting, capture or folder that cannot work, or a fit that diverged.
            MissingExtraError: a library is missing that an extra installs.
        """
        self.check()
        self._check_out()
        from papertrial.scenes.reconstructing.capture import of_views
        from papertrial.scenes.reconstructing.loading import Loading, load_capture

        began = time.monotonic()
        how = Loading(
            self.longest or None,
            self.random_points,
            self.seed,
            self.out / POSES,
            lambda what: progress(0, self.iterations, what),
        )
        capture = load_capture(self.colmap, self.images, how)
        kept, held = capture.split(self.hold_out)
        training = of_views(capture, kept)
        progress(0, self.iterations, "preparing the scene and its priors")
        working = self.start(training)
        (self.out / SETTINGS_FILE).write_text(json.dumps(self.identity(), indent=1), encoding="utf-8")
        steps = self._fit(working, capture, (held or kept)[len(held or kept) // 2], progress)
        facts = self._write(working, training, progress)
        held_out = of_views(capture, held) if held else None
        return {
            **facts,
            "primitives": working.count(),
            "psnr_held_out": self._likeness(working, held_out),
            "psnr_training": self._likeness(working, training),
            "views": len(kept),
            "views_held_out": len(held),
            "points": len(capture.points),
            "poses": capture.origin,
            "steps_before_resuming": self.iterations - steps,
            "seconds": round(time.monotonic() - began, 1),
            **working.facts,
        }

    def check(self) -> None:
        """Raise for settings that cannot work, before anything is read.

        Raises:
            BadInputError: the first of them.
        """
        for name, least in (("iterations", 1), ("longest", 0), ("random_points", 0), ("preview_every", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise BadInputError(f"{name} must be at least {least}, got {value}")
        check_device(self.device, self.backend)
        if self.mesh_voxel is not None and not self.mesh_voxel > 0:
            raise BadInputError(f"mesh_voxel must be above 0, got {self.mesh_voxel}")
        if self.colmap is None and self.images is None:
            raise BadInputError(
                "nothing to reconstruct: give --images with a folder of photographs, or --colmap with a COLMAP model"
            )

    def identity(self) -> dict[str, Any]:
        """Return the settings that a checkpoint must agree on (JSON)."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in self.may_change}
        return {"method": type(self).__name__, **json.loads(json.dumps(own, default=str))}

    def _check_out(self) -> None:
        """See that the folder is new, or of a run with these settings."""
        file = self.out / SETTINGS_FILE
        if not file.is_file():
            if not (self.out.is_dir() and {one.name for one in self.out.iterdir()} <= {POSES, PRIORS}):
                check_new_folder(self.out)
            ensure_writable(self.out)
            return
        try:
            before = dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise BadInputError(f"{file} is damaged: {error}; choose another folder") from error
        now = self.identity()
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise BadInputError(
                    f"{self.out} holds a reconstruction whose {name} was {before.get(name)!r}, now "
                    f"{now.get(name)!r}; choose another folder, or the settings in {SETTINGS_FILE} to go on with it"
                )

    def _fit(self, working: Reconstruction, capture: Capture, shown: int, progress: Progress) -> int:
        """Fit to the end; return how many steps that took now."""
        from papertrial.scenes.fitting import diverged_at, fit
        from papertrial.scenes.reconstructing.reconstruction import write_preview

        every = self.preview_every or max(1, self.iterations // _PREVIEWS)
        when = capture.frame_times()[shown]
        taken = 0

        def on_step(done: int, values: Mapping[str, float]) -> None:
            nonlocal taken
            taken += 1
            if done % every == 0 or done in (1, self.iterations):
                write_preview(working.fitted, capture.views[shown], self.out, done, when)
            progress(done, self.iterations, f"loss {values['loss']:.4f}, {working.count():,} primitives")

        self._compile(progress)
        history = fit(
            working.fitted,
            self.iterations,
            on_step=on_step,
            checkpoint=self.out / CHECKPOINT,
            checkpoint_every=min(every, max(1, self.iterations // _PREVIEWS)),
            identity={**self.identity(), "photographs": capture.fingerprint()},
            pixels=capture.views[shown].camera.width * capture.views[shown].camera.height,
        )
        diverged = diverged_at(history)
        if diverged is not None:
            raise BadInputError(
                f"the fit diverged at step {diverged} of {self.iterations}: {_told(history[-1])}; the last checkpoint "
                f"before it is in {self.out}. More or better points, or another seed, may help"
            )
        return taken

    def _compile(self, progress: Progress) -> None:
        from papertrial.scenes.splatting import warm_up

        if self.backend in ("auto", "numba") and self.device == "cpu":
            progress(0, self.iterations, "compiling the rasteriser")
            warm_up()

    def _write(self, working: Reconstruction, training: Capture, progress: Progress) -> dict[str, Fact]:
        """Write scene, splats and mesh; return their paths."""
        from papertrial.scenes.reconstructing.reconstruction import write_surface

        progress(self.iterations, self.iterations, "writing")
        working.save(self.out / "scene.safetensors")
        written = working.write_splats(self.out / "splats.ply")
        facts: dict[str, Fact] = {
            "scene": str(self.out / "scene.safetensors"),
            "splats": str(self.out / "splats.ply"),
            "splats_written": written,
            "preview": str(self.out / "preview.png"),
        }
        if self.mesh:
            progress(self.iterations, self.iterations, "meshing")
            cameras = [view.camera for view in training.views]
            path = self.out / "mesh.ply"
            made = write_surface(path, working.fitted, cameras, training.frame_times(), self.meshing())
            facts |= {"mesh": str(path), "triangles": len(made.mesh.triangles)}
            if made.farthest < math.inf:
                facts |= {
                    "depth_limit": made.farthest,
                    "depth_left_out": f"{made.left_out:.1%} of what was seen",
                }
        return facts

    def _likeness(self, working: Reconstruction, capture: Capture | None) -> float | None:
        from papertrial.scenes.reconstructing.reconstruction import mean_psnr

        if capture is None:
            return None
        found = mean_psnr(working.fitted, capture.views, capture.frame_times())
        return None if found is None else round(found, _PSNR_DIGITS)


def check_device(device: str, backend: str) -> None:
    """Raise for a device that this machine lacks, or that a back end of the rasteriser does not work on.

    Raises:
        BadInputError: gsplat beside another device than CUDA, or a device that torch does not find here.
    """
    if backend == "gsplat" and not device.startswith("cuda"):
        raise BadInputError(f"gsplat can only rasterise on CUDA, the device is {device}; give --device cuda")
    if device != "cpu":
        from papertrial.models import resolve_device

        resolve_device(device)


def _told(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
