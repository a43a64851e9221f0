"""Text out of HTML that nobody vouches for: sections, paragraphs, and tables a row a line."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from papertrial.digest.collecting.math_text import math_as_text
from papertrial.digest.collecting.paper_text import Section, SectionBuilder
from papertrial.digest.collecting.plain import without_controls


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SKIPPED_TAGS = _words(
    "script style noscript template svg nav footer header form button select iframe object embed head"
)
_SKIPPED_CLASSES = _words(
    """ltx_authors ltx_bibliography ltx_TOC ltx_note ltx_page_footer ltx_page_header ltx_ERROR ltx_dates
    ltx_tag_equation ltx_tag_equationgroup"""
)
_VOID = _words("area base br col embed hr img input link meta source track wbr")
_BLOCKS = _words(
    """p div section article li ul ol dl dt dd blockquote figure figcaption table caption pre main aside
    h1 h2 h3 h4 h5 h6 address hr"""
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_TOP_LEVEL = 2  # the level of arXiv's sections; its abstract is a small heading of the same standing
_TAG = re.compile(r"<([^<>]*)>?")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_DEEPEST = 2000  # open elements: more is an attack or a ruin


def html_sections(html: str) -> tuple[Section, ...]:
    """Return the sections of a paper's HTML page.

    Scripts, menus, author lists, footnotes, equation numbers and the bibliography are left out. A page with an
    `<article>` is read inside it only. A table's row is one line, "a | b | c"; a table inside a cell is that
    cell's text; the caption stands before the rows. A formula is read from its TeX.
    """
    return _read(html, within="article" if re.search(r"<article[\s>]", html, re.IGNORECASE) else None)


def html_as_text(html: str) -> str:
    """Return the text of a piece of HTML on one line."""
    return " ".join(
        part
        for section in _read(html, within=None)
        for part in (section.heading, *section.paragraphs, *section.rows)
        if part
    )


def _read(html: str, within: str | None) -> tuple[Section, ...]:
    reader = _Reader(within)
    reader.feed(_TAG.sub(_whole_tag, _without_comments(without_controls(html))))
    reader.close()
    return reader.finished()


def _whole_tag(found: re.Match[str]) -> str:
    """Return a tag as it is, what only looks like one as text, and one with an open quote as nothing.

    The parser's time for tags and quotes that never end grows with the square, too.
    """
    if not found.group(0).endswith(">"):
        return f"&lt;{found.group(1)}"
    return "" if re.search("[\"']", _QUOTED.sub("", found.group(1))) else found.group(0)


def _without_comments(html: str) -> str:
    """Take out comments and declarations: the parser's time for ones that never end grows with the square."""
    kept, position = [], 0
    while (start := html.find("<!", position)) >= 0:
        kept.append(html[position:start])
        end = "-->" if html.startswith("<!--", start) else ">"
        found = html.find(end, start)
        if found < 0:
            return "".join(kept)
        position = found + len(end)
    return "".join([*kept, html[position:]])


class _Table:
    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.caption = ""


class _Reader(HTMLParser):
    """Reads one page; `finished` gives what it read."""

    def __init__(self, within: str | None) -> None:
        super().__init__(convert_charrefs=True)
        self._builder = SectionBuilder()
        self._within = within
        self._inside = 0 if within else 1
        self._open: list[tuple[str, str]] = []  # tag and what it is here: skip, cell, row, table, heading, …
        self._skipping = 0
        self._words: list[str] = []
        self._tables: list[_Table] = []
        self._figure: _Table | None = None  # captions wait here for the table of their figure

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "math" and self._reads():
            self._words.append(f" {math_as_text(given.get('alttext', ''))} ")
        if tag in _VOID or len(self._open) >= _DEEPEST:
            if tag in ("br", "hr"):
                self._words.append(" ")
            return
        role = self._role(tag, frozenset(given.get("class", "").split()))
        self._end_implied(tag, role)
        self._open.append((tag, role))
        if tag == self._within:
            self._inside += 1
        if role == "skip":
            self._skipping += 1
        elif self._reads():
            self._begin(role)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not any(opened == tag for opened, _ in reversed(self._open)):
            return
        while self._open:
            opened, role = self._open.pop()
            if role == "skip":
                self._skipping -= 1
            elif self._reads():
                self._end(role)
            if opened == self._within:
                self._inside -= 1
            if opened == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._reads():
            self._words.append(data)

    def finished(self) -> tuple[Section, ...]:
        """Return the sections, closing what the page left open."""
        while self._open:
            self.handle_endtag(self._open[-1][0])
        self._flush()
        return self._builder.sections()

    def _reads(self) -> bool:
        return self._inside > 0 and self._skipping == 0

    def _role(self, tag: str, classes: frozenset[str]) -> str:
        """Return what an element is: LaTeXML writes tables as spans too, and equations as tables."""
        if tag in _SKIPPED_TAGS or classes & _SKIPPED_CLASSES or tag == "math":
            return "skip"
        if tag in _HEADINGS:
            top = "ltx_title_abstract" in classes or "ltx_title_section" in classes
            return f"heading {_TOP_LEVEL if top else _HEADINGS[tag]}"
        equation = any(name.startswith(("ltx_eqn", "ltx_equation")) for name in classes)
        if (tag == "table" or "ltx_tabular" in classes) and not equation:
            return "table"
        if self._tables and (tag == "tr" or "ltx_tr" in classes):
            return "row"
        if self._tables and (tag in ("td", "th") or "ltx_td" in classes or "ltx_th" in classes):
            return "cell"
        if tag in ("figcaption", "caption") or "ltx_caption" in classes:
            return "caption"
        if tag == "figure":
            return "figure"
        return "block" if tag in _BLOCKS else "inline"

    def _end_implied(self, tag: str, role: str) -> None:
        """End what HTML lets a page leave open: a cell before the next one, a paragraph before a block."""
        ended = {"cell": ("cell",), "row": ("cell", "row")}.get(role, ())
        while self._open:
            opened, its_role = self._open[-1]
            if its_role not in ended and not (
                opened in ("p", tag) and opened in ("p", "li") and tag in _BLOCKS
            ):
                return
            self.handle_endtag(opened)

    def _begin(self, role: str) -> None:
        if role == "inline":
            return
        if self._tables and role != "table":
            if role == "row" and len(self._tables) == 1:
                self._words.clear()
                self._tables[0].rows.append([])
            elif role in ("cell", "row", "block"):
                self._words.append(" ")
            if role == "cell" and len(self._tables) == 1:
                self._words.clear()
            return
        if role == "table":
            if self._tables:
                self._words.append(" ")
            else:
                self._flush()
            self._tables.append(_Table())
            return
        self._flush()
        if role == "figure":
            self._figure = _Table()

    def _end(self, role: str) -> None:
        if role == "inline":
            return
        if role == "cell" and len(self._tables) == 1:
            table = self._tables[0]
            if not table.rows:
                table.rows.append([])
            table.rows[-1].append(self._taken())
        elif role == "table" and self._tables:
            table = self._tables.pop()
            if not self._tables:
                self._put(table)
        elif role == "caption" and (self._tables or self._figure is not None):
            holder = self._tables[0] if self._tables else self._figure
            if holder is not None:
                holder.caption = self._taken()
        elif self._tables:
            self._words.append(" ")
        elif role.startswith("heading"):
            self._builder.heading(self._taken(), int(role.partition(" ")[2]))
        else:
            self._flush()
            if role == "figure":
                self._put_figure()

    def _put(self, table: _Table) -> None:
        """Keep a finished table: in its figure until the caption is known, else at once."""
        self._words.clear()
        if self._figure is not None:
            self._figure.rows += table.rows
            self._figure.caption = self._figure.caption or table.caption
        else:
            self._builder.rows(_lines(table))

    def _put_figure(self) -> None:
        figure, self._figure = self._figure, None
        if figure is None:
            return
        if figure.rows:
            self._builder.rows(_lines(figure))
        else:
            self._builder.paragraph(figure.caption)

    def _taken(self) -> str:
        said = " ".join("".join(self._words).split())
        self._words.clear()
        return said

    def _flush(self) -> None:
        said = self._taken()
        if said:
            self._builder.paragraph(said)


def _lines(table: _Table) -> list[str]:
    rows = [" | ".join(cell.replace("|", "/") for cell in row) for row in table.rows if any(row)]
    return [table.caption, *rows] if table.caption and rows else rows
