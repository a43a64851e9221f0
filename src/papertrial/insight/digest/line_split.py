"""The baseline of parsing: a digest's table split at line ends and pipes, as a quick script does it."""

from __future__ import annotations

import re

_ID = re.compile(r"https://arxiv\.org/abs/(\d{4}\.\d{4,5})")


def split_lines(text: str) -> list[tuple[str, str, str]]:
    """Return the arXiv id, the title and the summary of each line that splits into three cells at its pipes."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        found = _ID.search(line)
        if len(cells) == 3 and found is not None:
            title = re.split(r" \(Read more on | - read more on ", cells[0])[0]
            rows.append((found[1], title, cells[2]))
    return rows
