"""Translation: numbers and names come through, whatever the model does."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.digest.grounding import PaperIndex, extract_numbers, ground
from papertrial.digest.placeholders import hold_pieces, put_back, with_placeholders
from papertrial.digest.records import Entry, Paper
from papertrial.digest.translating import translate
from papertrial.errors import BadInputError
from papertrial.llm.chat import ChatModelError

SECTIONS = {
    "headline": "FooNet is 2.5x faster than Qwen2.5-72B in three stages, within 0.23 seconds.",
    "results": "It reaches 87.5% on ImageNet, 3.7 points more, as of 2024.",
}


@pytest.fixture
def entry():
    paper = Paper(id="2503.00001", title="FooNet: Fast Bars", categories=("cs.CL",), upvotes=12)
    made = Entry(paper, sections=SECTIONS, model="extractive")
    index = PaperIndex.of(" ".join(SECTIONS.values()), title=paper.title)
    return replace(made, grounding=ground(SECTIONS, index, text="full text"))


class Model:
    """Answers what `say` makes of the values it is asked to translate, and remembers what it was asked."""

    def __init__(self, *say):
        self.say = list(say)
        self.asked = []

    def complete(self, messages, schema=None):
        self.asked.append(messages)
        held = json.loads(messages[1]["content"])
        say = self.say.pop(0)
        return say if isinstance(say, str) else json.dumps({name: say(text) for name, text in held.items()})


def korean(text):
    """Say something in Korean around every placeholder, with the wrong particle."""
    return " ".join(f"{mark}을(를) 말하고," for mark in re.findall(r"⟦n\d+⟧", text)) + " 끝났습니다."


def test_every_number_comes_through_with_the_right_particle(entry):
    model = Model(korean)
    translated = translate(entry, "ko", model)
    assert translated.lang == "ko"
    assert translated.sections["headline"] == (
        "FooNet을 말하고, 2.5배를 말하고, Qwen2.5-72B를 말하고, 3을 말하고, 0.23초를 말하고, 끝났습니다."
    )
    assert translated.sections["results"] == (
        "87.5%를 말하고, ImageNet을 말하고, 3.7%p를 말하고, 2024를 말하고, 끝났습니다."
    )
    assert translated.paper == entry.paper


def test_the_model_sees_no_digit_of_the_summary(entry):
    model = Model(korean)
    translate(entry, "ko", model)
    held = json.loads(model.asked[0][1]["content"])
    for text in held.values():
        assert not re.search(r"\d", re.sub(r"⟦n\d+⟧", "", text))
        assert "Qwen" not in text


def test_the_grounding_moves_along(entry):
    translated = translate(entry, "ko", Model(korean))
    assert [one.word for one in translated.grounding.numbers] == ["exact"] * 5
    for one in translated.grounding.numbers:
        assert translated.sections[one.section][one.start : one.end] == one.text
    assert [one.value for one in translated.grounding.numbers] == [
        one.value for one in entry.grounding.numbers
    ]


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        (lambda text: korean(text).replace("⟦n2⟧", ""), "⟦n2⟧ is missing"),
        (lambda text: korean(text) + "⟦n1⟧", "⟦n1⟧ is one too many"),
        (lambda text: korean(text) + " 정확도는 99%입니다.", "numbers of its own: 99%"),
        (lambda text: korean(text) + " 두 배입니다.", "numbers of its own: 두 배"),
        (lambda text: korean(text).replace("⟦n1⟧을(를)", "⟦n1⟧점을").replace("⟦n3⟧을(를)", "⟦n3⟧을"), None),
        ("no JSON here", "holds no JSON"),
        ('{"headline": "⟦n1⟧"}', "no text for results"),
        ("[1]", "no JSON object"),
    ],
)
def test_a_bad_answer_is_shown_to_the_model_once_more(entry, first, complaint):
    model = Model(first, korean)
    translated = translate(entry, "ko", model)
    if complaint is None:
        assert len(model.asked) <= 2
        return
    assert len(model.asked) == 2
    assert complaint in model.asked[1][-1]["content"]
    assert translated.sections["results"].endswith("끝났습니다.")


def test_after_two_bad_answers_the_template_stands_in(entry):
    translated = translate(entry, "ko", Model("nothing", "nothing again"))
    assert translated.sections == entry.sections
    assert translated.lang == "ko"
    assert any("문장은 영어 그대로" in note for note in translated.notes)
    assert any("not usable twice" in note for note in translated.notes)


def test_where_there_is_no_template_the_entry_stays_as_it_was_and_says_so(entry):
    translated = translate(entry, "de", Model("nothing", "nothing again"))
    assert (translated.sections, translated.lang) == (entry.sections, "en")
    assert translated.notes[0].startswith("Not translated into German: ")


def test_a_model_that_gives_no_answer_costs_no_paper(entry):
    class Silent:
        def complete(self, messages, schema=None):
            raise ChatModelError("it timed out")

    translated = translate(entry, "ko", Silent())
    assert translated.sections == entry.sections
    assert any("it timed out" in note for note in translated.notes)


def test_without_a_model_labels_counts_and_tags_are_korean_and_that_is_said(entry):
    translated = translate(entry, "ko")
    assert translated.sections == entry.sections
    assert [field.label for field in translated.fields] == ["한 줄 요약", "주요 결과"]
    assert translated.grounding == entry.grounding
    notes = " ".join(translated.notes)
    for said in ("번역 모델 없이", "문장은 영어 그대로", "수치 5개 중 5개", "추천 12표", "자연어 처리"):
        assert said in notes


def test_the_same_language_changes_nothing(entry):
    assert translate(entry, "en") is entry


@pytest.mark.parametrize("lang", ["xx", "de"])
def test_a_language_without_a_way_is_refused(entry, lang):
    with pytest.raises(BadInputError, match=lang):
        translate(entry, lang)


def test_an_entry_without_sections_is_refused(entry):
    with pytest.raises(BadInputError, match="no sections"):
        translate(replace(entry, sections={}), "ko")


def test_other_languages_get_no_korean_units(entry):
    def german(text):
        return " ".join(re.findall(r"⟦n\d+⟧", text)) + " sagt man."

    translated = translate(entry, "de", Model(german))
    assert translated.sections["headline"].startswith("FooNet 2.5x Qwen2.5-72B 3 0.23 seconds")


pieces = st.sampled_from(
    ["87.5%", "2x", "GPT-4o", "1,389 rows", "three stages", "in 2024", "53 ms", "ImageNet", "the gadget", "12–15%",
     "512x512 images", "7B", "second place", "3 times", "8xA100-80GB", "4-bit", "5 minutes"]
)  # fmt: skip


@given(st.lists(pieces, min_size=1, max_size=8), st.randoms())
@settings(max_examples=100)
def test_the_multiset_of_numbers_is_the_same_in_any_order(words, draw):
    text = "We have " + " and ".join(words) + " here."
    held = hold_pieces(text, "en")
    marks = re.findall(r"⟦n\d+⟧", with_placeholders(text, held))
    assert len(marks) == len(held)
    draw.shuffle(marks)
    translated, places = put_back(" 그리고 ".join(marks) + " 있다.", held, "ko")
    names = [
        translated[start:end]
        for piece, (start, end) in zip(held, places, strict=True)
        if piece.number is None
    ]
    for name in names:
        translated = translated.replace(name, "이름", 1)

    def counted(numbers):
        return Counter((float(f"{one.value:.9g}"), one.unit) for one in numbers)

    assert counted(extract_numbers(translated, "ko")) == counted(extract_numbers(text))


def test_placeholders_put_back_as_they_were_give_the_text_again():
    text = "We have 87.5% on ImageNet, 53 ms and 1,389 rows."
    held = hold_pieces(text, "en")
    assert put_back(with_placeholders(text, held), held, "en")[0] == text
