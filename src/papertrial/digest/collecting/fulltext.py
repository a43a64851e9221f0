"""The text of one paper: the Hub's page, else arXiv's HTML, else the PDF, else the abstract."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from papertrial.digest.collecting.clock import Clock
from papertrial.digest.collecting.html_text import html_sections
from papertrial.digest.collecting.markdown_text import markdown_sections
from papertrial.digest.collecting.paper_text import (
    MOST_CHARACTERS,
    Origin,
    PaperText,
    Section,
    kept_within,
)
from papertrial.digest.collecting.pdf_text import pdf_sections
from papertrial.digest.collecting.politeness import Answer, RemoteError, ThrottledError
from papertrial.digest.collecting.web import Web
from papertrial.digest.json_format import decode, encode
from papertrial.digest.records import ARXIV_ID, Paper
from papertrial.errors import BadInputError
from papertrial.home import home
from papertrial.trial.files import write_atomically

SCHEMA = "papertrial.text/1"
_LEAST_BEYOND_ABSTRACT = 2000  # characters; a page with less is a page about the paper, not the paper
_MOST_HTML = 20_000_000
_BODY = ("introduction", "method", "results", "conclusion")


def read_text(
    paper: Paper,
    *,
    web: Web | None = None,
    clock: Clock | None = None,
    offline: bool = False,
    refresh: bool = False,
    most: int = MOST_CHARACTERS,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> PaperText:
    """Return the text of a paper, from the first of four sources that has it; which one is recorded.

    A full text is kept in `<home>/digest/texts/<id>.json` and not fetched again. The abstract alone is not
    kept: a full text may appear later. What each source lacked stands in `notes`.

    Args:
        paper: with its abstract where that is known.
        web: the remote sources; None: the public ones, or those that the environment names.
        clock: tells the time; None: the machine's.
        offline: takes only what was fetched before, else the abstract.
        refresh: fetches anew.
        most: characters that are kept, by whole sections (see `kept_within`).
        folder: where texts are kept; None: `<home>/digest/texts`.
        say: told in a line what is being asked.

    Raises:
        BadInputError: the paper's id is no arXiv id, `most` is below 1,000, or a kept file is broken.
    """
    if not ARXIV_ID.fullmatch(paper.id):
        raise BadInputError(f"an arXiv id is written like 2505.03335, got {paper.id!r}")
    if most < 1000:
        raise BadInputError(f"most must be at least 1000 characters, got {most}")
    path = (folder or home() / "digest" / "texts") / f"{paper.id}.json"
    if path.is_file() and not refresh:
        return kept_within(_load(path), most)
    if offline:
        return kept_within(PaperText.of_abstract(paper, ("No full text was fetched before.",)), most)
    owned = web is None
    web = web if web is not None else Web(clock=clock)
    try:
        text = _first_full_text(paper, web, say)
    finally:
        if owned:
            web.close()
    if text.source != "abstract":
        _save(path, text)
    return kept_within(text, most)


def is_full_text(sections: tuple[Section, ...], abstract: str | None) -> bool:
    """Return whether these sections are a paper, and not a page about one.

    At least two sections of the body, and 2,000 characters beyond the abstract.
    """
    body = [one for one in sections if one.kind in _BODY and (one.paragraphs or one.rows)]
    length = sum(len(one.text) for one in sections if one.kind not in ("abstract", "references"))
    return len(body) >= 2 and length >= _LEAST_BEYOND_ABSTRACT + len(abstract or "") // 2


def _first_full_text(paper: Paper, web: Web, say: Callable[[str], None]) -> PaperText:
    notes: list[str] = []
    for source, named, read in _SOURCES:
        say(f"asking {named} for {paper.id}")
        try:
            sections = read(paper, web)
        except ThrottledError as problem:
            notes.append(f"{named}: {problem}.")
            if source == "arxiv html":
                break  # the PDF lies on the same host
            continue
        except RemoteError as problem:
            notes.append(f"{named}: {problem}.")
            continue
        if is_full_text(sections, paper.abstract):
            return _with_abstract(PaperText(source, sections, notes=tuple(notes)), paper)
        notes.append(f"{named}: no full text there.")
    return PaperText.of_abstract(paper, tuple(notes))


def _from_hub(paper: Paper, web: Web) -> tuple[Section, ...]:
    """What `HfApi.read_paper` returns, asked for through the same session, with a limit to its size."""
    answer = _checked(web.hub(f"/papers/{paper.id}.md", page=True))
    text = answer.text()
    if answer.kind == "text/html" or text.lstrip()[:9].lower().startswith(("<!doctype", "<html")):
        raise RemoteError("a web page instead of Markdown: a login or a captcha")
    return markdown_sections(text)


def _from_html(paper: Paper, web: Web) -> tuple[Section, ...]:
    answer = _checked(web.arxiv(f"{web.remotes.arxiv}/html/{_versioned(paper)}"))
    if len(answer.body) > _MOST_HTML:
        raise RemoteError(f"the page has {len(answer.body):,} bytes; not read")
    return html_sections(answer.text())


def _from_pdf(paper: Paper, web: Web) -> tuple[Section, ...]:
    answer = _checked(web.arxiv(f"{web.remotes.arxiv}/pdf/{_versioned(paper)}"))
    if not answer.body.startswith(b"%PDF"):
        raise RemoteError(f"no PDF, but {answer.kind or 'something without a type'}")
    return pdf_sections(answer.body)


_SOURCES: tuple[tuple[Origin, str, Callable[[Paper, Web], tuple[Section, ...]]], ...] = (
    ("hub", "the Hub", _from_hub),
    ("arxiv html", "arXiv's HTML", _from_html),
    ("pdf", "arXiv's PDF", _from_pdf),
)


def _checked(answer: Answer) -> Answer:
    if answer.status != 200:
        raise RemoteError("there is none (404)" if answer.status == 404 else f"status {answer.status}")
    return answer


def _versioned(paper: Paper) -> str:
    return paper.id if paper.version is None else f"{paper.id}v{paper.version}"


def _with_abstract(text: PaperText, paper: Paper) -> PaperText:
    """Put the abstract first where the text has none under that name."""
    if text.of_kind("abstract"):
        return text
    return replace(text, sections=(*PaperText.of_abstract(paper).sections, *text.sections))


def _save(path: Path, text: PaperText) -> None:
    content = json.dumps({"schema": SCHEMA, "text": encode(text)}, ensure_ascii=False, indent=1)
    try:
        write_atomically(path, content.encode())
    except OSError as problem:
        raise BadInputError(f"cannot write {path}: {problem.strerror or problem}") from problem


def _load(path: Path) -> PaperText:
    try:
        kept = json.loads(path.read_bytes())
        if not isinstance(kept, dict) or kept.get("schema") != SCHEMA:
            raise BadInputError(f"it is not of schema {SCHEMA!r}")
        text: PaperText = decode(PaperText, kept.get("text"), "the text")
    except (OSError, ValueError) as problem:  # BadInputError is a ValueError
        raise BadInputError(f"the kept text {path} is broken ({problem}); remove it") from problem
    return text
