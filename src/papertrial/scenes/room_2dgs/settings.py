"""Weights, steps and sizes of 2DGS-Room, and how they follow the length of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from papertrial.errors import BadInputError
from papertrial.scenes.multiview import MOST_DEGREES, MOST_ERROR, PATCH
from papertrial.scenes.prior_losses import GRADIENT_WEIGHT
from papertrial.scenes.scaffold.anchors import FEATURES, PER_ANCHOR, VOXEL
from papertrial.scenes.scaffold.growth_settings import GrowthSettings
from papertrial.scenes.scaffold.rates import ITERATIONS
from papertrial.scenes.scaffold.seeds import LEAST_TRACK
from papertrial.scenes.splatting.primitives import Rules
from papertrial.scenes.surface_views import BLACK


@dataclass(frozen=True)
class PriorSettings:
    """How a rendering is held against predicted depth and normals.

    Attributes:
        depth: weight of the depth term; 0 leaves it out.
        gradient: weight of the differences of neighbours within it.
        depth_ratio: share of the median depth in what is held against the prior: 0 is the blended depth, which every
            surfel along a ray answers for, 1 the median depth, which one of them does.
        normal: weight of the normal term; 0 leaves it out.
        normal_l1: weight of |N - prior| within it.
        normal_cosine: weight of 1 - cosine within it.
        start: step from which both count; the paper names none.
        through_alignment: whether gradients also flow through a depth's scale and shift.
        unit_deviation: whether a depth prior is brought to standard deviation 1 first, for scenes whose unit is not
            the metre.

    Source: arXiv 2412.03428, section 4.2, equations 10 to 13 and 18, and section 5.1.
    """

    depth: float = 1.0
    gradient: float = GRADIENT_WEIGHT
    depth_ratio: float = 0.0
    normal: float = 1.0
    normal_l1: float = 0.01
    normal_cosine: float = 0.01
    start: int = 0
    through_alignment: bool = False
    unit_deviation: bool = False

    def __post_init__(self) -> None:
        weights = (self.depth, self.gradient, self.normal, self.normal_l1, self.normal_cosine)
        if min(*weights, self.start) < 0:
            raise BadInputError(f"weights and steps must be 0 or more, got {self}")


@dataclass(frozen=True)
class MultiViewSettings:
    """How neighbouring views are held against each other.

    Attributes:
        geometric: weight of the round trips of pixels.
        photometric: weight of the patches.
        start: step from which they count: a quarter of the training; the paper names none.
        most_error: of a round trip that counts, in pixels.
        patch: pixels a side.
        most_degrees: between the axes of neighbours.
        pixels: how many are drawn in a step; None takes all of the view.

    Source: arXiv 2412.03428, section 4.3, equations 14 to 17; what it leaves open is as its sheet here infers.
    """

    geometric: float = 0.05
    photometric: float = 0.2
    start: int = 7_500
    most_error: float = MOST_ERROR
    patch: int = PATCH
    most_degrees: float = MOST_DEGREES
    pixels: int | None = None

    def __post_init__(self) -> None:
        if min(self.geometric, self.photometric, self.start) < 0:
            raise BadInputError(f"weights and steps must be 0 or more, got {self}")
        if self.pixels is not None and self.pixels < 1:
            raise BadInputError(f"a step compares 1 pixel or more, got {self.pixels}")


@dataclass(frozen=True)
class SeedSettings:
    """How seeds and their networks are fitted. The defaults are for 30,000 iterations: see `for_iterations`.

    Attributes:
        voxel: edge of the cells that seeds come from and grow into, in scene units; 0 takes the median distance of the
            sparse points.
        least_track: photographs in which a sparse point must have been found to become a seed; the paper names none.
        per_anchor: surfels of each seed.
        feature_size: numbers of each seed's feature.
        sees_distance: networks that are also given the distance to the camera.
        appearance: whether each training camera has an appearance vector; off for small scenes.
        growth: when seeds are added and removed.
        rate_steps: in which the learning rates fall.
        rate: multiplies all learning rates.
        ssim_share: of the photometric loss.
        volume: weight of the mean product of the extents.
        normal_consistency: weight of the surfels' normals against those of the depth.
        normal_start: step from which it counts.
        distortion: weight of the distortion; 2DGS's scripts give 1000 for bounded objects and 100 for open scenes.
        distortion_start: step from which it counts.
        depth_ratio: share of the median depth in the surface's: 1 for bounded scenes.
        background: colour behind everything.
        rules: of the rasteriser: nothing is drawn nearer than 0.2, as in the original kernels, and the distortion is of
            depths remapped between 0.2 and 100, for which the scripts' weights are.
        backend: of the rasteriser.
        seed: of the networks, the order of views and the growth.

    Source: arXiv 2412.03428, sections 4.1 and 5.1; Scaffold-GS's and 2DGS's released arguments where it names none.
    """

    voxel: float = VOXEL
    least_track: int = LEAST_TRACK
    per_anchor: int = PER_ANCHOR
    feature_size: int = FEATURES
    sees_distance: tuple[str, ...] = ()
    appearance: bool = False
    growth: GrowthSettings = field(default_factory=GrowthSettings)
    rate_steps: int = ITERATIONS
    rate: float = 1.0
    ssim_share: float = 0.2
    volume: float = 0.01
    normal_consistency: float = 0.05
    normal_start: int = 7_000
    distortion: float = 0.0
    distortion_start: int = 3_000
    depth_ratio: float = 1.0
    background: tuple[float, float, float] = BLACK
    rules: Rules = field(default_factory=Rules.released)
    backend: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.volume, self.normal_consistency, self.distortion) < 0 or not 0 <= self.ssim_share <= 1:
            raise BadInputError(f"weights must be 0 or more and ssim_share within 0 and 1, got {self}")
        if self.rules.kind != "surfel":
            raise BadInputError(f"seeds are decoded into surfels; the rules are for {self.rules.kind}")

    @property
    def rasterizing(self) -> Rules:
        """The rules of the rasteriser; the remap is for the distortion alone, so only where that counts."""
        return self.rules if self.distortion > 0 else self.rules.without_remap()

    def for_iterations(self, iterations: int) -> SeedSettings:
        """Return the settings with all step counts in proportion: `iterations` in place of 30,000.

        Raises:
            BadInputError: fewer than one iteration.
        """
        return replace(
            self,
            growth=self.growth.scaled(iterations),
            rate_steps=in_proportion(self.rate_steps, iterations, least=1),
            normal_start=in_proportion(self.normal_start, iterations),
            distortion_start=in_proportion(self.distortion_start, iterations),
        )


def in_proportion(steps: int, iterations: int, least: int = 0) -> int:
    """Return a number of steps out of 30,000 for a run of so many iterations, but at least `least`."""
    return max(least, round(steps * iterations / ITERATIONS))
