"""The paper's prompts for generation, greedy answers to them, and ROUGE-L."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from papertrial.efficient.evaluation.forward import check_at_least, evaluating
from papertrial.efficient.evaluation.likelihood import encode
from papertrial.errors import BadInputError, unknown

_DIRECTIONS = {"en": "Translate from Italian to English", "it": "Traduci dall'Inglese all'Italiano"}
TRANSLATION_SHOTS = 5
SQUAD_SHOTS = 2


@dataclass(frozen=True)
class SquadExample:
    """A question on a text, and its answer."""

    context: str
    question: str
    answer: str = ""


def translation_prompt(text: str, examples: Sequence[tuple[str, str]], into: str = "en") -> str:
    """Return the few-shot prompt for a translation between Italian and English.

    Args:
        text: what to translate.
        examples: pairs of (text, its translation); the paper draws five.
        into: "en" or "it".

    Raises:
        BadInputError: another language.

    Source: arXiv 2504.17025, appendix D.
    """
    if into not in _DIRECTIONS:
        raise unknown("language", into, _DIRECTIONS)
    order = _DIRECTIONS[into]
    shots = [f"{order}\nText: {given}\nTranslation: {wanted}\n\n" for given, wanted in examples]
    return "".join([*shots, f"{order}\nText: {text}\nTranslation:"])


def squad_prompt(asked: SquadExample, examples: Sequence[SquadExample]) -> str:
    """Return the few-shot prompt for a question of SQuAD-it; the paper draws two examples.

    Source: arXiv 2504.17025, appendix D.
    """
    shots = [f"{_squad(one)} {one.answer}\n\n" for one in examples]
    return "".join([*shots, _squad(asked)])


def _squad(one: SquadExample) -> str:
    return f"Contesto: {one.context}\nDomanda: {one.question}\nRisposta:"


def answer_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    new_tokens: int = 512,
) -> list[str]:
    """Return the model's greedy answers, each cut at its first blank line, where the next example would begin.

    Raises:
        BadInputError: `new_tokens` below 1, or an empty prompt.
    """
    check_at_least(1, new_tokens=new_tokens)
    answers = []
    writer: Any = model  # transformers wraps `generate` in a way that hides its types
    with evaluating(model):
        for number, prompt in enumerate(prompts):
            ids = encode(tokenizer, prompt, specials=True)
            if not ids:
                raise BadInputError(f"prompt {number} is empty")
            given = torch.tensor([ids], device=model.device)
            written = writer.generate(
                given,
                attention_mask=torch.ones_like(given),
                do_sample=False,
                max_new_tokens=new_tokens,
                stop_strings=["\n\n"],
                tokenizer=tokenizer,
                pad_token_id=model.generation_config.pad_token_id or 0,
            )
            text = tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)
            answers.append(str(text).split("\n\n")[0].strip())
    return answers


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence of words, case and punctuation left out.

    Letters outside ASCII are kept. (The package that the paper used drops them, and so splits "città".)
    """
    first, second = _words(answer), _words(reference)
    if not first or not second:
        return float(first == second)
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, other in enumerate(second, start=1):
            before, row[place] = row[place], before + 1 if word == other else max(row[place], row[place - 1])
    common = row[-1]
    return 2 * common / (len(first) + len(second))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFC", text).lower())
