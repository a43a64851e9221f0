"""Layouts of process reward models that read a conversation."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from papertrial.errors import BadInputError
from papertrial.posttrain.step_reading import (
    Reading,
    at_characters,
    encode,
    one_place_a_step,
    refuse_text,
    texts,
)
from papertrial.posttrain.steps import Solution


@dataclass(frozen=True)
class ChatSeparatedSteps:
    r"""Qwen2.5-Math-PRM: the chat template, with a special token after each step; read at those tokens.

    The system prompt is the model's own. (The released evaluation writes `\b` unescaped there, so that the
    model sees a backspace in place of `\boxed`; that is not copied.)

    Attributes:
        separator: a token of the vocabulary that no text contains.
        system: the system prompt.
    """

    separator: str = "<extra_0>"
    system: str = "Please reason step by step, and put your final answer within \\boxed{}."

    def __call__(self, tokenizer: PreTrainedTokenizerBase, solution: Solution) -> Reading:
        """See `Layout`."""
        refuse_text(self.separator, solution)
        answer = "".join(step + self.separator for step in texts(solution, strip_numbers=True))
        messages = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": solution.question},
            {"role": "assistant", "content": answer},
        ]
        ids = encode(tokenizer, _chat(tokenizer, messages))
        marks = encode(tokenizer, self.separator)
        if len(marks) != 1:
            raise BadInputError(
                f"the separator {self.separator!r} must be one token, this tokenizer makes {len(marks)} of it"
            )
        read_at = [at for at, token in enumerate(ids) if token == marks[0]]
        if len(read_at) != len(solution.steps):
            raise BadInputError(
                f"{solution}: {len(solution.steps)} steps but {len(read_at)} separators {self.separator!r} "
                "after the chat template; the template must keep the assistant's text as it is"
            )
        return one_place_a_step(ids, read_at)


@dataclass(frozen=True)
class Turns:
    """RLHFlow: each step a user's turn (the question before the first), `answer` the assistant's.

    Read at the token before each answer, whose output is the answer's probability.

    Attributes:
        answer: what the assistant says to a good step.
    """

    answer: str = "+"

    def __call__(self, tokenizer: PreTrainedTokenizerBase, solution: Solution) -> Reading:
        """See `Layout`."""
        messages: list[dict[str, str]] = []
        marks = []
        for number, step in enumerate(texts(solution, strip_numbers=True)):
            asked = f"{solution.question} {step}" if number == 0 else step
            messages.append({"role": "user", "content": asked})
            marks.append(len(_chat(tokenizer, messages, answer_next=True)))
            messages.append({"role": "assistant", "content": self.answer})
        text = _chat(tokenizer, messages)
        missed = [mark for mark in marks if not text[mark:].lstrip(" ").startswith(self.answer)]
        if missed:
            raise BadInputError(
                f"{solution}: the chat template does not put {self.answer!r} right after the assistant's header"
            )
        answers = [mark + text[mark:].index(self.answer) for mark in marks]
        ids, places = at_characters(tokenizer, text, answers, solution)
        return one_place_a_step(ids, [place - 1 for place in places])


def _chat(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], answer_next: bool = False
) -> str:
    if not tokenizer.chat_template:
        raise BadInputError("this convention needs a chat template, and the tokenizer has none")
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer_next))
