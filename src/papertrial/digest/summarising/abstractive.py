"""A summary by a chat model: asked for as JSON, checked, and refused rather than taken on trust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from papertrial.digest.collecting.paper_text import PaperText, kept_within
from papertrial.digest.records import Paper
from papertrial.digest.summarising.language import language_name, language_problem
from papertrial.digest.summarising.prompts import Prompt, checked_evidence, plain_sections
from papertrial.llm.asking import complete_json
from papertrial.llm.chat import ChatModel, InvalidAnswerError, Message, TooLongError

_LEAST_SHOWN = 1000  # characters: a model that cannot read even these cannot summarise


@dataclass(frozen=True)
class Written:
    """What a model wrote.

    Attributes:
        sections: by role or part, in order.
        evidence: for each section the paper's sentences that hold its numbers.
        notes: what a reader must be told of how it came about.
    """

    sections: dict[str, str]
    evidence: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


def write_summary(
    paper: Paper,
    text: PaperText,
    model: ChatModel,
    *,
    lang: str,
    prompt: Prompt,
    absent: Sequence[str] = (),
) -> Written:
    """Return a model's summary of a paper.

    An answer that does not fit the schema is repaired once; one in another language is asked for once more.
    Evidence that the paper does not have is left out and counted in a note. A text that does not fit into the
    model's context is halved, by whole sections, until it does, and a note says so.

    Args:
        paper: the paper.
        text: what is known of it.
        model: who writes.
        lang: the language to write in.
        prompt: the instructions.
        absent: numbers of an earlier summary that the paper does not have; the model is told so.

    Raises:
        InvalidAnswerError: the answer stays unusable: no JSON, or in another language.
        ChatModelError: the model gave no answer.
        BadInputError: no request can work (key, address, the model's name, language).
    """
    shown = text
    while True:
        try:
            written = _write(paper, shown, model, lang, prompt, absent)
        except TooLongError:
            shorter = kept_within(shown, len(shown.text) // 2)
            if len(shown.text) < _LEAST_SHOWN or not shorter:
                raise
            shown = shorter
        else:
            break
    if shown is not text:
        note = f"{model.name} was shown {len(shown.text):,} of {len(text.text):,} characters: its context is too short."
        written = replace(written, notes=(note, *written.notes))
    return written


def _write(
    paper: Paper, text: PaperText, model: ChatModel, lang: str, prompt: Prompt, absent: Sequence[str]
) -> Written:
    messages: list[Message] = [*prompt.messages(paper, text, lang)]
    if absent:
        messages.append({"role": "user", "content": _complaint_about(absent)})
    answer = complete_json(model, messages, prompt.schema())
    sections = plain_sections(answer, prompt)
    problem = language_problem(" ".join(sections.values()), lang)
    notes: tuple[str, ...] = ()
    if problem is not None:
        answer = complete_json(model, _asked_again(messages, problem, lang), prompt.schema())
        sections = plain_sections(answer, prompt)
        still = language_problem(" ".join(sections.values()), lang)
        if still is not None:
            raise InvalidAnswerError(
                f"asked for {language_name(lang)} twice, {model.name} wrote something else: {still}"
            )
        notes = (f"The first answer was not in {language_name(lang)} and was asked for again.",)
    if not sections:
        raise InvalidAnswerError(f"{model.name} left every section empty")
    return _written(answer, sections, text, notes)


def _written(answer: Any, sections: dict[str, str], text: PaperText, notes: tuple[str, ...]) -> Written:
    items = answer.get("evidence", [])
    evidence, invented = checked_evidence(items, sections, text.text)
    if invented:
        notes = (
            *notes,
            f"{invented} of {len(items)} sentences that the model gave as evidence are not in the paper.",
        )
    return Written(sections, evidence, notes)


def _complaint_about(absent: Sequence[str]) -> str:
    return (
        f"An earlier entry had numbers that this paper does not have: {', '.join(absent)}. "
        "Write the entry without them, and with the paper's own numbers only."
    )


def _asked_again(messages: Sequence[Message], problem: str, lang: str) -> list[Message]:
    language = language_name(lang)
    said = f"Your last entry cannot be used: {problem}. Write the whole entry again, in {language}."
    return [*messages, {"role": "user", "content": said}]
