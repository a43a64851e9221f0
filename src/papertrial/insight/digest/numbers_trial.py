"""Grounding on trial: statements about papers, true in other words or made false, held to their text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    from papertrial.insight.digest.statements import Source, Statement

_TRUE_KINDS = ("told otherwise", "rounded", "respelled", "derived")
_RESPELLED = ("fraction", "percent in words", "separators", "thousands", "times in words")


@dataclass(frozen=True)
class NumbersTrial(Trial):
    """Make true and false statements about papers, and count which numbers each matcher lets through.

    True ones tell a number of the paper in another sentence, rounded, spelled otherwise (15 % as 0.15, 61,000 as 61K),
    or as the difference, ratio or change of two that stand in one sentence. False ones have it changed by 10 to 300 %
    or swapped with another paper's. Seeds draw other statements. The rules were written while looking at other
    seeds' statements from half of a public archive's days, and not changed for what is measured here.

    Attributes:
        days: files or folders of real digest days, whose summaries then are the papers; by default the papers
            are what the cards of all rooms say of theirs.
        filler: sentences with drawn numbers that are put between those of a card's paper, for chance to meet.
        papers: how many papers are taken; 0 means all.
    """

    days: tuple[str, ...] = ()
    filler: int = 30
    papers: int = 0

    arms: ClassVar[tuple[str, ...]] = ("exact-string", "normalised-string", "grounding")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "recall": Metric("share of false numbers, two digits or more", "higher"),
        "recall_all": Metric("share of all false numbers", "higher"),
        "false_alarms": Metric("share of true numbers", "lower"),
        **{
            f"false_alarms_{kind.replace(' ', '_')}": Metric(
                "share of these true numbers", "lower", shown=False
            )
            for kind in _TRUE_KINDS
        },
        "recall_changed": Metric("share of changed numbers, two digits or more", "higher", shown=False),
        "recall_swapped": Metric("share of swapped numbers, two digits or more", "higher", shown=False),
        "statements": Metric("statements", "higher", kind="exact", shown=False),
    }
    seeds: ClassVar[int] = 10

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        from papertrial.insight.digest.material_trial import day_files

        for name in ("filler", "papers"):
            if getattr(self, name) < 0:
                raise BadInputError(f"{name} must be 0 or more, got {getattr(self, name)}")
        day_files(self.days)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Judge every statement by one matcher."""
        flagged: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        groups = self._groups()
        for done, group in enumerate(groups, start=1):
            papers, statements = self._statements(group, seed, done)
            judge = _judge(arm, papers)
            for statement in statements:
                wrong = judge(statement)
                for key in _keys(statement):
                    asked[key] += 1
                    flagged[key] += wrong
            watch.step(done, len(groups), asked=sum(asked.values()))
        share = {key: flagged[key] / count for key, count in asked.items()}
        missing = float("nan")
        return {name: share.get(name, missing) for name in self.metrics if name != "statements"} | {
            "statements": float(asked["recall_all"] + asked["false_alarms"])
        }

    def scale(self) -> str:
        """Say what the papers are."""
        if self.days:
            return f"summaries of real digest days ({', '.join(self.days)}) as papers, a few statements for each number"
        return f"our summaries of the papers on trial as papers, each with {self.filler} sentences of drawn numbers"

    @classmethod
    def quick(cls) -> NumbersTrial:
        """Return the trial with eight papers."""
        return cls(papers=8, filler=10)

    def _groups(self) -> list[list[Source]]:
        from papertrial.insight.digest.material_trial import card_groups, day_groups

        groups = day_groups(self.days) if self.days else card_groups()
        if not self.papers:
            return groups
        kept: list[list[Source]] = []
        left = self.papers
        for group in groups:
            kept.append(group[:left])
            left -= len(kept[-1])
        return [group for group in kept if len(group) > 1]

    def _statements(
        self, group: list[Source], seed: int, number: int
    ) -> tuple[list[Source], list[Statement]]:
        import random

        from papertrial.insight.digest.statements import make_statements, with_filler

        draw = random.Random(f"{seed} {number} statements")
        papers, statements = make_statements(group, draw)
        if not self.days:
            papers = [with_filler(paper, draw, self.filler) for paper in papers]
        return papers, statements


def _keys(statement: Statement) -> list[str]:
    """Return the metrics that a statement counts for."""
    if statement.truthful:
        kind = "respelled" if statement.kind in _RESPELLED else statement.kind
        return ["false_alarms", f"false_alarms_{kind.replace(' ', '_')}"]
    keys = ["recall_all"]
    if statement.significant:
        keys.append("recall")
        if statement.kind in ("changed", "swapped"):
            keys.append(f"recall_{statement.kind}")
    return keys


def _judge(arm: str, papers: list[Source]) -> Callable[[Statement], bool]:
    """Return what says of a statement that its number is not the paper's."""
    if arm != "grounding":
        from papertrial.insight.digest.string_matching import StringMatcher

        matchers = [StringMatcher(paper.text, normalised=arm == "normalised-string") for paper in papers]
        return lambda statement: not matchers[statement.paper].has_number_at(statement.text, statement.start)

    from papertrial.digest.grounding import PaperIndex, ground

    indexes = [PaperIndex.of(paper.text, title=paper.title) for paper in papers]

    def flags(statement: Statement) -> bool:
        numbers = ground({"s": statement.text}, indexes[statement.paper], text="full text").numbers
        return any(
            one.word in ("absent", "context differs")
            for one in numbers
            if one.start <= statement.start < one.end
        )

    return flags
