"""When and how anchors are added and removed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from papertrial.errors import BadInputError, unknown

ITERATIONS = 30_000  # that the defaults are for
_LEAST_INTERVAL = 10  # steps: fewer cannot tell a mean gradient from the noise of a few views
_PRUNINGS, _KEEPS = ("opacity", "weight"), ("random", "all")


@dataclass(frozen=True)
class GrowthSettings:
    """When anchors are added and removed, and which.

    Attributes:
        first_statistics: step after which statistics are collected.
        start: step after which updates are made.
        stop: step from which there are neither statistics nor updates.
        interval: steps between updates.
        threshold: mean gradient of a primitive's place on the screen, in normalised device units, from which it asks
            for an anchor; twice that on the second level, four times on the third.
        success: share of an interval: a primitive may ask once it was seen in more than half of that many steps, an
            anchor may be pruned once it was seen in more than all of them.
        levels: sizes of cells.
        coarsest: voxels along a cell of the first level.
        ratio: how many times smaller the cells of the next level are.
        keep: "random": of the candidates of level i a share of 1 - 0.5^(i + 1) is kept; "all" keeps all of them.
        prune: by what anchors are pruned: "opacity", their primitives' cumulative opacity, or "weight", the largest
            blending weight of any of them, which is this package's variant.
        min_opacity: cumulative opacity for each time an anchor was seen, below which it is pruned; 0 prunes none.
        min_weight: largest blending weight below which an anchor is pruned under "weight"; 0 prunes none.
        most_log_extent: at which the last three log scalings are cut at every update, whether or not any anchor is
            pruned then; a quirk of the released code that is kept.
        most_anchors: from which none are added; None for no limit, as released.

    Source: Scaffold-GS's released arguments and `gaussian_model.py`; arXiv 2412.03428, section 4.1, names the same
    rules without numbers.
    """

    first_statistics: int = 500
    start: int = 1_500
    stop: int = 15_000
    interval: int = 100
    threshold: float = 2e-4
    success: float = 0.8
    levels: int = 3
    coarsest: int = 16
    ratio: int = 4
    keep: str = "random"
    prune: str = "opacity"
    min_opacity: float = 0.005
    min_weight: float = 0.01
    most_log_extent: float = 0.05
    most_anchors: int | None = None

    def __post_init__(self) -> None:
        for name, given, known in (("prune", self.prune, _PRUNINGS), ("keep", self.keep, _KEEPS)):
            if given not in known:
                raise unknown(name, given, known)
        if min(self.first_statistics, self.start, self.stop) < 0 or self.interval < 1:
            raise BadInputError(f"growth needs steps of 0 or more and an interval of 1 or more, got {self}")
        if min(self.threshold, self.min_opacity, self.min_weight) < 0 or not 0 <= self.success <= 1:
            raise BadInputError(f"thresholds must be 0 or more and success within 0 and 1, got {self}")
        smallest = (
            self.coarsest // self.ratio ** (self.levels - 1) if self.levels > 0 and self.ratio > 0 else 0
        )
        if smallest < 1:
            raise BadInputError(
                f"{self.levels} levels from {self.coarsest} voxels by {self.ratio} end below one voxel; "
                "there must be 1 level or more, and coarsest // ratio^(levels - 1) at least 1"
            )

    def cell(self, level: int) -> int:
        """Return how many voxels a cell of a level has along its edge: 16, 4, 1."""
        return self.coarsest // self.ratio**level

    def gradient(self, level: int) -> float:
        """Return the mean gradient from which a primitive asks for an anchor on a level."""
        return self.threshold * (self.ratio // 2) ** level

    def scaled(self, iterations: int) -> GrowthSettings:
        """Return the settings for another number of iterations: all steps in proportion to 30,000.

        The interval is at least 10 steps (`success` counts shares of it), and the first update comes an interval or
        more after the first statistics.
        """
        if iterations < 1:
            raise BadInputError(f"there must be 1 iteration or more, got {iterations}")
        share = iterations / ITERATIONS
        interval = max(_LEAST_INTERVAL, round(share * self.interval))
        first = round(share * self.first_statistics)
        return replace(
            self,
            first_statistics=first,
            start=max(round(share * self.start), first + interval),
            stop=round(share * self.stop),
            interval=interval,
        )
