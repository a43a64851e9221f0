"""Long-context tasks as text: a needle, variable tracking, common words, frequent words; made, loaded and
scored.

Records have the form of the official RULER files, so a made task and a downloaded one are the same to a
trial.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from papertrial.errors import BadInputError, unknown

Count = Callable[[str], int]
Match = Literal["all", "any"]


@dataclass(frozen=True)
class LongTask:
    """One prompt with its answers.

    Attributes:
        input: the prompt.
        outputs: the gold words or phrases.
        length: tokens of the prompt, by whatever counted them.
        index: its number in its file.
    """

    input: str
    outputs: tuple[str, ...]
    length: int
    index: int = 0


def count_words(text: str) -> int:
    """Return the words of a text: the length where no tokenizer is given."""
    return len(text.split())


def load_tasks(path: Path) -> list[LongTask]:
    """Read tasks in the official RULER form: a JSON object, a list of them, or one object a line.

    Each has `input` (str) and `outputs` (list of str); `index` and `length` are optional (0 where missing).

    Raises:
        BadInputError: no such file, no JSON, no record, or a record without the two, named by its number.
    """
    if not path.is_file():
        raise BadInputError(f"no task file at {path}")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".jsonl":
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            whole = json.loads(text)
            records = whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError as error:
        raise BadInputError(f"{path} is not JSON (line {error.lineno}: {error.msg})") from error
    if not records:
        raise BadInputError(f"{path} holds no task")
    return [_task(path, number, record) for number, record in enumerate(records)]


def _task(path: Path, number: int, record: object) -> LongTask:
    if not isinstance(record, dict):
        raise BadInputError(f"task {number} of {path} is {type(record).__name__}, not an object")
    text, outputs = record.get("input"), record.get("outputs")
    if not isinstance(text, str) or not text:
        raise BadInputError(f"task {number} of {path} has no text under 'input'")
    if not isinstance(outputs, list) or not outputs or not all(isinstance(o, str) for o in outputs):
        raise BadInputError(f"task {number} of {path} has no list of words under 'outputs'")
    length, index = record.get("length", 0), record.get("index", number)
    if not isinstance(length, int) or not isinstance(index, int):
        raise BadInputError(f"task {number} of {path}: 'length' and 'index' must be whole numbers")
    return LongTask(text, tuple(outputs), length, index)


def score(prediction: str, outputs: Sequence[str], match: Match = "all") -> float:
    """Return how far a prediction gives the gold words, 0 to 1, by case-insensitive inclusion.

    `all`: the share of gold words found (needle, tracking, word counting). `any`: 1 if one is found
    (questions with several accepted answers). These are RULER's two rules (arXiv 2404.06654).
    """
    if not outputs:
        raise BadInputError("a task without gold words cannot be scored")
    found = [output.lower() in prediction.lower() for output in outputs]
    return sum(found) / len(found) if match == "all" else float(any(found))


def make_task(name: str, length: int, seed: int, count: Count = count_words) -> LongTask:
    """Make one task of at most `length` tokens and as near to it as whole sentences allow.

    `count` gives the tokens of a text (words, unless a tokenizer is given).

    Raises:
        BadInputError: no such task, or a length in which it does not fit.
    """
    if name not in MAKERS:
        raise unknown("long-context task", name, MAKERS)
    draw = MAKERS[name]

    def made(size: int) -> tuple[str, tuple[str, ...]]:
        return draw(random.Random(seed), size)

    if count(made(1)[0]) > length:
        raise BadInputError(f"{name} needs at least {count(made(1)[0])} tokens, got length={length}")
    fits, too_long = 1, 2
    while count(made(too_long)[0]) <= length:
        fits, too_long = too_long, 2 * too_long
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if count(made(middle)[0]) <= length:
            fits = middle
        else:
            too_long = middle
    text, outputs = made(fits)
    return LongTask(text, outputs, count(text))


_FILLERS = (
    "The river was low that week.",
    "Nobody had wound the clock in the hall.",
    "A train went by without stopping.",
    "They kept the shutters closed at noon.",
    "The bread came late on Thursdays.",
    "Somewhere upstairs a door was left open.",
)


def _needle(draw: random.Random, size: int) -> tuple[str, tuple[str, ...]]:
    keys, values = _names(draw, 4), draw.sample(range(10**6, 10**7), 4)
    facts = [f"The access code of {key} is {value}." for key, value in zip(keys, values, strict=True)]
    text = _scattered(draw, facts, size)
    asked = draw.randrange(4)
    question = (
        f"Question: what is the access code of {keys[asked]}? Answer: the access code of {keys[asked]} is"
    )
    return f"Remember the access codes in this text.\n{text}\n{question}", (str(values[asked]),)


def _variable_tracking(draw: random.Random, size: int) -> tuple[str, tuple[str, ...]]:
    names = _names(draw, 10)
    chains, values = (names[:5], names[5:]), draw.sample(range(10_000, 100_000), 2)
    orders = []
    for chain, value in zip(chains, values, strict=True):
        sources = [str(value), *(f"VAR {name}" for name in chain)]
        orders.append([f"VAR {name} = {source}." for name, source in zip(chain, sources, strict=False)])
    # Each chain stays in its own order; the two are shuffled into one another.
    turns = draw.sample([0] * 5 + [1] * 5, 10)
    streams: list[Iterator[str]] = [iter(order) for order in orders]
    text = _scattered(draw, [next(streams[turn]) for turn in turns], size)
    question = (
        f"Question: which variables hold {values[0]}? Answer: the five variables that hold {values[0]} are"
    )
    return f"Track the assignments in this text.\n{text}\n{question}", tuple(chains[0])


def _common_words(draw: random.Random, size: int) -> tuple[str, tuple[str, ...]]:
    common, rare = _split_words(draw, 10, 10 * size)
    words = common * 30 + rare * 3
    draw.shuffle(words)
    question = "Question: which ten words occur most often? Answer: the ten most frequent words are"
    return f"Count the words of this list.\n{' '.join(words)}\n{question}", tuple(common)


def _frequent_words(draw: random.Random, size: int) -> tuple[str, tuple[str, ...]]:
    # Counts fall as the rank to the power of two, as in RULER; the first three are asked for.
    words, size = _coded_words(draw, 20), size + 2  # from three on the third word is ahead of the fourth
    listed = [
        word for rank, word in enumerate(words, start=1) for _ in range(max(1, round(6 * size / rank**2)))
    ]
    listed += ["..."] * (3 * size)
    draw.shuffle(listed)
    question = "Question: which three coded words occur most often? Answer: the three most frequent words are"
    return f"Count the coded words and ignore the dots.\n{' '.join(listed)}\n{question}", tuple(words[:3])


def _scattered(draw: random.Random, facts: Sequence[str], size: int) -> str:
    """Return `size` filler sentences with the facts at random places among them, in order."""
    sentences = [draw.choice(_FILLERS) for _ in range(size)]
    for place, fact in reversed(
        list(zip(sorted(draw.choices(range(size + 1), k=len(facts))), facts, strict=True))
    ):
        sentences.insert(place, fact)
    return " ".join(sentences)


def _names(draw: random.Random, number: int) -> list[str]:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    return ["".join(name) for name in _distinct(draw, number, lambda: tuple(draw.choices(letters, k=5)))]


def _coded_words(draw: random.Random, number: int) -> list[str]:
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    return ["".join(word) for word in _distinct(draw, number, lambda: tuple(draw.choices(syllables, k=3)))]


def _split_words(draw: random.Random, first: int, rest: int) -> tuple[list[str], list[str]]:
    words = _coded_words(draw, first + rest)
    return words[:first], words[first:]


def _distinct(draw: random.Random, number: int, make: Callable[[], tuple[str, ...]]) -> list[tuple[str, ...]]:
    found: dict[tuple[str, ...], None] = {}
    while len(found) < number:
        found[make()] = None
    return list(found)


MAKERS: dict[str, Callable[[random.Random, int], tuple[str, tuple[str, ...]]]] = {
    "needle": _needle,
    "variable-tracking": _variable_tracking,
    "common-words": _common_words,
    "frequent-words": _frequent_words,
}
