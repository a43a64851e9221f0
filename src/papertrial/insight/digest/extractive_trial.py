"""The extractive summary on trial: which share of its numbers its paper bears out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from papertrial.errors import BadInputError
from papertrial.trial.contract import Metric, Trial, Watch

if TYPE_CHECKING:
    import random

    from papertrial.insight.digest.statements import Source


@dataclass(frozen=True)
class ExtractiveTrial(Trial):
    """Summarise papers without a model, and look every number of the summaries up in their papers.

    "slipping-copy" takes the same sentences and changes one number in ten by 10 to 300 %: it shows that the measure
    can fall. "lead" takes the first five sentences; "extractive" is the digest's default.

    Attributes:
        days: files or folders of real digest days, whose summaries then are the papers; by default the cards'.
        papers: how many papers are taken; 0 means all.
        slips: share of numbers that the slipping copy changes.
    """

    days: tuple[str, ...] = ()
    papers: int = 0
    slips: float = 0.1

    arms: ClassVar[tuple[str, ...]] = ("slipping-copy", "lead", "extractive")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "grounded_fraction": Metric("share of numbers that the paper bears out", "higher"),
        "ungrounded": Metric("numbers that the paper does not bear out", "lower", kind="exact"),
        "numbers": Metric("numbers in a summary", "higher", shown=False),
    }
    seeds: ClassVar[int] = 5

    def check(self) -> None:
        """Raise `BadInputError` for settings that cannot work."""
        from papertrial.insight.digest.material_trial import day_files

        if self.papers < 0:
            raise BadInputError(f"papers must be 0 or more, got {self.papers}")
        if not 0 <= self.slips <= 1:
            raise BadInputError(f"slips must lie between 0 and 1, got {self.slips}")
        day_files(self.days)

    def measure(self, arm: str, seed: int, watch: Watch) -> dict[str, float]:
        """Summarise every paper by one arm, and ground the summary."""
        import random

        from papertrial.digest.grounding import PaperIndex, ground

        words: list[str] = []
        sources = self._sources()
        for done, source in enumerate(sources, start=1):
            summary = _summary(arm, source.text, random.Random(f"{seed} {done} slips"), self.slips)
            index = PaperIndex.of(source.text, title=source.title)
            words += [one.word for one in ground({"all": " ".join(summary)}, index, text="full text").numbers]
            watch.step(done, len(sources), numbers=len(words))
        grounded = sum(word in ("exact", "rounded", "derived") for word in words)
        return {
            "grounded_fraction": grounded / len(words) if words else float("nan"),
            "ungrounded": float(len(words) - grounded),
            "numbers": len(words) / len(sources),
        }

    def scale(self) -> str:
        """Say what the papers are."""
        if self.days:
            return f"summaries of real digest days ({', '.join(self.days)}) as papers"
        return "our summaries of the papers on trial as papers"

    @classmethod
    def quick(cls) -> ExtractiveTrial:
        """Return the trial with eight papers."""
        return cls(papers=8)

    def _sources(self) -> list[Source]:
        from papertrial.insight.digest.material_trial import card_sources, day_groups

        sources = [one for group in day_groups(self.days) for one in group] if self.days else card_sources()
        return sources[: self.papers or None]


def _summary(arm: str, text: str, draw: random.Random, slips: float) -> list[str]:
    """Return the sentences that an arm makes of a paper's text."""
    from papertrial.digest.sentences import split_sentences

    if arm == "lead":
        return [sentence.text for sentence in split_sentences(text)[:5]]
    from papertrial.digest.collecting.paper_text import PaperText, Section
    from papertrial.digest.summarising.extractive import extract_summary

    paper = PaperText("arxiv html", (Section("", "introduction", (text,)),))
    chosen = [sentence for role in extract_summary(paper).values() for sentence in role]
    return chosen if arm == "extractive" else _with_slips(chosen, draw, slips)


def _with_slips(sentences: Sequence[str], draw: random.Random, slips: float) -> list[str]:
    """Return the sentences with a share of their numbers changed."""
    from papertrial.digest.grounding import extract_numbers
    from papertrial.insight.digest.statements import changed

    slipped = []
    for sentence in sentences:
        for number in reversed(extract_numbers(sentence)):
            written = changed(number, draw) if draw.random() < slips else None
            if written is not None:
                sentence = f"{sentence[: number.start]}{written}{sentence[number.end :]}"
        slipped.append(sentence)
    return slipped
