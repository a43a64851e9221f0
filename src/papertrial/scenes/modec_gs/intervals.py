"""Segments of time that shrink where much moves."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from papertrial.errors import BadInputError

SIGMAS = 1.5
FEWEST_THAT_FIRE = 5  # of N values none exceeds (N - 1) / sqrt(N) standard deviations: 1.5 for N = 4


@dataclass(frozen=True)
class AdjustmentSettings:
    """When borders move, and how far.

    Attributes:
        start: step from which they are moved.
        interval: steps between two adjustments.
        step: how far a border moves at once, as a share of a uniform segment.
        sigmas: a segment is hot where its gradient exceeds the mean of all by more than so many of their standard
            deviations (of a sample, with N - 1).

    Source: arXiv 2501.03714, algorithm 1, with the numbers of its released code.
    """

    start: int = 5_000
    interval: int = 1_000
    step: float = 0.01
    sigmas: float = SIGMAS

    def __post_init__(self) -> None:
        if self.start < 0 or self.interval < 1 or not 0 < self.step < 1 or self.sigmas < 0:
            raise BadInputError(
                f"adjustments need start >= 0, interval >= 1, 0 < step < 1 and sigmas >= 0, got {self}"
            )

    def due(self, number: int) -> bool:
        """Return whether borders move after so many steps."""
        return number >= self.start and number % self.interval == 0


class Intervals:
    """Segments that part the time from 0 to 1, and the gradients that their frames brought.

    A segment's canonical time is its start. Borders are all that is stored of a segment.

    Attributes:
        borders: (N + 1,), float64, from 0 to 1.
        gradients: (N,), summed since the last adjustment.
        visits: (N,), how many frames they are of.

    Source: arXiv 2501.03714, section 3.3 and algorithm 1 (temporal interval adjustment). The released code keeps
    N - 1 accumulators whose index is shifted by one, and may move the first border; that is not followed.
    """

    def __init__(self, segments: int, settings: AdjustmentSettings | None = None) -> None:
        """Part the time evenly.

        Raises:
            BadInputError: no segment.
        """
        if segments < 1:
            raise BadInputError(f"time is parted into 1 segment or more, got {segments}")
        self.settings = settings or AdjustmentSettings()
        self.borders = torch.arange(segments + 1, dtype=torch.float64) / segments
        self.gradients = torch.zeros(segments, dtype=torch.float64)
        self.visits = torch.zeros(segments, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.gradients)

    @property
    def starts(self) -> list[float]:
        """The canonical time of each segment."""
        return self.borders[:-1].tolist()

    @property
    def lengths(self) -> Float[Tensor, " n"]:
        """How long each segment is; they sum to 1."""
        return self.borders.diff()

    def segment(self, time: float) -> int:
        """Return the segment of a time: the last that starts at it or before.

        Raises:
            BadInputError: a time outside 0 to 1.
        """
        if not 0 <= time <= 1:
            raise BadInputError(f"times lie within 0 and 1, got {time}")
        return bisect_right(self.starts, time) - 1

    def observe(self, time: float, gradient: float) -> None:
        """Add a frame's gradient: the summed lengths of the gradients of its Gaussians' places on the screen.

        A gradient that is not finite is left out, as the step is that it comes from.
        """
        if not math.isfinite(gradient):
            return
        at = self.segment(time)
        self.gradients[at] += gradient
        self.visits[at] += 1

    def mean_gradients(self) -> Float[Tensor, " n"]:
        """Return the mean over each segment's frames; 0 where none was seen."""
        return self.gradients / self.visits.clamp(min=1)

    def hot(self) -> list[int]:
        """Return the segments whose mean gradient stands out."""
        if len(self) == 1 or (len(self) < FEWEST_THAT_FIRE and self.settings.sigmas >= SIGMAS):
            return []  # whatever rounding makes of a limit that cannot be exceeded
        mean = self.mean_gradients()
        limit = mean.mean() + self.settings.sigmas * mean.std()
        return (mean > limit).nonzero()[:, 0].tolist()

    def adjust(self) -> list[int]:
        """Shorten hot segments at both ends, give the time to their neighbours, and start counting anew.

        Ends move in the order of the segments, each only if it stays inside its segment; 0 and 1 never move.

        Returns:
            The hot segments.
        """
        hot = self.hot()
        step = self.settings.step / len(self)
        for at in hot:
            if at > 0 and self.borders[at] + step < self.borders[at + 1]:
                self.borders[at] += step
            if at + 1 < len(self) and self.borders[at + 1] - step > self.borders[at]:
                self.borders[at + 1] -= step
        self.gradients.zero_()
        self.visits.zero_()
        return hot

    def advance(self, number: int) -> list[int] | None:
        """Adjust where it is due after so many steps; return the hot segments, or None where it is not."""
        return self.adjust() if self.settings.due(number) else None

    def state(self) -> dict[str, Tensor]:
        """Return borders and what was counted since the last adjustment."""
        return {"borders": self.borders, "gradients": self.gradients, "visits": self.visits}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state.

        Raises:
            BadInputError: it is of another number of segments.
        """
        if len(state["borders"]) != len(self.borders):
            raise BadInputError(f"the state has {len(state['borders']) - 1} segments, here are {len(self)}")
        self.borders, self.gradients, self.visits = (
            state[name].clone().to(torch.float64) for name in ("borders", "gradients", "visits")
        )


def largest_deviation(segments: int, busy: int = 1) -> float:
    """Return by how many standard deviations `busy` equal segments exceed the mean where all others are still.

    With 8 segments one or two can be hot (2.47 and 1.62 standard deviations) and three cannot (1.21): the rule finds
    short bursts. With four or fewer nothing ever exceeds 1.5.

    Raises:
        BadInputError: not between one and all but one busy segments.
    """
    if not 1 <= busy < segments:
        raise BadInputError(f"between 1 and {segments - 1} of {segments} segments can be busy, got {busy}")
    return math.sqrt((segments - 1) * (segments - busy) / (segments * busy))
