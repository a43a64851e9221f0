"""One entry from one paper: by a model where there is one, else of the paper's own sentences; never dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from papertrial.digest.collecting.clock import Clock
from papertrial.digest.collecting.filters import by_votes
from papertrial.digest.collecting.paper_text import PaperText
from papertrial.digest.records import Day, Entry, Paper
from papertrial.digest.summarising.abstractive import Written, write_summary
from papertrial.digest.summarising.extractive import NAME, extract_summary
from papertrial.digest.summarising.language import language_name
from papertrial.digest.summarising.prompts import Prompt, prompt_for
from papertrial.digest.summarising.seq2seq import Seq2SeqSummariser
from papertrial.errors import BadInputError
from papertrial.llm.chat import ChatModel, ChatModelError

Backend = ChatModel | Seq2SeqSummariser | None
"""Who writes: a chat model, a summarising model, or nobody: then the paper's own sentences are taken."""

EMPTY = "No text reached the summariser: abstract and full text are both empty."
_ORIGINS = {
    "hub": "the Hub's page",
    "arxiv html": "arXiv's HTML",
    "pdf": "the PDF",
    "abstract": "the abstract alone",
}


def summarise(
    paper: Paper | Entry,
    text: PaperText,
    backend: Backend = None,
    *,
    lang: str = "en",
    prompt: Prompt | None = None,
    absent: Sequence[str] = (),
    clock: Clock | None = None,
) -> Entry:
    """Return the entry of a paper, with a summary of its text.

    Without a backend the summary is made of the paper's own sentences, and its language is the paper's,
    whatever was asked for: the entry says so. Where a backend gives nothing usable the paper's own sentences
    are taken, and the entry says that. A paper without any text gets an entry without a summary.

    Args:
        paper: the paper, or its entry as it was collected, whose notes are kept.
        text: as `read_text` returns it.
        backend: who writes.
        lang: the language of the summary.
        prompt: instructions for a chat model; None: the usual ones for the language.
        absent: numbers that an earlier summary had and the paper has not; a chat model is told.
        clock: tells the time.

    Raises:
        BadInputError: an unknown language, a prompt for a backend that takes none, or a request to the model
            that cannot work for any paper (key, address, model's name).
    """
    language_name(lang)
    if prompt is not None and not isinstance(backend, ChatModel):
        raise BadInputError("a prompt needs a chat model; the paper's own sentences are taken without one")
    given = paper if isinstance(paper, Entry) else Entry(paper=paper)
    entry = replace(
        given,
        text=text.kind,
        created_at=(clock or Clock()).now(),
        notes=(*given.notes, *_origin_notes(text)),
        fields=(),
        style="sections",
    )
    if not text:
        return replace(entry, sections={}, evidence={}, text=None, notes=(*given.notes, EMPTY))
    if backend is None:
        return _extracted(entry, text, lang, None)
    try:
        if isinstance(backend, Seq2SeqSummariser):
            return _by_summariser(entry, text, backend, lang)
        chosen = prompt or prompt_for(lang)
        written = write_summary(entry.paper, text, backend, lang=lang, prompt=chosen, absent=absent)
        return _written(entry, written, backend, lang, chosen)
    except ChatModelError as problem:
        return _extracted(entry, text, lang, f"{backend.name} gave no usable summary ({problem})")


def summarise_day(
    day: Day,
    read: Callable[[Paper], PaperText],
    backend: Backend = None,
    *,
    lang: str = "en",
    prompt: Prompt | None = None,
    full_texts: int | None = None,
    clock: Clock | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Day:
    """Return a day with all its papers summarised, in their order; entries that have a summary stay as they are.

    Args:
        day: as `collect` returns it.
        read: fetches a paper's text, such as `read_text`.
        backend: who writes.
        lang: the language of the summaries.
        prompt: instructions for a chat model.
        full_texts: how many papers are read in full, those with the most votes first; the others are
            summarised from their abstracts, and say so. None: all.
        clock: tells the time.
        say: told in a line what is done.

    Raises:
        BadInputError: as `summarise`; also `full_texts` below 0.
    """
    if full_texts is not None and full_texts < 0:
        raise BadInputError(f"full_texts must be at least 0 papers, got {full_texts}")
    waiting = [entry for entry in day if not entry.sections and not entry.fields]
    in_full = {entry.paper.id for entry in by_votes(waiting)[:full_texts]}
    made: dict[str, Entry] = {}
    for number, entry in enumerate(waiting, start=1):
        paper = entry.paper
        say(f"{number}/{len(waiting)} {paper.id} {paper.title}")
        text = read(paper) if paper.id in in_full else PaperText.of_abstract(paper)
        made[paper.id] = summarise(entry, text, backend, lang=lang, prompt=prompt, clock=clock)
    return replace(day, entries=tuple(made.get(entry.paper.id, entry) for entry in day))


def _extracted(entry: Entry, text: PaperText, lang: str, instead_of: str | None) -> Entry:
    """Fill an entry with the paper's own sentences."""
    evidence = extract_summary(text)
    notes = [f"{instead_of}; these are the paper's own sentences."] if instead_of else []
    if lang != "en":
        notes.append(f"The sentences are the paper's own, not translated into {language_name(lang)}.")
    if not evidence:
        notes.append("The text has no sentence that could stand alone.")
    return replace(
        entry,
        lang="en",
        sections={role: " ".join(sentences) for role, sentences in evidence.items()},
        evidence=evidence,
        model=NAME,
        prompt=None,
        notes=(*entry.notes, *notes),
    )


def _written(entry: Entry, written: Written, model: ChatModel, lang: str, prompt: Prompt) -> Entry:
    return replace(
        entry,
        lang=lang,
        sections=written.sections,
        evidence=written.evidence,
        model=model.name,
        prompt=prompt.id(lang),
        notes=(*entry.notes, *written.notes),
    )


def _by_summariser(entry: Entry, text: PaperText, backend: Seq2SeqSummariser, lang: str) -> Entry:
    sections = backend.summarise(text)
    if not sections:
        return _extracted(entry, text, lang, f"{backend.name} wrote nothing")
    notes = [f"{backend.name} writes in the paper's language only."] if lang != "en" else []
    return replace(
        entry, lang="en", sections=sections, evidence={}, model=backend.name, notes=(*entry.notes, *notes)
    )


def _origin_notes(text: PaperText) -> tuple[str, ...]:
    """Return what a reader must know of the text: that it is the abstract alone, or was too long."""
    notes = []
    if text.source == "abstract" and text:
        notes.append("Only the abstract was read.")
    if text.left_out:
        notes.append(f"Left out of {_ORIGINS[text.source]}, which is too long: {', '.join(text.left_out)}.")
    return tuple(notes)
