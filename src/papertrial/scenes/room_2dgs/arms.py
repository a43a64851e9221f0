"""The method, the baseline, and the method without each of its parts, ready to be fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from papertrial.errors import unknown
from papertrial.scenes.cameras import Camera
from papertrial.scenes.colmap import Posed
from papertrial.scenes.plain_splats import PlainFit, PlainSettings, SplatScene
from papertrial.scenes.plain_splats.fitting import LossTerm
from papertrial.scenes.room_2dgs.consistency import Look, MultiViewTerm
from papertrial.scenes.room_2dgs.fitting import SeedFit
from papertrial.scenes.room_2dgs.priors import Prior, PriorTerm
from papertrial.scenes.room_2dgs.scene import SeedScene
from papertrial.scenes.room_2dgs.settings import (
    MultiViewSettings,
    PriorSettings,
    SeedSettings,
    in_proportion,
)
from papertrial.scenes.surface_views import SurfaceShape

ARMS = ("2dgs", "room_2dgs", "no-seeds", "no-depth", "no-normal", "no-priors", "no-mv")
_WITHOUT_SEEDS = ("2dgs", "no-seeds")


@dataclass(frozen=True)
class ArmSettings:
    """Settings of all arms, for 30,000 iterations; `for_iterations` brings them to another number.

    Attributes:
        seeds: of the arms with seeds.
        plain: of plain 2DGS and of the arm without seeds.
        priors: of all arms but plain 2DGS and the one without them.
        multi_view: of all arms but plain 2DGS and the one without it.
    """

    seeds: SeedSettings
    plain: PlainSettings
    priors: PriorSettings
    multi_view: MultiViewSettings

    def for_iterations(self, iterations: int) -> ArmSettings:
        """Return the settings with all step counts in proportion.

        Raises:
            BadInputError: fewer than one iteration.
        """
        return ArmSettings(
            self.seeds.for_iterations(iterations),
            self.plain.for_iterations(iterations),
            replace(self.priors, start=in_proportion(self.priors.start, iterations)),
            replace(self.multi_view, start=in_proportion(self.multi_view.start, iterations)),
        )


def make_fit(
    arm: str,
    views: Sequence[Posed],
    priors: Sequence[Prior],
    points: Float[Tensor, "n 3"],
    colours: Float[Tensor, "n 3"],
    settings: ArmSettings,
    *,
    track_lengths: Int[Tensor, " n"] | None = None,
) -> SeedFit | PlainFit:
    """Return an arm ready to be fitted.

    "2dgs" is plain 2DGS: a surfel a point, cloned and split. "room_2dgs" is the method. "no-seeds" is plain 2DGS with
    the method's priors and multi-view term: the paper does not say what stands in the seeds' place. "no-depth",
    "no-normal", "no-priors" and "no-mv" are the method without the depth prior, the normal prior, either, and the
    multi-view term.

    Args:
        arm: one of `ARMS`.
        views: cameras and photographs.
        priors: of each view; plain 2DGS and "no-priors" do not look at them.
        points: sparse points.
        colours: of the points; seeds do not look at them.
        settings: with the step counts of this run.
        track_lengths: of the points, by which seeds are chosen.

    Raises:
        BadInputError: an unknown arm, or inputs that cannot be fitted; see `SeedFit`, `PlainFit`, `PriorTerm` and
            `MultiViewTerm`.

    Source: arXiv 2412.03428, Table 2.
    """
    if arm not in ARMS:
        raise unknown("arm", arm, ARMS)
    fitted: SeedFit | PlainFit

    def look(camera: Camera, number: int) -> SurfaceShape:
        return fitted.shape(camera, number)

    terms = [] if arm == "2dgs" else _terms(arm, views, priors, points, settings, look)
    if arm in _WITHOUT_SEEDS:
        plain = settings.plain
        scene = SplatScene.from_points(points, colours, "surfel", degree=plain.degree, seed=plain.seed)
        fitted = PlainFit(scene, views, plain, terms=terms)
        return fitted
    seeds = settings.seeds
    room = SeedScene.from_points(points, seeds, track_lengths=track_lengths, cameras=len(views))
    fitted = SeedFit(room, views, seeds, terms=terms)
    return fitted


def _terms(
    arm: str,
    views: Sequence[Posed],
    priors: Sequence[Prior],
    points: Float[Tensor, "n 3"],
    settings: ArmSettings,
    look: Look,
) -> list[LossTerm]:
    chosen = settings.priors
    if arm == "no-depth":
        chosen = replace(chosen, depth=0.0)
    if arm == "no-normal":
        chosen = replace(chosen, normal=0.0)
    cameras = [view.camera for view in views]
    terms: list[LossTerm] = []
    if arm != "no-priors":
        terms.append(PriorTerm(priors, cameras, chosen, points))
    if arm != "no-mv":
        terms.append(MultiViewTerm(views, look, settings.multi_view, settings.seeds.seed))
    return terms


def surfels_of(fitted: SeedFit | PlainFit) -> int:
    """Return how many surfels the training views show: all of plain 2DGS, the decoded ones of seeds."""
    return fitted.surfels() if isinstance(fitted, SeedFit) else len(fitted.scene)
