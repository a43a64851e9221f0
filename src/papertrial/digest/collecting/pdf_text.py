"""Text out of a paper's PDF, through pypdf: sections by their headings, lines joined to paragraphs."""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from papertrial.digest.collecting.paper_text import Section, SectionBuilder, without_number
from papertrial.digest.collecting.plain import without_controls
from papertrial.digest.collecting.politeness import RemoteError

MOST_PAGES = 80
_NAMED = re.compile(
    r"(abstract|introduction|related works?|background|preliminaries|methods?|methodology|approach|experiments?"
    r"|experimental (setup|results)|results|evaluation|discussion|limitations|conclusions?|references|bibliography"
    r"|acknowledge?ments?|appendix)[:.]?",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,2})\.?\s+([A-Z][^.!?]{2,70})")
_LETTERED = re.compile(r"([A-Z](?:\.\d{1,2}){0,2})\.?\s+([A-Z][^.!?]{2,70})")
_NUMBER = re.compile(r"[-+−]?\d+(?:[.,]\d+)*%?|[-–—]")
_HYPHEN = re.compile(r"(?<=[a-z])-\s*$")


def pdf_sections(content: bytes) -> tuple[Section, ...]:
    """Return the sections of a paper's PDF: its first 80 pages.

    A line that looks like a heading ("3.1 Data", "Abstract") begins a section; words broken at a line's end
    are put together; lines of numbers, as tables have them, become rows, with the line above them that names
    the columns; page numbers and lines that stand on most pages go.

    Raises:
        RemoteError: it is no PDF, is encrypted, is broken, or holds no text (a scan).
    """
    pages = _pages(content)
    running = _running_lines(pages)
    builder = SectionBuilder()
    paragraph: list[str] = []
    rows: list[str] = []

    def finish() -> None:
        if rows:
            builder.rows(rows.copy())
        if paragraph:
            builder.paragraph(_joined(paragraph))
        rows.clear()
        paragraph.clear()

    for line in (line for page in pages for line in page):
        if line in running or re.fullmatch(r"\d{1,3}", line):
            continue
        if not line:
            finish()
        elif level := heading_level(line):
            finish()
            builder.heading(line, level)
        elif is_table_row(line):
            if not rows:
                columns = paragraph.pop() if paragraph and _names_columns(paragraph[-1], line) else None
                finish()
                rows += [columns] if columns else []
            rows.append(line)
        else:
            if rows:
                finish()
            paragraph.append(line)
            if line.endswith((".", "!", "?", ":")) and len(line) < 50:
                finish()  # a short last line ends a paragraph: PDFs have no other sign of it
    finish()
    return builder.sections()


def heading_level(line: str) -> int | None:
    """Return the level of a heading, or None for a line that is none."""
    if len(line) > 80 or line.endswith((".", ",", ";", "-")):
        return None
    match = _NUMBERED.fullmatch(line) or _LETTERED.fullmatch(line)
    if _NAMED.fullmatch(without_number(line)):
        return 1 + (match.group(1).count(".") if match else 0)
    if match is None or sum(one.isdigit() for one in match.group(2)) > 4 or len(match.group(2).split()) > 10:
        return None
    if match.group(1) in "AI" and not match.group(2).istitle():
        return None  # "A model that", "I think"
    return 1 + match.group(1).count(".")


def is_table_row(line: str) -> bool:
    """Return whether a line is a row of a table: at least three numbers, and half of its words."""
    words = line.split()
    numbers = sum(bool(_NUMBER.fullmatch(word)) for word in words)
    return numbers >= 3 and 2 * numbers >= len(words)


def _names_columns(line: str, row: str) -> bool:
    return not line.endswith((".", "!", "?", ",")) and len(line.split()) <= len(row.split()) + 2


def _pages(content: bytes) -> list[list[str]]:
    import pypdf

    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what is wrong with a stranger's PDF is said below, in one line
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise RemoteError("the PDF is encrypted")
        pages = [reader.pages[number].extract_text() for number in range(min(len(reader.pages), MOST_PAGES))]
    except RemoteError:
        raise
    except Exception as problem:  # a hostile file makes pypdf raise nearly anything
        said = " ".join(str(problem).split())[:120]
        raise RemoteError(f"the PDF cannot be read: {type(problem).__name__}: {said}") from problem
    finally:
        logger.setLevel(level)
    if not any(page.strip() for page in pages):
        raise RemoteError("the PDF holds no text: it is a scan")
    return [[" ".join(line.split()) for line in without_controls(page).split("\n")] for page in pages]


def _running_lines(pages: Sequence[Sequence[str]]) -> frozenset[str]:
    """Return the lines that stand on most pages: the running head, the publisher's line."""
    counts = Counter(line for page in pages for line in set(_edges(page)) if line)
    return frozenset(line for line, count in counts.items() if count >= 3 and count > len(pages) / 2)


def _edges(page: Sequence[str]) -> Iterator[str]:
    yield from page[:3]
    yield from page[-3:]


def _joined(lines: Sequence[str]) -> str:
    """Return lines as one, with words that were broken at a line's end put together."""
    text = ""
    for line in lines:
        if _HYPHEN.search(text) and line[:1].islower():
            text = _HYPHEN.sub("", text) + line
        else:
            text = f"{text} {line}"
    return text.strip()
