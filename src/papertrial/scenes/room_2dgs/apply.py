"""`papertrial apply reconstruct --method room_2dgs|2dgs|3dgs`: a room, or any still scene, from photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from papertrial.deeds import Deed, Fact
from papertrial.errors import BadInputError
from papertrial.scenes.reconstructing.deed import PRIORS, Reconstruct

if TYPE_CHECKING:
    from papertrial.scenes.reconstructing.capture import Capture
    from papertrial.scenes.reconstructing.priors import Priors
    from papertrial.scenes.reconstructing.reconstruction import Meshing, Reconstruction
    from papertrial.scenes.room_2dgs.fitting import SeedFit
    from papertrial.scenes.splatting import Rules
else:  # help is read without torch, and a protocol cannot be checked at run time
    Capture = Priors = Meshing = Reconstruction = SeedFit = Rules = Any

_COMPARED_PIXELS = 2048  # that a step holds against the neighbouring view
_FEWEST_VIEWS = 2  # of which one can be held against another
# 700 steps on a room of 64 pixels, F within 5 cm at rates 1, 2, 4, 6, 8, 10: 0.10, 0.14, 0.28, 0.37, 0.51, 0.65 to 0.71
# with both priors. Without either of them some rooms collapse at 10, and none did at 5.
_MOST_RATE, _MOST_RATE_ALONE = 10.0, 5.0
_LONG, _PLAIN_RATE = 10_000, 2.0  # plain: 20.1, 22.2, 22.7 dB at 1, 2, 4, and F 0.18, 0.17, 0.16


@dataclass(frozen=True)
class ReconstructRoom(Reconstruct):
    """Turn posed photographs of a room, or of any still scene, into surfels or Gaussians and a mesh.

    Depth and normals that networks predict (`depth/NAME.npy`, `normal/NAME.npy` beside the images) hold white walls in
    place under room_2dgs; without them it does what it can with seeds and neighbouring views, and says so.

    Attributes:
        algorithm: room_2dgs (surfels decoded from seeds, with priors), 2dgs (plain surfels) or 3dgs (plain Gaussians).
        most: primitives at most (for room_2dgs: seeds) that growth leads to.
        prior_model: hub id or folder of a network that predicts depth (Depth Anything, DPT, ZoeDepth, Depth Pro,
            GLPN) of the images that have no file.
        normal_model: hub id or folder of a network that predicts normals (Marigold), likewise.
        seed_voxel: edge of the cells that seeds come from, in scene units; 0 for the median distance of the sparse
            points.
        multi_view: hold neighbouring views against each other (room_2dgs).
        depth_ratio: the surface's depth: 1 for the median along each ray (bounded scenes), 0 for the mean.
        dist: weight of the distortion (surfels); 2DGS's scripts give 1000 for bounded objects and 100 for open scenes,
            and the paper's room_2dgs has none.
        normal_consistency: weight of the surfels' normals against those of the depth; 0.05 if not given.
        mesh_mode: box fuses all depths, in voxels of a pixel's size; bounded fuses as 2DGS's bounded mode, up to twice
            the distance of the nearest camera to what all look at. In a room seen from within, that leaves out walls.
        depth_limit: fuse depths up to this, in scene units, in either mode. Where a mesh lacks parts, raise it.
        rate: multiplies the learning rates, which are for 30,000 iterations. If not given, those of room_2dgs rise in
            proportion for shorter runs, to ten times at most (five without both priors); those of plain splats are
            doubled below 10,000.
    """

    algorithm: Literal["room_2dgs", "2dgs", "3dgs"] = "room_2dgs"
    most: int = 50_000
    prior_model: str | None = None
    normal_model: str | None = None
    seed_voxel: float = 0.0
    multi_view: bool = True
    depth_ratio: float = 1.0
    dist: float = 0.0
    normal_consistency: float | None = None
    mesh_mode: Literal["box", "bounded"] = "box"
    depth_limit: float | None = None
    rate: float | None = None

    methods: ClassVar[tuple[str, ...]] = ("room_2dgs", "2dgs", "3dgs")
    may_change: ClassVar[frozenset[str]] = Reconstruct.may_change | {"mesh_mode", "depth_limit"}

    def check(self) -> None:
        """Raise for settings that cannot work.

        Raises:
            BadInputError: the first of them.
        """
        super().check()
        if self.most < 1:
            raise BadInputError(f"most must be at least 1, got {self.most}")
        if self.seed_voxel < 0 or not 0 <= self.depth_ratio <= 1:
            raise BadInputError(
                f"seed_voxel must be 0 or more and depth_ratio within 0 and 1, got {self.seed_voxel} and "
                f"{self.depth_ratio}"
            )
        for name in ("rate", "depth_limit"):
            given = getattr(self, name)
            if given is not None and not given > 0:
                raise BadInputError(f"{name} must be above 0, got {given}")
        weights = (self.dist, self.normal_consistency or 0.0)
        if not all(0 <= weight < math.inf for weight in weights):
            raise BadInputError(
                f"dist and normal_consistency must be 0 or more, got {weights[0]} and {weights[1]}"
            )
        if any(weights) and self.algorithm == "3dgs":
            raise BadInputError(
                "3dgs has neither distortion nor normals; leave dist and normal_consistency out, or take 2dgs"
            )
        if (self.prior_model or self.normal_model) and self.algorithm != "room_2dgs":
            raise BadInputError(
                f"{self.algorithm} uses no priors; leave prior_model and normal_model out, or take room_2dgs"
            )

    def meshing(self) -> Meshing:
        """Return how depth becomes a mesh."""
        from papertrial.scenes.reconstructing.reconstruction import Meshing

        return Meshing(self.mesh_mode == "bounded", self.mesh_voxel, self.depth_limit)

    def start(self, capture: Capture) -> Reconstruction:
        """Return the chosen method at work on the views to train on."""
        return self._seeds(capture) if self.algorithm == "room_2dgs" else self._plain(capture)

    def _plain(self, capture: Capture) -> Reconstruction:
        from papertrial.scenes.plain_splats import PlainFit, PlainSettings, SplatScene
        from papertrial.scenes.reconstructing.reconstruction import Reconstruction

        base = PlainSettings() if self.algorithm == "2dgs" else PlainSettings.gaussians()
        scaled = base.for_iterations(self.iterations)
        settings = replace(
            scaled,
            rates=scaled.rates.times(self.rate or (_PLAIN_RATE if self.iterations < _LONG else 1.0)),
            rules=_rules(capture, scaled.kind, self.backend),
            distortion=self.dist,
            normal_consistency=self._consistency(scaled.normal_consistency),
            densify=replace(scaled.densify, most=self.most),
            depth_ratio=self.depth_ratio if self.algorithm == "2dgs" else scaled.depth_ratio,
            backend=self.backend,
            seed=self.seed,
        )
        points, colours = capture.points.to(self.device), capture.colours.to(self.device)
        scene = SplatScene.from_points(points, colours, settings.kind, seed=self.seed)

        def write(path: Any) -> int:
            scene.write_ply(path)
            return len(scene)

        fitted = PlainFit(scene, capture.views, settings)
        return Reconstruction(fitted, scene.save, write, lambda: len(scene))

    def _seeds(self, capture: Capture) -> Reconstruction:
        from papertrial.scenes.reconstructing.baking import bake, write_baked
        from papertrial.scenes.reconstructing.reconstruction import Reconstruction
        from papertrial.scenes.room_2dgs.fitting import SeedFit
        from papertrial.scenes.room_2dgs.scene import SeedScene
        from papertrial.scenes.room_2dgs.settings import ITERATIONS, SeedSettings

        priors = self._priors(capture)
        depths, normals = priors.counts
        most = _MOST_RATE if depths and normals else _MOST_RATE_ALONE
        base = SeedSettings(
            voxel=self.seed_voxel,
            depth_ratio=self.depth_ratio,
            rate=self.rate or min(most, max(1.0, ITERATIONS / self.iterations)),
            rules=_rules(capture, "surfel", self.backend),
            distortion=self.dist,
            normal_consistency=self._consistency(SeedSettings.normal_consistency),
        )
        scaled = base.for_iterations(self.iterations)
        settings = replace(
            scaled,
            growth=replace(scaled.growth, most_anchors=self.most),
            backend=self.backend,
            seed=self.seed,
        )
        scene = SeedScene.from_points(
            capture.points.to(self.device),
            settings,
            track_lengths=None if capture.track_lengths is None else capture.track_lengths.to(self.device),
        )
        fitted = SeedFit(scene, capture.views, settings)
        terms, told = self._terms(capture, fitted, priors)
        fitted.terms = terms
        cameras = [view.camera for view in fitted.views]

        def write(path: Any) -> int:
            return write_baked(path, bake(scene.decode, cameras), "surfel")

        facts: dict[str, Fact] = {
            "seeds_at_start": len(scene.anchors),
            "priors": priors.origin,
            "depth_priors": depths,
            "normal_priors": normals,
            "multi_view": told,
            "splats_are": "baked: each as the nearest photograph's camera is shown it; scene.safetensors has all",
        }
        return Reconstruction(fitted, scene.save, write, lambda: len(scene.anchors), facts)

    def _consistency(self, usual: float) -> float:
        return usual if self.normal_consistency is None else self.normal_consistency

    def _priors(self, capture: Capture) -> Priors:
        from papertrial.scenes.reconstructing.priors import read_priors

        found = read_priors(capture)
        if self.prior_model is None and self.normal_model is None:
            return found
        from papertrial.scenes.reconstructing.predicting import complete_priors

        return complete_priors(
            found,
            capture,
            self.out / PRIORS,
            depth_model=self.prior_model,
            normal_model=self.normal_model,
            device=self.device,
        )

    def _terms(self, capture: Capture, fitted: SeedFit, priors: Priors) -> tuple[tuple[Any, ...], str]:
        """Return the further terms of the loss, and what became of the one between views."""
        from papertrial.scenes.multiview import nearest_neighbours
        from papertrial.scenes.room_2dgs.consistency import MultiViewTerm
        from papertrial.scenes.room_2dgs.priors import Prior, PriorTerm
        from papertrial.scenes.room_2dgs.settings import MultiViewSettings, PriorSettings, in_proportion

        cameras = [view.camera for view in fitted.views]
        terms: list[Any] = []
        if any(priors.counts):
            pairs = [Prior(*pair) for pair in zip(priors.depths, priors.normals, strict=True)]
            unit = PriorSettings(unit_deviation=True)  # nobody knows whether a capture is metric
            terms.append(PriorTerm(pairs, cameras, unit, capture.points.to(self.device)))
        if not self.multi_view:
            return tuple(terms), "off"
        neighbours = nearest_neighbours(cameras) if len(cameras) >= _FEWEST_VIEWS else []
        found = sum(neighbour is not None for neighbour in neighbours)
        if not found:
            return tuple(terms), "off: no photograph has another that looks nearly the same way"
        start = in_proportion(MultiViewSettings().start, self.iterations)
        compared = MultiViewSettings(start=start, pixels=_COMPARED_PIXELS)
        terms.append(MultiViewTerm(fitted.views, fitted.shape, compared, seed=self.seed))
        return tuple(terms), f"on: {found} of {len(cameras)} photographs have a neighbour"


def _rules(capture: Capture, kind: Literal["surfel", "gaussian"], backend: str) -> Rules:
    """Return the rasteriser's rules: those of the released programs, but nearer where the scene is small."""
    from papertrial.scenes.cameras import near_plane
    from papertrial.scenes.splatting import Rules

    near = near_plane([view.camera for view in capture.views])
    # gsplat asks for a surfel's centre alone whether it is near
    return Rules.released(kind, near, near_at_pixel=kind == "surfel" and backend != "gsplat")


deeds: dict[str, type[Deed]] = {"reconstruct": ReconstructRoom}
