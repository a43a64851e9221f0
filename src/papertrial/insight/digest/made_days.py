"""Days of the English digest made with the irregularities of the real ones, written by the grammar itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from papertrial.insight.digest.statements import Source


@dataclass(frozen=True)
class MadeRow:
    """What a row really is: arXiv id, title on one line, summary as the cell has it, whether the title is broken."""

    arxiv: str
    title: str
    summary: str
    broken: bool


_HEADER = "| Title | Authors | Summary |\n|-------|---------|---------|\n"


def make_day(
    sources: Sequence[Source], draw: random.Random, date: str = "2025-03-11"
) -> tuple[str, list[MadeRow]]:
    """Return the file of a day and its rows.

    A title of four words or more breaks over lines in every third row, a summary holds a pipe in every twentieth
    and two spaces at its end in every second, and the authors are missing in every tenth: about as often as in the
    public archive, pipes more often.
    """
    rows, lines = [], []
    for number, source in enumerate(sources):
        arxiv = f"2503.{10_000 + number}"
        words = source.title.replace("|", "").split()
        title = " ".join(words)
        if len(words) >= 4 and draw.random() < 1 / 3:
            at = draw.randrange(2, len(words))
            title = f"{' '.join(words[:at])}\n  {' '.join(words[at:])}"
        summary = source.text.replace("|", "").replace("\n", " ")
        if draw.random() < 1 / 20:
            summary += " The measure is I(Output; Past | Input)."
        if draw.random() < 1 / 2:
            summary += " "
        authors = "" if draw.random() < 1 / 10 else "Ada Example, Kim Example"
        links = (
            f"[arXiv](https://arxiv.org/abs/{arxiv}) or [HuggingFace](https://huggingface.co/papers/{arxiv})"
        )
        lines.append(f"| {title} (Read more on {links})| {authors} | {summary} |\n")
        rows.append(MadeRow(arxiv, " ".join(words), summary, "\n" in title))
    return f"\n\n## Papers for {date}\n\n{_HEADER}{''.join(lines)}", rows
