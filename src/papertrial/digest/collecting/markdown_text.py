"""Text out of the Markdown page that the Hub has of a paper."""

from __future__ import annotations

import re

from papertrial.digest.collecting.html_text import html_as_text
from papertrial.digest.collecting.math_text import without_dollars
from papertrial.digest.collecting.paper_text import Section, SectionBuilder
from papertrial.digest.collecting.plain import without_controls

_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")
_RULE = re.compile(r"^\s*\|?(?:\s*:?-{2,}:?\s*\|)+\s*:?-*:?\s*\|?\s*$")
_PICTURE = re.compile(r"!\[[^\]\n]{0,500}\]\([^)\n]{0,2000}\)")
_LINK = re.compile(r"\[([^\]\n]{1,500})\]\([^)\n]{0,2000}\)")
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)(.{1,500}?)(?<=\S)\1")
_TAG = re.compile(r"<[a-zA-Z/!]")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def markdown_sections(markdown: str) -> tuple[Section, ...]:
    """Return the sections of a paper in Markdown.

    Pictures and code are left out, links become their text, formulas plain text, and a table's row one line,
    "a | b | c".
    """
    builder = SectionBuilder()
    lines: list[str] = []
    rows: list[str] = []
    fenced = False

    def finish() -> None:
        if rows:
            builder.rows(rows.copy())
        elif lines:
            builder.paragraph(_plain(" ".join(lines)))
        rows.clear()
        lines.clear()

    for line in _FRONT_MATTER.sub("", without_controls(markdown)).split("\n"):
        if _FENCE.match(line):
            finish()
            fenced = not fenced
        elif fenced:
            continue
        elif heading := _HEADING.match(line):
            finish()
            builder.heading(_plain(heading.group(2)), len(heading.group(1)))
        elif line.lstrip().startswith("|"):
            if lines:
                finish()
            if not _RULE.match(line):
                rows.append(_row(line))
        elif line.strip():
            if rows or re.match(r"\s*(?:[-*+]|\d{1,3}[.)])\s", line):
                finish()
            lines.append(re.sub(r"^\s*(?:[-*+]|>)\s+", "", line).strip())
        else:
            finish()
    finish()
    return builder.sections()


def _row(line: str) -> str:
    cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    return " | ".join(_plain(cell.replace("\\|", "/")) for cell in cells)


def _plain(text: str) -> str:
    text = _LINK.sub(r"\1", _PICTURE.sub(" ", text))
    if _TAG.search(text):
        text = html_as_text(text)
    return " ".join(without_dollars(_EMPHASIS.sub(r"\2", text)).split())
