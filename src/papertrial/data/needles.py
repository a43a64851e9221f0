"""Needles in haystacks, as text: facts at known depths among filler and near misses, in English and Korean.

One haystack holds a fact at every depth that is asked about, so a model reads it once and answers all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from papertrial.errors import BadInputError, unknown

Language = Literal["en", "ko"]
Count = Callable[[str], int]


@dataclass(frozen=True)
class Needle:
    """A fact that is hidden in a text, and the question that asks for it.

    Attributes:
        statement: the sentence that stands in the text.
        question: what is asked after the text; the answer follows it directly.
        answer: what a right answer contains, letter for letter.
    """

    statement: str
    question: str
    answer: str


@dataclass(frozen=True)
class Haystack:
    """A long text with one needle at each depth.

    Attributes:
        text: instruction, filler, near misses and needles.
        needles: in the order of `depths`.
        depths: asked for, 0 (first sentence) to 1 (last).
        reached: where each needle's statement begins, as a share of the text's tokens.
        length: tokens of `text`.
        language: of everything in it.
    """

    text: str
    needles: tuple[Needle, ...]
    depths: tuple[float, ...]
    reached: tuple[float, ...]
    length: int
    language: str


@dataclass(frozen=True)
class _Words:
    """What a language needs: sentences with places for a colour, a thing and a number."""

    instruction: str
    statement: str
    question: str
    colours: tuple[str, ...]
    things: tuple[str, ...]
    filler: tuple[str, ...]


_LANGUAGES = {
    "en": _Words(
        "Somewhere in this text stand the numbers of several lockers. Remember them.",
        "The number of the {colour} {thing} is {value}.",
        "Question: what is the number of the {colour} {thing}? Answer: the number of the {colour} {thing} is",
        (
            "red",
            "green",
            "blue",
            "white",
            "black",
            "yellow",
            "brown",
            "grey",
            "pink",
            "silver",
            "golden",
            "violet",
        ),
        (
            "locker",
            "drawer",
            "suitcase",
            "mailbox",
            "cabinet",
            "toolbox",
            "safe",
            "trunk",
            "basket",
            "folder",
        ),
        (
            "The ferry left a little late and nobody minded.",
            "In the afternoon the wind turned and the flags hung still.",
            "She read the letter twice before she put it away.",
            "The bakery on the corner closes early on Mondays.",
            "Two boys were counting the wagons of a goods train.",
            "It had rained in the night, and the path was soft.",
            "Nobody could say who had planted the pear tree.",
            "The lamp in the hall flickers when the lift goes up.",
            "He kept his receipts in a shoebox under the bed.",
            "A dog slept in the shade of the parked van.",
            "The map was older than the bridge it showed.",
            "They agreed to meet again when the snow was gone.",
        ),
    ),
    "ko": _Words(
        "이 글 어딘가에 여러 보관함의 번호가 적혀 있다. 잘 기억해 두자.",
        "{colour} {thing}의 번호는 {value}이다.",
        "질문: {colour} {thing}의 번호는 무엇인가? 답: {colour} {thing}의 번호는",
        ("빨간", "초록", "파란", "하얀", "검은", "노란", "갈색", "회색", "분홍", "은색", "금색", "보라"),
        ("사물함", "서랍", "여행가방", "우편함", "장식장", "공구함", "금고", "상자", "바구니", "서류철"),
        (
            "배는 조금 늦게 떠났지만 아무도 신경 쓰지 않았다.",
            "오후가 되자 바람이 바뀌어 깃발이 축 늘어졌다.",
            "그녀는 편지를 두 번 읽고 나서야 집어넣었다.",
            "모퉁이 빵집은 월요일마다 일찍 문을 닫는다.",
            "아이 둘이 화물 열차의 칸을 세고 있었다.",
            "밤새 비가 내려 오솔길이 질척했다.",
            "배나무를 누가 심었는지는 아무도 몰랐다.",
            "승강기가 올라가면 복도의 등이 깜박인다.",
            "그는 영수증을 침대 밑 신발 상자에 모아 두었다.",
            "세워 둔 승합차 그늘에서 개가 자고 있었다.",
            "지도는 거기 그려진 다리보다도 오래되었다.",
            "그들은 눈이 녹으면 다시 만나기로 했다.",
        ),
    ),
}


def make_needles(
    language: str, count: int, near_misses: int, draw: random.Random
) -> tuple[list[Needle], list[str]]:
    """Make needles with different keys, and statements that are nearly theirs.

    A key is a colour and a thing. A near miss shares one of the two with some needle and has a number of its
    own; no near miss has the key of a needle, and all numbers (five digits) differ.

    Returns:
        The needles, and the statements of the near misses.

    Raises:
        BadInputError: an unknown language, no needle asked for, or more keys than there are.
    """
    words = _words(language)
    if count < 1 or near_misses < 0:
        raise BadInputError(f"at least 1 needle and 0 near misses are needed, got {count} and {near_misses}")
    keys = [(colour, thing) for colour in words.colours for thing in words.things]
    if count + near_misses > len(keys) // 2:
        raise BadInputError(
            f"there are keys for {len(keys) // 2} needles and near misses in {language!r}, got {count + near_misses}"
        )
    draw.shuffle(keys)
    asked = keys[:count]
    near = [key for key in keys[count:] if any((key[0] == a) != (key[1] == b) for a, b in asked)][
        :near_misses
    ]
    if len(near) < near_misses:
        raise BadInputError(
            f"{count} needles have {len(near)} near misses in {language!r}, got {near_misses}; ask for fewer"
        )
    values = [str(value) for value in draw.sample(range(10_000, 100_000), count + near_misses)]
    parts = [
        {"colour": key[0], "thing": key[1], "value": value}
        for key, value in zip(asked + near, values, strict=True)
    ]
    needles = [
        Needle(words.statement.format(**part), words.question.format(**part), part["value"])
        for part in parts[:count]
    ]
    return needles, [words.statement.format(**part) for part in parts[count:]]


def make_haystack(
    length: int,
    depths: Sequence[float],
    *,
    language: str = "en",
    near_misses: int = 4,
    seed: int = 0,
    count: Count | None = None,
    needles: Sequence[Needle] | None = None,
    filler: Sequence[str] | None = None,
) -> Haystack:
    """Hide one needle at every depth of a text of at most `length` tokens, as near to it as sentences allow.

    Args:
        length: tokens of the text, questions not counted.
        depths: where the needles stand, each from 0 to 1.
        language: "en" or "ko".
        near_misses: further statements, of keys that differ in one word from a needle's, at random places.
        seed: draws keys, numbers, filler and places.
        count: gives the tokens of a text; words where none is given.
        needles: in place of made ones, one for each depth (the published needle, say).
        filler: sentences in place of the built-in ones.

    Raises:
        BadInputError: a depth outside 0 … 1, no depth, an unknown language, another number of needles than
            depths, or a length in which not even the statements fit.
    """
    words, measure = _words(language), count or _count_words
    for depth in depths:
        if not 0.0 <= depth <= 1.0:
            raise BadInputError(f"a depth is a share of the text and lies between 0 and 1, got {depth}")
    draw = random.Random(f"{seed} {language}")
    made, near = make_needles(language, max(1, len(depths)), near_misses, draw)
    chosen = list(made if needles is None else needles)
    if len(chosen) != len(depths) or not depths:
        raise BadInputError(
            f"each depth needs one needle, got {len(depths)} depths and {len(chosen)} needles"
        )
    statements = [needle.statement for needle in chosen]
    sentences = list(words.filler if filler is None else filler)

    def made_of(fillers: int) -> tuple[str, list[int]]:
        return _lay_out(
            random.Random(f"{seed} places"), words.instruction, sentences, fillers, statements, near, depths
        )

    fillers = _most_that_fit(lambda size: measure(made_of(size)[0]), length)
    text, starts = made_of(fillers)
    total = measure(text)
    reached = tuple(measure(text[:start]) / total for start in starts)
    return Haystack(text, tuple(chosen), tuple(depths), reached, total, language)


def _words(language: str) -> _Words:
    if language not in _LANGUAGES:
        raise unknown("language", language, get_args(Language))
    return _LANGUAGES[language]


def _count_words(text: str) -> int:
    return len(text.split())


def _lay_out(
    draw: random.Random,
    instruction: str,
    sentences: Sequence[str],
    fillers: int,
    statements: Sequence[str],
    near: Sequence[str],
    depths: Sequence[float],
) -> tuple[str, list[int]]:
    """Return the text of so many fillers and where in it each statement begins."""
    body: list[str] = [draw.choice(sentences) for _ in range(fillers)]
    for miss in near:
        body.insert(draw.randrange(len(body) + 1), miss)
    # Places are those before any insertion, taken from the deepest on, so that no insertion moves a place.
    places = [round(depth * len(body)) for depth in depths]
    for number in sorted(range(len(depths)), key=lambda at: -depths[at]):
        body.insert(places[number], statements[number])
    starts, at = {}, len(instruction) + 1
    for sentence in body:
        starts[sentence] = at
        at += len(sentence) + 1
    return " ".join([instruction, *body]), [starts[statement] for statement in statements]


def _most_that_fit(size_of: Callable[[int], int], length: int) -> int:
    """Return the largest number of fillers whose text has at most `length` tokens."""
    if size_of(0) > length:
        raise BadInputError(f"the statements alone take {size_of(0)} tokens, got length={length}")
    fits, too_many = 0, 1
    while size_of(too_many) <= length:
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if size_of(middle) <= length:
            fits = middle
        else:
            too_many = middle
    return fits
