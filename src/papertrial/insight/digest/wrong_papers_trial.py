"""Wrong-paper detection on trial: a paper's own summary against another paper's of the same day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from papertrial.digest.grounding import TopicWeights
    from papertrial.insight.digest.statements import Source


@dataclass(frozen=True)
class WrongPapersTrial(Trial):
    """Hold every title of a day against its own summary and against another paper's, drawn by the seed.

    "overlap" counts the title's tokens of four characters or more alike; "weighted-overlap" weighs each by how rare
    it is in the day's titles and summaries. In Korean only the English terms in the text can match.

    Attributes:
        days: files or folders of real digest days; by default the cards of all rooms, in groups of twelve.
        others: how many other summaries are drawn for each title.
    """

    days: tuple[str, ...] = ()
    others: int = 3

    arms: ClassVar[tuple[str, ...]] = ("overlap", "weighted-overlap")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "auroc": Metric("area under the ROC curve, English", "higher"),
        "auroc_korean": Metric("area under the ROC curve, Korean", "higher"),
        "lowest_own": Metric("lowest overlap of an own summary", "higher", shown=False),
        "suspected": Metric("share of right entries called suspect", "lower", shown=False),
    }
    seeds: ClassVar[int] = 5

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        from papertrial.errors import BadInputError
        from papertrial.insight.digest.material_trial import day_files

        if self.others < 1:
            raise BadInputError(f"others must be at least 1, got {self.others}")
        day_files(self.days)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Return how well the overlap tells own summaries from others'."""
        from papertrial.insight.digest.material_trial import card_groups, day_groups

        groups = day_groups(self.days) if self.days else card_groups()
        own, others = self._overlaps(groups, arm, seed)
        watch.step(1, 2, own=len(own))
        korean = float("nan")
        if not self.days:
            korean = area_under_curve(*self._overlaps(card_groups("ko"), arm, seed))
        watch.step(2, 2, own=len(own))
        return {
            "auroc": area_under_curve(own, others),
            "auroc_korean": korean,
            "lowest_own": min(own),
            "suspected": _suspected(groups),
        }

    def scale(self) -> str:
        """Say which summaries."""
        whose = (
            f"real digest days ({', '.join(self.days)})"
            if self.days
            else "our summaries of the papers on trial"
        )
        return f"{whose}, each title against its own summary and {self.others} others of its day"

    @classmethod
    def quick(cls) -> WrongPapersTrial:
        """Return the trial with one other summary for each title."""
        return cls(others=1)

    def _overlaps(
        self, groups: Sequence[Sequence[Source]], arm: str, seed: int
    ) -> tuple[list[float], list[float]]:
        import random

        own, others = [], []
        for number, group in enumerate(groups):
            draw = random.Random(f"{seed} {number} others")
            weights = _weights(group) if arm == "weighted-overlap" else None
            for at, source in enumerate(group):
                rest = [other for n, other in enumerate(group) if n != at]
                own.append(_overlap(source, source, weights))
                drawn = draw.sample(rest, min(self.others, len(rest)))
                others += [_overlap(source, other, weights) for other in drawn]
        return own, others


def _weights(group: Sequence[Source]) -> TopicWeights:
    from papertrial.digest.grounding import TopicWeights

    return TopicWeights.of((source.title for source in group), (source.text for source in group))


def _overlap(source: Source, other: Source, weights: TopicWeights | None) -> float:
    from papertrial.digest.grounding import topic_overlap

    return topic_overlap(source.title, other.text, weights) or 0.0


def _suspected(groups: Sequence[Sequence[Source]]) -> float:
    from papertrial.digest.grounding import wrong_papers
    from papertrial.digest.records import Entry, Paper

    entries = [
        [
            Entry(Paper(id=f"2501.{at:05d}", title=source.title), sections={"headline": source.text})
            for at, source in enumerate(group)
        ]
        for group in groups
    ]
    return sum(len(wrong_papers(day)) for day in entries) / sum(map(len, entries))


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the chance that one of the positives is above one of the negatives, ties counted half."""
    from bisect import bisect_left, bisect_right

    ordered = sorted(negative)
    wins = sum((bisect_left(ordered, one) + bisect_right(ordered, one)) / 2 for one in positive)
    return wins / (len(positive) * len(negative))
