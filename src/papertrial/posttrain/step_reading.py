"""A solution as token ids, and the tools with which layouts make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from papertrial.errors import BadInputError
from papertrial.posttrain.steps import Solution, without_step_number


@dataclass(frozen=True)
class Reading:
    """A solution as a model reads it.

    Attributes:
        ids: the token ids.
        read_at: places in `ids` whose outputs are wanted, ascending.
        step_of: for each place, the 0-based step it speaks of.
        next_ids: for each place, the token that follows it, where the score is that token's likelihood.
    """

    ids: tuple[int, ...]
    read_at: tuple[int, ...]
    step_of: tuple[int, ...]
    next_ids: tuple[int, ...] = ()


def one_place_a_step(ids: Sequence[int], read_at: Sequence[int]) -> Reading:
    """Return the reading whose places speak of one step each, in order."""
    return Reading(tuple(ids), tuple(read_at), tuple(range(len(read_at))))


def texts(solution: Solution, strip_numbers: bool) -> list[str]:
    """Return the steps without surrounding white space, and without a leading number if so wanted."""
    return [without_step_number(step) if strip_numbers else step.strip() for step in solution.steps]


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of a text, with nothing put before or after it."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the id that begins a sequence, or none where the tokenizer has no such token."""
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def at_characters(
    tokenizer: PreTrainedTokenizerBase, text: str, characters: Sequence[int], solution: Solution
) -> tuple[list[int], list[int]]:
    """Return the ids of a whole text and, for each character, the place of the token that holds it."""
    if not tokenizer.is_fast:
        raise BadInputError("this convention needs a fast tokenizer, which knows each token's characters")
    special = tokenizer.bos_token is not None and not text.startswith(tokenizer.bos_token)
    encoding = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
    ids, offsets = list(encoding["input_ids"]), encoding["offset_mapping"]
    places, at = [], 0
    for character in characters:
        # The last token that holds it: byte-level tokenizers give all bytes of a letter the same characters.
        while at + 1 < len(ids) and offsets[at + 1][0] <= character:
            at += 1
        start, end = offsets[at]
        if not start <= character < end:
            raise BadInputError(f"{solution}: the tokenizer drops the mark at character {character}")
        places.append(at)
    if len(set(places)) != len(places):
        raise BadInputError(f"{solution}: two steps end in one token; an empty step cannot be scored so")
    return ids, places


def refuse_text(mark: str, solution: Solution) -> None:
    """Raise where the question or a step contains the text that marks a step's end."""
    for where, text in [("the question", solution.question)] + [
        (f"step {number}", step) for number, step in enumerate(solution.steps, start=1)
    ]:
        if mark in text:
            raise BadInputError(
                f"{where} of {solution} contains the separator {mark!r}; take it out of the text"
            )


def refuse_separator(separator: list[int], ids: list[int], where: str, text: str) -> None:
    """Raise where the separator's tokens also occur inside a question or step."""
    width = len(separator)
    if any(ids[at : at + width] == separator for at in range(len(ids) - width + 1)):
        raise BadInputError(f"{where} contains the separator {text!r}; take it out of the text")


def refuse_other_tags(ids: Sequence[int], places: Sequence[int], solution: Solution, tag: str) -> None:
    """Raise where the token that is read also stands elsewhere, or is not the same at every step."""
    read = {ids[place] for place in places}
    if len(read) != 1 or sum(token in read for token in ids) != len(places):
        raise BadInputError(
            f"{solution}: the token of the separator {tag!r} must stand after each step and nowhere else"
        )
