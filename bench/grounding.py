"""Grounding one summary in a long paper, against a plain matcher that compares every number with every other.

Both must give the same verdicts; they run in turn, and the ratio is taken pair by pair. The plain matcher reads the
same extracted numbers and asks the same questions of context, so that only the search differs: it keeps no order, so
each of the summary's numbers looks at all of the paper's, and at every pair of one passage.

    python bench/grounding.py [--tokens 60000] [--rounds 15]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterator

from papertrial.digest.grounding.grounding import ground
from papertrial.digest.grounding.index import Derivation, PaperIndex, Place

_WORDS = """
attention gradient memory accuracy latency encoder decoder scene token reward policy sampling caption transformer
projection rank quantisation bitwidth loss dataset corpus segmentation tracking diffusion frame camera robot grasp
"""
_FILL = (
    "the model then uses a further part of it where this is needed and keeps the rest as it was before that"
)


class PlainIndex(PaperIndex):
    """The same index, searched by looking at everything."""

    def between(self, low: float, high: float) -> Iterator[Place]:
        """Look at every number of the paper."""
        return (place for place in self._places if low <= abs(place.number.value) <= high)

    def derived(self, kind: str, low: float, high: float) -> Iterator[Derivation]:
        """Look at every pair of every passage."""
        return (one for one in self._derived[kind] if low <= one.value <= high)


def make_paper(tokens: int, draw: random.Random) -> str:
    """Return a paper of so many words: prose with figures, and a table of ten rows for every 2,500 words."""
    words, fill = _WORDS.split(), _FILL.split()
    parts: list[str] = []
    count = 0
    while count < tokens:
        for _ in range(80):
            topic = draw.sample(words, 2)
            figures = f"{draw.uniform(1, 99):.1f}% against {draw.uniform(1, 99):.1f}%"
            text = f"On {topic[0]} the {topic[1]} reaches {figures} after {draw.randint(2, 900)} steps."
            parts.append(f"{text} And {' '.join(draw.choices(fill, k=14))}.")
            count += len(parts[-1].split())
        header = draw.sample(words, 6)
        rows = [
            "| " + " | ".join([draw.choice(words), *(f"{draw.uniform(1, 99):.2f}" for _ in header)]) + " |"
            for _ in range(10)
        ]
        table = [f"| Method | {' | '.join(header)} |", "|" + "---|" * 7, *rows]
        parts.append("\n\nTable: results.\n\n" + "\n".join(table) + "\n\n")
        count += 10 * 15
    return " ".join(parts)


def make_summary(paper: str, draw: random.Random) -> str:
    """Return a summary with thirty figures: some the paper's, some rounded, some of nobody."""
    words = _WORDS.split()
    told = []
    for _ in range(10):
        topic = draw.choice(words)
        told.append(
            f"The {topic} improves by {draw.uniform(1, 60):.1f}% and takes {draw.uniform(1, 99):.2f} points."
        )
        told.append(f"On {topic} it reaches {draw.randint(1, 99)}% of accuracy.")
    return " ".join(told)


def main() -> None:
    """Time both, in turn, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    draw = random.Random(0)
    paper = make_paper(options.tokens, draw)
    summary = {"results": make_summary(paper, draw)}
    indexing = []
    for _ in range(3):
        start = time.perf_counter()
        index = PaperIndex.of(paper)
        indexing.append(time.perf_counter() - start)
    plain = PlainIndex.of(paper)
    seconds: dict[str, list[float]] = {"sorted": [], "plain": []}
    for _ in range(options.rounds):
        for name, one in (("sorted", index), ("plain", plain)):
            start = time.perf_counter()
            grounding = ground(summary, one, text="full text")
            seconds[name].append(time.perf_counter() - start)
            if name == "sorted":
                expected = grounding
            elif grounding != expected:
                raise SystemExit("the two matchers disagree")
    ratios = [plain / ours for ours, plain in zip(seconds["sorted"], seconds["plain"], strict=True)]
    pairs = sum(1 for _ in plain.derived("ratio", 0, float("inf")))
    print(f"paper: {len(paper.split()):,} words, {len(index):,} numbers, {pairs:,} derived values of a kind;")
    print(f"summary: {len(expected.numbers)} numbers; median of {options.rounds} interleaved rounds\n")
    print("| what | ms |")
    print("|---|---|")
    print(f"| indexing once | {1e3 * statistics.median(indexing):.0f} |")
    print(f"| grounding, sorted and bisected | {1e3 * statistics.median(seconds['sorted']):.1f} |")
    print(f"| grounding, every number with every other | {1e3 * statistics.median(seconds['plain']):.1f} |")
    print(f"| ratio, pair by pair | {statistics.median(ratios):.1f}x |")


if __name__ == "__main__":
    main()
