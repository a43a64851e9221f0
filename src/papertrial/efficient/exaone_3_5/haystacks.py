"""Needle in a haystack with any causal language model: a grid of lengths and depths, English and Korean.

Source: arXiv 2412.04862, figure 3 and appendix D.2 (lengths 1K to 32K, depths 0 to 100 %, ground-truth match).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from papertrial.data.long_tasks import score
from papertrial.data.needles import Haystack, make_haystack
from papertrial.errors import BadInputError

DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
ANSWER_TOKENS = 16


@dataclass(frozen=True)
class HaystackGrid:
    """How often needles were found.

    Attributes:
        lengths: tokens of the haystacks.
        depths: of the needles.
        scores: for each language, a row for each length with a share for each depth.
    """

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    scores: dict[str, list[list[float]]]

    def figure(self, language: str) -> Figure:
        """Return the heat map of one language."""
        return heat_map(self.scores[language], self.lengths, self.depths, f"needle in a haystack, {language}")


def evaluate_haystacks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lengths: Sequence[int],
    *,
    depths: Sequence[float] = DEPTHS,
    languages: Sequence[str] = ("en", "ko"),
    near_misses: int = 4,
    repeats: int = 1,
    seed: int = 0,
    answer_tokens: int = ANSWER_TOKENS,
    on_haystack: Callable[[int, int], Any] | None = None,
) -> HaystackGrid:
    """Ask a model for needles at every depth of haystacks of every length, greedily.

    A haystack holds a needle at each depth, so it is read once and its cache serves every question.
    `on_haystack` is told how many are read, of how many.

    Raises:
        BadInputError: a haystack with its question and answer is longer than the model's positions, a text that
            does not fit a length, or no length.
    """
    if not lengths or repeats < 1 or answer_tokens < 1:
        raise BadInputError("at least one length, one repeat and one answer token are needed")
    scores: dict[str, list[list[float]]] = {}
    done, total = 0, len(languages) * len(lengths) * repeats
    for language in languages:
        scores[language] = []
        for length in lengths:
            sums = [0.0] * len(depths)
            for repeat in range(repeats):
                haystack = make_haystack(
                    length,
                    depths,
                    language=language,
                    near_misses=near_misses,
                    seed=seed + repeat,
                    count=_counting(tokenizer),
                )
                answers = answer_questions(model, tokenizer, haystack, answer_tokens)
                for number, (needle, answer) in enumerate(zip(haystack.needles, answers, strict=True)):
                    sums[number] += score(answer, [needle.answer])
                done += 1
                if on_haystack is not None:
                    on_haystack(done, total)
            scores[language].append([value / repeats for value in sums])
    return HaystackGrid(tuple(lengths), tuple(depths), scores)


def answer_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    haystack: Haystack,
    answer_tokens: int = ANSWER_TOKENS,
) -> list[str]:
    """Return the model's greedy answer to each question; the haystack itself is read once.

    Raises:
        BadInputError: haystack, question and answer are longer than `max_position_embeddings`.
    """
    encode: Callable[[str], list[int]] = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    text = encode(haystack.text)
    questions = [encode(f"\n{needle.question}") for needle in haystack.needles]
    longest = len(text) + max(len(question) for question in questions) + answer_tokens
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise BadInputError(
            f"haystack, question and answer take {longest} tokens, the model has {limit} positions; shorten lengths"
        )
    device = next(model.parameters()).device
    answers: list[str] = []
    with torch.no_grad():
        cache = DynamicCache(config=model.config)
        model(torch.tensor([text], device=device), past_key_values=cache, use_cache=True, logits_to_keep=1)
        for question in questions:
            ids = _continue(model, cache, question, answer_tokens, tokenizer.eos_token_id)
            answers.append(str(tokenizer.decode(ids)))
            cache.crop(len(text) - cache.get_seq_length())  # negative: so many are taken off
    return answers


def haystack_lengths(
    tokenizer: PreTrainedTokenizerBase,
    totals: Sequence[int],
    *,
    depths: Sequence[float] = DEPTHS,
    language: str = "en",
    near_misses: int = 4,
    seed: int = 0,
    answer_tokens: int = ANSWER_TOKENS,
) -> list[int]:
    """Return the tokens of the haystacks that make up `totals` with a question and an answer.

    Totals that are too short for all needles and near misses are left out.
    """
    count = _counting(tokenizer)
    lengths = []
    for total in totals:
        length = total
        try:
            for _ in range(2):  # the second time with room for the questions that the first has shown
                haystack = make_haystack(
                    length, depths, language=language, near_misses=near_misses, seed=seed, count=count
                )
                asked = max(count(f"\n{needle.question}") for needle in haystack.needles)
                length = total - asked - answer_tokens
        except BadInputError:
            continue
        lengths.append(length)
    return lengths


def heat_map(
    scores: Sequence[Sequence[float]], lengths: Sequence[int], depths: Sequence[float], title: str
) -> Figure:
    """Return a figure of scores (lengths, depths), red for 0 and green for 1: length along, depth down."""
    figure = Figure(figsize=(1.2 + 0.8 * len(lengths), 1.4 + 0.5 * len(depths)))
    axes = figure.add_subplot()
    shown: Any = [[row[depth] for row in scores] for depth in range(len(depths))]
    picture = axes.imshow(shown, vmin=0.0, vmax=1.0, cmap="RdYlGn", aspect="auto")
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
    axes.set_yticks(range(len(depths)), [f"{100 * depth:.0f} %" for depth in depths])
    axes.set_xlabel("tokens")
    axes.set_ylabel("depth")
    axes.set_title(title, fontsize=9)
    for depth, row in enumerate(shown):
        for length, value in enumerate(row):
            axes.text(length, depth, f"{value:.2f}", ha="center", va="center", fontsize=7)
    figure.colorbar(picture, ax=axes, label="found")
    return figure


def _counting(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], int]:
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def _continue(
    model: PreTrainedModel, cache: DynamicCache, question: list[int], count: int, end: int | None
) -> list[int]:
    device = next(model.parameters()).device
    given, answer = question, []
    for _ in range(count):
        logits = model(torch.tensor([given], device=device), past_key_values=cache, use_cache=True).logits
        chosen = int(logits[0, -1].argmax())
        if chosen == end:
            break
        answer.append(chosen)
        given = [chosen]
    return answer
