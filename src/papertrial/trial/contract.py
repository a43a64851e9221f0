"""What a trial is: a frozen dataclass that measures one arm under one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

MetricKind = Literal["sampled", "timed", "exact"]
Direction = Literal["lower", "higher"]


@dataclass(frozen=True)
class Metric:
    """One number that every measurement of a trial reports.

    Attributes:
        unit: what the number counts, as it is printed ("nats/token", "ms", "bytes").
        better: whether a lower or a higher value is better.
        kind: how a claim on it is judged. `sampled`: Student's t over paired seeds (bootstrap from
            thirty on). `timed`: the order-statistic interval of the median ratio of interleaved pairs.
            `exact`: a count that has no noise; the point itself decides.
        shown: whether the terminal's progress table shows it.
    """

    unit: str
    better: Direction
    kind: MetricKind = "sampled"
    shown: bool = True


@runtime_checkable
class Watch(Protocol):
    """What a measurement may tell while it runs. Handed to `Trial.measure` by the runner."""

    @property
    def prepared(self) -> Path:
        """The folder that `Trial.prepare` filled for this seed."""

    def step(self, done: int, total: int, **values: float) -> None:
        """Report progress: `done` of `total` steps, and the values that make the curves."""

    def keep(self, name: str, artifact: object) -> None:
        """Keep an artifact with the evidence.

        Args:
            name: a plain name; its suffix is added from the kind of the artifact.
            artifact: a matplotlib figure or a picture (H, W, 3) uint8 (kept as PNG), a `str` (text), a list
                of equal dicts (a table, kept as CSV), or frames (T, H, W, 3) uint8 (kept as a video; at
                another rate than 8 frames a second as `papertrial.trial.Video(frames, fps)`). Pictures and
                frames are arrays or tensors. One is kept in at most 2 MB: larger ones are made smaller.
        """


@dataclass(frozen=True)
class Trial:
    """Baseline against method, on the same work, over several seeds.

    A subclass is a frozen dataclass whose fields are the settings and whose docstring is the help; the
    command line is made from it. Class attributes say what is measured.

    Attributes:
        arms: the names of what is compared, baseline first.
        metrics: every number `measure` returns, by name. All arms return the same names; a metric that an
            arm cannot have is NaN.
        version: raise it when the same settings would now measure something else: old evidence is then
            left alone and not mixed with new.
        seeds: how many seeds are measured when the user names no number. Seeds are 0, 1, 2, ….
        timed: whether arms must run interleaved, one seed after the other, in one process.
        threads: CPU threads that one measurement uses. The same number in every executor, so that
            serial, pooled and Ray runs compute the same bits.
        grid: for each arm, values to try for some fields. A field in the grid has the default `None` and
            means "tuned"; a user who sets it switches the tuning of that field off. Every point is
            measured on a tuning seed that is never used for the verdict.
        tuned_on: the metric by which a grid's best point is chosen.
        prepared_by: the fields on which `prepare` depends. Empty: nothing is prepared.
        curve: the name of the value given to `Watch.step` that the report draws first.
    """

    arms: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[Mapping[str, Metric]] = {}
    version: ClassVar[int] = 1
    seeds: ClassVar[int] = 3
    timed: ClassVar[bool] = False
    threads: ClassVar[int] = 1
    grid: ClassVar[Mapping[str, Mapping[str, Sequence[Any]]]] = {}
    tuned_on: ClassVar[str | None] = None
    prepared_by: ClassVar[tuple[str, ...]] = ()
    curve: ClassVar[str | None] = None

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Measure one arm under one seed: a pure function of (settings, arm, seed)."""
        raise NotImplementedError

    def prepare(self, seed: int, folder: Path) -> None:
        """Make what all arms share (a pretrained base, say) and save it in `folder`.

        Called once for each seed and each combination of the fields named in `prepared_by`; the folder
        is kept, and later runs find it as it was.
        """

    def check(self) -> None:
        """Raise `BadInputError` where the settings cannot work, before anything is measured."""

    def scale(self) -> str:
        """Say in one line at what size this trial measures, for printing beside every verdict."""
        raise NotImplementedError

    @classmethod
    def quick(cls) -> Self:
        """Return the same trial, small enough for the test suite (under 20 s with all arms and seeds)."""
        raise NotImplementedError
