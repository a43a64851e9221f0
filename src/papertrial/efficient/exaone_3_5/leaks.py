"""A made corpus with test items planted in it: which, where, how long and how disguised is known.

Documents are English and Korean sentences of drawn words, so that no two agree over fifty letters by chance.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from papertrial.data.arithmetic import make_derivation
from papertrial.efficient.exaone_3_5.naive import normalise_text
from papertrial.efficient.exaone_3_5.pool import TestItem
from papertrial.errors import BadInputError

Disguise = Literal["verbatim", "part", "re-punctuated", "re-cased", "decomposed", "paraphrased", "clean"]
DISGUISES: tuple[Disguise, ...] = (
    "verbatim", "part", "re-punctuated", "re-cased", "decomposed", "paraphrased", "clean",
)  # fmt: skip

_ENGLISH_WORDS = (
    "river market letter winter garden engine window record teacher harbour bridge season kitchen "
    "village station picture morning company journey library machine weather question history "
    "mountain forest carries opens follows leaves brings answers covers reaches counts paints "
    "repairs describes remembers quiet narrow early distant careful ordinary familiar sudden heavy "
    "modern gentle broken open small before behind without between beyond near toward against "
    "because although while until often seldom"
)
_ENGLISH = _ENGLISH_WORDS.split()
_KOREAN_WORDS = (
    "강가 시장 편지 겨울 정원 기관차 창문 기록 선생님 항구 다리 계절 부엌 마을 정거장 그림 "
    "아침 회사 여행 도서관 기계 날씨 질문 역사 산길 숲속 나른다 열린다 따라간다 떠난다 가져온다 "
    "대답한다 덮는다 닿는다 세어본다 칠한다 고친다 설명한다 기억한다 조용히 좁은 이른 머나먼 "
    "꼼꼼한 평범한 낯익은 갑작스러운 무거운 현대의 부드러운 부서진 작은 앞에서 뒤에서 없이도 "
    "사이로 너머로 가까이 향하여 맞서서 때문에 그러나 동안에 까지도 자주 드물게"
)
_KOREAN = _KOREAN_WORDS.split()
_KOREAN_QUESTION = (
    "{name}에게 구슬이 {start}개 있다. 오전에 {first}개를 더 얻고 오후에 {second}개를 친구에게 주었다. 저녁에 남은 "
    "구슬을 {boxes}개의 상자에 똑같이 나누어 담으려고 한다. 상자 하나에 담기는 구슬은 몇 개이고 남는 구슬은 몇 개인가?"
)
_NAMES = ("지우", "하나", "민준", "서연", "도윤", "예린")
_REPUNCTUATION = (" … ", "; ", " — ", "  ", "\n", " / ")


@dataclass(frozen=True)
class Document:
    """One example of a made corpus.

    Attributes:
        text: the example.
        disguise: how the test item in it was changed; "clean" where there is none.
        item: number of the test item; -1 where there is none.
        characters: normalised characters of the text.
        copied: normalised characters of the item that stand in it in a row (0 for a paraphrase).
        start: where they begin, in normalised characters.
    """

    text: str
    disguise: str
    item: int
    characters: int
    copied: int
    start: int


def make_items(count: int, seed: int) -> list[TestItem]:
    """Make word problems in English and Korean, of 60 to some 300 letters and digits, every second in each."""
    draw = random.Random(f"{seed} items")
    items: list[TestItem] = []
    seen: set[str] = set()
    while len(items) < count:
        number = len(items)
        if number % 2:
            text = _KOREAN_QUESTION.format(
                name=draw.choice(_NAMES),
                start=draw.randint(100, 999),
                first=draw.randint(10, 99),
                second=draw.randint(10, 99),
                boxes=draw.randint(3, 29),
            )
        else:
            text = make_derivation(draw, draw.randint(4, 7), story=True).question
        text = f"{_sentence(draw, number % 2)} {text}"  # so that two items differ in more than numbers
        if text not in seen and len(normalise_text(text)) >= 60:
            seen.add(text)
            items.append(TestItem(f"made:{number}", text))
    return items


def make_document(items: Sequence[TestItem], characters: int, disguise: str, draw: random.Random) -> Document:
    """Make a document of about `characters` letters and digits and plant an item in it, if there is to be one.

    `part` copies half of an item or more; `re-cased` swaps the case of every letter; `re-punctuated` changes
    spaces and punctuation; `decomposed` writes NFD; `paraphrased` reverses the order of words, so the words
    are there and no copy is.

    Raises:
        BadInputError: an unknown disguise, a document shorter than the item, or no item whose letters have case.
    """
    if disguise not in DISGUISES:
        raise BadInputError(f"unknown disguise {disguise!r}; known: {', '.join(DISGUISES)}")
    if disguise == "re-cased" and not any(_has_case(item.text) for item in items):
        raise BadInputError("no test item has letters with case, so none can be re-cased")
    if disguise == "clean":
        text = _filler(draw, characters, draw.randrange(2))
        return Document(text, disguise, -1, len(normalise_text(text)), 0, 0)
    number = draw.randrange(len(items))
    while disguise == "re-cased" and not _has_case(items[number].text):
        number = draw.randrange(len(items))
    whole = normalise_text(items[number].text)
    planted, copied = _disguised(items[number].text, whole, disguise, draw)
    room = characters - len(normalise_text(planted))
    if room < 0:
        raise BadInputError(f"a document of {characters} characters has no room for an item of {len(whole)}")
    before = draw.randint(0, room)
    first, last = (_filler(draw, size, draw.randrange(2)) for size in (before, room - before))
    text = f"{first}\n{planted}\n{last}"
    return Document(text, disguise, number, len(normalise_text(text)), copied, len(normalise_text(first)))


def _disguised(text: str, whole: str, disguise: str, draw: random.Random) -> tuple[str, int]:
    """Return the changed item and how many of its normalised characters are left in a row."""
    if disguise == "re-punctuated":
        return "".join(
            draw.choice(_REPUNCTUATION) if not letter.isalnum() else letter for letter in text
        ), len(whole)
    if disguise == "re-cased":
        return text.swapcase(), 0
    if disguise == "decomposed":
        return unicodedata.normalize("NFD", text), len(whole)
    if disguise == "paraphrased":
        return " ".join(reversed(text.split())), 0
    if disguise == "part":
        length = draw.randint(max(50, len(whole) // 2), len(whole))
        start = draw.randint(0, len(whole) - length)
        return whole[start : start + length], length
    return text, len(whole)


def _has_case(text: str) -> bool:
    """Return whether most letters have a case: Hangul has none, so re-casing it changes nothing."""
    return 2 * sum(letter.swapcase() != letter for letter in text) > sum(letter.isalpha() for letter in text)


def _filler(draw: random.Random, characters: int, language: int) -> str:
    """Return sentences with exactly so many letters and digits."""
    parts, left = [], characters
    while left > 0:
        sentence = _sentence(draw, language)
        size = len(normalise_text(sentence))
        if size > left:
            sentence = normalise_text(sentence)[:left]
            size = left
        parts.append(sentence)
        left -= size
    return " ".join(parts)


def _sentence(draw: random.Random, language: int) -> str:
    words = draw.choices(_KOREAN if language else _ENGLISH, k=draw.randint(6, 14))
    return f"{' '.join(words).capitalize()}{draw.choice(('.', '.', '!', '?', ';'))}"
