"""Reading 300 days of the English digest, and writing a day of forty papers to every format.

    python bench/digest.py            # made-up days; Markdown
    python bench/digest.py FOLDER     # the days of a folder (*.md), repeated until there are 300

No peer reads these formats; beside the reader stands the line-based split that everybody writes, with the rows it
finds.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from papertrial.digest.entries_format import render_entries
from papertrial.digest.feeds import atom, rss
from papertrial.digest.html_format import render_html
from papertrial.digest.json_format import render_json, render_jsonl
from papertrial.digest.records import Day, Entry, Paper
from papertrial.digest.table_format import parse_table, render_table

_DAYS, _ROUNDS = 300, 5


def main() -> None:
    """Time both, and print the table."""
    texts = _real(Path(sys.argv[1])) if len(sys.argv) > 1 else _made()
    size = sum(len(text.encode()) for text in texts)
    links = sum(text.count("](https://arxiv.org/abs/") for text in texts)
    print(f"{len(texts)} days, {size / 1e6:.1f} MB, {links} rows; the median of {_ROUNDS} rounds, in turn\n")
    print("| what | seconds | rows found |")
    print("|---|---|---|")
    readers = {
        "this reader": lambda: sum(len(parse_table(text).entries) for text in texts),
        "lines split at pipes": lambda: sum(map(_split, texts)),
    }
    for name, (seconds, found) in _in_turn(readers).items():
        print(f"| {name} | {seconds:.3f} | {found} |")
    entries = [entry for text in texts[:40] for entry in parse_table(text)][:40]
    day = Day(date(2025, 1, 2), tuple(map(_plain, entries)), "bench")
    writers = {
        "table": lambda: render_table(day),
        "entries": lambda: render_entries(day),
        "html": lambda: render_html([day]),
        "json": lambda: render_json([day]),
        "jsonl": lambda: render_jsonl([day]),
        "rss": lambda: rss([day]),
        "atom": lambda: atom([day]),
    }
    print(f"\n| a day of {len(day.entries)} papers as | seconds | kB |")
    print("|---|---|---|")
    times = _in_turn(writers)
    for name, (seconds, text) in times.items():
        print(f"| {name} | {seconds:.4f} | {len(text.encode()) / 1e3:.0f} |")
    print(f"| all of them | {sum(seconds for seconds, _ in times.values()):.4f} | |")


def _in_turn(contestants: dict[str, Callable[[], object]]) -> dict[str, tuple[float, object]]:
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    results: dict[str, object] = {}
    for _ in range(_ROUNDS):
        for name, run in contestants.items():
            start = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - start)
    return {name: (statistics.median(found), results[name]) for name, found in seconds.items()}


def _split(text: str) -> int:
    return sum(len(line.split("|")) == 5 for line in text.splitlines() if "](https://arxiv.org/abs/" in line)


def _real(folder: Path) -> list[str]:
    texts = [file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.md"))]
    return [texts[at % len(texts)] for at in range(_DAYS)]


def _made() -> list[str]:
    first = date(2024, 9, 10)
    return [render_table(_day(first + timedelta(days=at), at), legacy=True) for at in range(_DAYS)]


def _day(when: date, seed: int) -> Day:
    entries = []
    for at in range(16):
        title = f"A method of day {seed} and number {at} that trains on pictures"
        broken = title.replace(" and ", "\n  and ") if at % 3 == 0 else None
        paper = Paper(f"25{seed % 12 + 1:02}.{at:05}", title, raw_title=broken, authors=("Ann Ado", "Bo Bu"))
        summary = f"It maximises I(x | y) and gains {at}.5 % over {seed} baselines. " * 12
        entries.append(Entry(paper, sections={"headline": summary}))
    return Day(when, tuple(entries), "made")


def _plain(entry: Entry) -> Entry:
    return replace(entry, fields=(), sections=entry.sections or {"headline": entry.summary}, layout={})


if __name__ == "__main__":
    main()
