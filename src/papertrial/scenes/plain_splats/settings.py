"""Rates, thresholds and step counts of plain splatting, and how they follow the length of a run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from papertrial.errors import BadInputError
from papertrial.scenes.harmonics import MOST_DEGREE
from papertrial.scenes.splatting.primitives import Kind, Rules
from papertrial.scenes.surface_views import BLACK

ITERATIONS = 30_000  # that the defaults are for
_LEAST_INTERVAL = 10  # steps between updates: fewer cannot tell a mean gradient from the noise of a few views
_RECOVERY = 50  # steps in which Adam lifts an opacity that counts from 0.01 over the threshold of pruning
_LEAST_RESET = 1_000  # steps between resets: a scene takes hundreds to be opaque again, however short its run


@dataclass(frozen=True)
class Rates:
    """Learning rates of Adam, whose epsilon is 1e-15.

    Attributes:
        position: at first; times the scene's extent.
        last_position: at the end, reached exponentially; times the scene's extent.
        colour: of the constant harmonic.
        bands: of the higher harmonics: a twentieth.
        opacity: of its logit.
        scale: of its logarithm.
        rotation: of the quaternion.

    Source: the released arguments of arXiv 2403.17888, which are arXiv 2308.04079's.
    """

    position: float = 1.6e-4
    last_position: float = 1.6e-6
    colour: float = 0.0025
    bands: float = 0.0025 / 20
    opacity: float = 0.05
    scale: float = 0.005
    rotation: float = 0.001

    def times(self, factor: float) -> Rates:
        """Return the rates, all multiplied by a factor."""
        return Rates(**{one.name: factor * getattr(self, one.name) for one in fields(self)})


@dataclass(frozen=True)
class DensifySettings:
    """When primitives are added and removed, and which.

    Attributes:
        start: step after which updates are made. Statistics are collected from the first step on.
        stop: step from which there are neither statistics nor updates.
        interval: steps between updates.
        gradient: mean gradient of a primitive's place on the screen, in normalised device units, from which it is
            cloned or split.
        dense: share of the scene's extent up to which a primitive is cloned; a larger one is split.
        shrink: what the scales of a split primitive are divided by.
        min_opacity: below which a primitive is pruned.
        large: share of the scene's extent above which a primitive is pruned.
        large_start: step after which it is.
        most_radius: pixels on the screen above which a primitive is pruned then too; None prunes none. The papers'
            value is 20; the released 3DGS clears the radii before it compares them, so that it never prunes by them,
            and neither does this default.
        reset_interval: steps between resets of all opacities; None for no resets.
        reset_opacity: that they are cut to.
        recovery: steps after a reset in which nothing is pruned for its opacity. Released runs need none, because
            their updates are farther apart.
        most: primitives at most, by growth; the steepest gradients go first. None for no limit.
    """

    start: int = 500
    stop: int = 15_000
    interval: int = 100
    gradient: float = 2e-4
    dense: float = 0.01
    shrink: float = 1.6
    min_opacity: float = 0.05
    large: float = 0.1
    large_start: int = 3_000
    most_radius: float | None = None
    reset_interval: int | None = 3_000
    reset_opacity: float = 0.01
    recovery: int = _RECOVERY
    most: int | None = None

    def __post_init__(self) -> None:
        counts = (self.start, self.stop, self.recovery, self.large_start)
        if min(counts) < 0 or self.interval < 1 or (self.reset_interval or 1) < 1:
            raise BadInputError(
                f"steps of densification must be 0 or more and intervals 1 or more, got {self}"
            )
        if min(self.gradient, self.dense, self.large) < 0 or not 0 < self.reset_opacity < 1:
            raise BadInputError(f"thresholds must be 0 or more and reset_opacity between 0 and 1, got {self}")
        if self.shrink <= 0 or not 0 <= self.min_opacity < 1:
            raise BadInputError(f"shrink must be above 0 and min_opacity within 0 and 1, got {self}")

    def updates_at(self, done: int) -> bool:
        """Return whether primitives are added and removed once so many steps are done."""
        return self.start < done < self.stop and done % self.interval == 0

    def resets_at(self, done: int) -> bool:
        """Return whether opacities are reset once so many steps are done."""
        return self.reset_interval is not None and 0 < done < self.stop and done % self.reset_interval == 0

    def recovers_at(self, done: int) -> bool:
        """Return whether opacities still recover from a reset."""
        if self.reset_interval is None or done < self.reset_interval:
            return False
        return done % self.reset_interval < self.recovery

    def prunes_large_at(self, done: int) -> bool:
        """Return whether large primitives are pruned."""
        return done > self.large_start


@dataclass(frozen=True)
class PlainSettings:
    """How plain splats are fitted. The defaults are for 30,000 iterations: see `for_iterations`.

    Attributes:
        kind: "surfel" or "gaussian".
        degree: of the harmonics in the end.
        degree_interval: steps after which the degree rises by one.
        rates: of learning.
        rate_steps: in which the rate of positions falls.
        densify: growth and pruning.
        ssim_share: of the photometric loss.
        normal_consistency: weight of the surfels' normals against those of the depth; Gaussians have none.
        normal_start: step after which it counts.
        distortion: weight of the distortion; the released scripts give 1000 to bounded objects, 100 to open scenes.
        distortion_start: step after which it counts.
        depth_ratio: share of the median depth in the surface's depth: 1 for bounded scenes, 0 for open ones.
        background: colour behind everything.
        rules: of the rasteriser; None for those of the released programs (`Rules.released`), for whose distortion the
            scripts' weights are.
        backend: of the rasteriser.
        seed: of the order of views and of where children are placed.
    """

    kind: Kind = "surfel"
    degree: int = MOST_DEGREE
    degree_interval: int = 1_000
    rates: Rates = field(default_factory=Rates)
    rate_steps: int = ITERATIONS
    densify: DensifySettings = field(default_factory=DensifySettings)
    ssim_share: float = 0.2
    normal_consistency: float = 0.05
    normal_start: int = 7_000
    distortion: float = 0.0
    distortion_start: int = 3_000
    depth_ratio: float = 1.0
    background: tuple[float, float, float] = BLACK
    rules: Rules | None = None
    backend: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.degree <= MOST_DEGREE or self.degree_interval < 1:
            raise BadInputError(
                f"degree must be 0 to {MOST_DEGREE} and degree_interval 1 or more, "
                f"got {self.degree} and {self.degree_interval}"
            )
        if min(self.normal_consistency, self.distortion) < 0 or not 0 <= self.ssim_share <= 1:
            raise BadInputError(f"weights must be 0 or more and ssim_share within 0 and 1, got {self}")
        if self.kind == "gaussian" and self.normal_consistency > 0:
            raise BadInputError("Gaussians have no normals: give normal_consistency 0, or kind 'surfel'")
        if self.rules is not None and self.rules.kind != self.kind:
            raise BadInputError(f"the rules are for {self.rules.kind}, the scene is of {self.kind}")

    @property
    def rasterizing(self) -> Rules:
        """The rules of the rasteriser; the remap is for the distortion alone, so only where that counts."""
        rules = self.rules or Rules.released(self.kind)
        return rules if self.distortion > 0 else rules.without_remap()

    def degree_at(self, number: int) -> int:
        """Return the degree of the harmonics in a step, counted from 0."""
        return min(self.degree, (number + 1) // self.degree_interval)

    @classmethod
    def gaussians(cls) -> PlainSettings:
        """Return the settings of 3DGS: three scales, pruning below 0.005, neither normals nor distortion.

        Source: arXiv 2308.04079 and its released arguments.
        """
        return cls(
            kind="gaussian",
            normal_consistency=0.0,
            densify=DensifySettings(min_opacity=0.005),
            depth_ratio=0.0,
        )

    def for_iterations(self, iterations: int) -> PlainSettings:
        """Return the settings with all step counts in proportion: `iterations` in place of 30,000.

        Adam's steps do not grow as runs get shorter, so three things do not follow: updates stay at least 10 steps
        apart, opacities keep their 50 steps to recover from a reset, and runs whose resets would come within less
        than 1,000 steps of each other (those under 10,000 iterations) have none: they would stay half transparent.

        Raises:
            BadInputError: fewer than one iteration.
        """
        if iterations < 1:
            raise BadInputError(f"there must be 1 iteration or more, got {iterations}")

        def scaled(steps: int, least: int = 1) -> int:
            return max(least, round(steps * iterations / ITERATIONS))

        old = self.densify
        interval = scaled(old.interval, min(_LEAST_INTERVAL, old.interval))
        reset = None if old.reset_interval is None else scaled(old.reset_interval)
        densify = replace(
            old,
            start=scaled(old.start, 0),
            stop=scaled(old.stop, 0),
            interval=interval,
            large_start=scaled(old.large_start, 0),
            reset_interval=reset if reset is not None and reset >= _LEAST_RESET else None,
        )
        return replace(
            self,
            degree_interval=scaled(self.degree_interval),
            rate_steps=scaled(self.rate_steps),
            normal_start=scaled(self.normal_start, 0),
            distortion_start=scaled(self.distortion_start, 0),
            densify=densify,
        )
