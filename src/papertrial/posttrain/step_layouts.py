"""How each family of process reward models wants a solution written, and where it is then read.

A layout turns a solution into token ids and the places at which the model's output speaks of a step. The
places are known from building the ids, never by looking for outputs of a certain value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from papertrial.errors import BadInputError
from papertrial.posttrain.step_reading import (
    Reading,
    at_characters,
    beginning,
    encode,
    one_place_a_step,
    refuse_other_tags,
    refuse_separator,
    refuse_text,
    texts,
)
from papertrial.posttrain.steps import Solution

Layout = Callable[[PreTrainedTokenizerBase, Solution], Reading]
"""Writes a solution for one family of models: token ids, and the places to read."""


@dataclass(frozen=True)
class SeparatedSteps:
    """Question, then each step followed by a separator, tokenised piece by piece; read at the separators.

    This is how TRL's `PRMTrainer` lays out its training data (with its default separator, a line break),
    and how the PURE models are asked.

    Attributes:
        separator: the text after each step. Its last token is read.
        strip_numbers: whether a leading `Step 3.` or `3.` is cut off.
        begin: whether the tokenizer's beginning-of-sequence token comes first, if it has one.
        inside: what replaces the separator's text inside a question or step. None: such text is refused.
    """

    separator: str = "\n"
    strip_numbers: bool = False
    begin: bool = True
    inside: str | None = None

    def __call__(self, tokenizer: PreTrainedTokenizerBase, solution: Solution) -> Reading:
        """See `Layout`."""
        separator = encode(tokenizer, self.separator)
        if not separator:
            raise BadInputError(f"the separator {self.separator!r} has no tokens in this tokenizer")
        ids = beginning(tokenizer) if self.begin else []
        question = encode(tokenizer, self._clean(solution.question))
        refuse_separator(separator, question, f"the question of {solution}", self.separator)
        ids += question
        read_at = []
        for number, text in enumerate(texts(solution, self.strip_numbers), start=1):
            step = encode(tokenizer, self._clean(text))
            refuse_separator(separator, step, f"step {number} of {solution}", self.separator)
            ids += step + separator
            read_at.append(len(ids) - 1)
        return one_place_a_step(ids, read_at)

    def _clean(self, text: str) -> str:
        while self.inside is not None and self.separator in text:
            text = text.replace(self.separator, self.inside)
        return text

    def __post_init__(self) -> None:
        if self.inside is not None and self.separator in self.inside:
            raise BadInputError(
                f"inside must not contain the separator {self.separator!r}, got {self.inside!r}"
            )


@dataclass(frozen=True)
class TaggedSteps:
    """One text in which a tag token follows each step; read at the tags.

    With its defaults, Math-Shepherd: `question Step 1: … ки` and a line break after each tag; a step that
    begins with "Step" already is not numbered again.

    Attributes:
        tag: the text whose last token is read.
        strip_numbers: whether a leading number is cut off first (Skywork), or kept (Math-Shepherd).
    """

    tag: str = "ки"
    strip_numbers: bool = False

    def __call__(self, tokenizer: PreTrainedTokenizerBase, solution: Solution) -> Reading:
        """See `Layout`."""
        refuse_text(self.tag, solution)
        text, spans = f"{solution.question} ", []
        for number, step in enumerate(texts(solution, self.strip_numbers), start=1):
            numbered = step if step.lower().startswith("step") else f"Step {number}: {step}"
            text += f"{numbered} {self.tag}"
            spans.append(len(text) - 1)
            text += "\n"
        ids, places = at_characters(tokenizer, text, spans, solution)
        refuse_other_tags(ids, places, solution, self.tag)
        return one_place_a_step(ids, places)


@dataclass(frozen=True)
class LastTagTokenSteps:
    """Skywork-PRM: question and a line break, then `Step 3: … ` and the last token of the tag.

    The released evaluation also scores the empty text after the last tag, and so returns one score too
    many; here each step has one.

    Attributes:
        tag: the text whose last token alone closes a step.
    """

    tag: str = "ки"

    def __call__(self, tokenizer: PreTrainedTokenizerBase, solution: Solution) -> Reading:
        """See `Layout`."""
        refuse_text(self.tag, solution)
        closing = encode(tokenizer, self.tag)[-1:]
        ids = encode(tokenizer, (tokenizer.bos_token or "") + solution.question + "\n")
        read_at = []
        for number, step in enumerate(texts(solution, strip_numbers=True), start=1):
            before = "" if number == 1 else "\n"
            ids += encode(tokenizer, f"{before}Step {number}: {step} ") + closing
            read_at.append(len(ids) - 1)
        refuse_other_tags(ids, read_at, solution, self.tag)
        return one_place_a_step(ids, read_at)


@dataclass(frozen=True)
class StepEnds:
    """ReasonEval: a prompt, then the steps with nothing between them; read at each step's last token."""

    prompt: str = "Question:\n{question}\nAnswer:\nLet's think step by step.\n"

    def __call__(self, tokenizer: PreTrainedTokenizerBase, solution: Solution) -> Reading:
        """See `Layout`. An empty step is read where the one before it ends, as in the released code."""
        prompt = self.prompt.replace("{question}", solution.question)
        ids = beginning(tokenizer) + encode(tokenizer, prompt)
        read_at = []
        for text in texts(solution, strip_numbers=True):
            ids += encode(tokenizer, text)
            read_at.append(len(ids) - 1)
        return one_place_a_step(ids, read_at)


@dataclass(frozen=True)
class HeadedSteps:
    """Llemma PRMs: `# Question` and `# Solution` headings, steps closed by a blank line.

    Read at the blank line's first character. Blank lines inside a step are taken out, as the model would
    take them for the end of the step.
    """

    def __call__(self, tokenizer: PreTrainedTokenizerBase, solution: Solution) -> Reading:
        """See `Layout`."""
        text, marks = f"# Question\n\n{solution.question}\n\n# Solution\n\n", []
        for step in solution.steps:
            text += step.replace("\n\n", "").strip()
            marks.append(len(text))
            text += "\n\n"
        return one_place_a_step(*at_characters(tokenizer, text, marks, solution))


@dataclass(frozen=True)
class Likelihoods:
    """Question and steps as plain lines; read before every token of a step, for its log-probability."""

    separator: str = "\n"

    def __call__(self, tokenizer: PreTrainedTokenizerBase, solution: Solution) -> Reading:
        """See `Layout`."""
        ids = beginning(tokenizer) + encode(tokenizer, solution.question + self.separator)
        read_at, step_of, next_ids = [], [], []
        for number, step in enumerate(solution.steps):
            for token in encode(tokenizer, step.strip() + self.separator):
                read_at.append(len(ids) - 1)
                step_of.append(number)
                next_ids.append(token)
                ids.append(token)
        return Reading(tuple(ids), tuple(read_at), tuple(step_of), tuple(next_ids))
