"""Korean particles after numbers and names, against a dictionary of how they are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.digest.particles import final_sound, particle, particle_at

# What stands before, how it is read aloud, written in Hangul: the rule for Hangul is exact.
READ = {
    "0": "영", "1": "일", "2": "이", "3": "삼", "4": "사", "5": "오", "6": "육", "7": "칠", "8": "팔", "9": "구",
    "10": "십", "20": "이십", "100": "백", "3,000": "삼천", "10,000": "만", "1,000,000": "백만", "100,000,000": "억",
    "1,000,000,000,000": "조", "2.5": "이점오", "87.3": "팔십칠점삼", "0.50": "영점오영", "3.10": "삼점일영",
    "87.5%": "퍼센트", "2.5%p": "퍼센트포인트", "2x": "배", "3배": "배", "7B": "비", "61K": "케이", "5M": "엠",
    "80GB": "기가바이트", "53 ms": "밀리초", "53초": "초", "3시간": "시간", "3 h": "시간", "30 FPS": "에프피에스",
    "25 dB": "데시벨", "4-bit": "비트", "85점": "점", "GPT-4": "사", "LLM": "엘엘엠", "MLLM": "엠", "RL": "알엘",
    "GPU": "지피유", "OCR": "알", "GAN": "엔", "API": "아이", "Qwen": "큐웬", "model": "모델", "Transformer": "머",
    "ImageNet": "이미지넷", "training": "트레이닝", "frame": "프레임", "정확도": "도",
    "성능": "능", "파일": "일", "정확도(Accuracy)": "시",
}  # fmt: skip


@pytest.mark.parametrize(("written", "read"), READ.items())
@pytest.mark.parametrize("form", ["은", "는", "이", "를", "과", "와", "으로", "로"])
def test_the_particle_is_that_of_the_word_as_read(written, read, form):
    assert particle(written, form) == particle(read, form)


@pytest.mark.parametrize(
    ("before", "form", "expected"),
    [
        ("3", "을", "을"), ("3", "은", "은"), ("2", "이", "가"), ("10", "와", "과"), ("7", "으로", "로"),
        ("6", "로", "으로"), ("87.5%", "은", "는"), ("성능", "로", "으로"), ("모델", "으로", "로"), ("도", "을", "를"),
    ],
)  # fmt: skip
def test_particles_as_a_grammar_lists_them(before, form, expected):
    assert particle(before, form) == expected


@given(st.text(alphabet=[chr(code) for code in range(ord("가"), ord("힣") + 1)], min_size=1, max_size=4))
def test_a_hangul_syllable_ends_as_unicode_composes_it(word):
    import unicodedata

    parts = unicodedata.normalize("NFD", word[-1])
    assert bool(final_sound(word)) == (len(parts) == 3)
    assert (final_sound(word) == "ㄹ") == (len(parts) == 3 and parts[-1] == "\u11af")


def test_a_particle_is_told_from_the_beginning_of_a_word():
    assert particle_at("을 얻는다", 0) == ("을", 1)
    assert particle_at("은(는) 크다", 0) == ("은", 4)
    assert particle_at("(으)로 간다", 0) == ("으로", 4)
    assert particle_at("으로, 또", 0) == ("으로", 2)
    assert particle_at("이다.", 0) is None
    assert particle_at(" 을", 0) is None
    assert particle("3", "에서") == "에서"
