"""Sentences: where they end, and where they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.digest.sentences import content_terms, split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["It reaches 87.5% on two sets.", "The gain is 2.5 points."],
        ["Smith et al. report it, e.g. in Fig. 3, i.e. the left one.", "So do we."],
        ["J. Smith and K. R. Lee wrote it vs. Dr. Kim.", "They agree."],
        ["We show, cf. Sec. 4.1 and Eq. (2), that it holds.", "It does!", "Does it?", "It does."],
        ["It uses approx. 3 GB of memory etc.", "Then it stops."],
        ['He said "it works."', "She agreed."],
        ["정확도는 87.5%입니다.", "기준선보다 2.5%p 높습니다.", "속도도 빠릅니다."],
        ["It ends (see no. 5).", "It begins anew."],
        ["i) One thing is said.", "ii) Another thing is.", "iii) A third."],
        ["It takes 53 ms.", "It needs 3 sec.", "Ms. Kim says no.", "See no. 5 there."],
        ["Questions: 1. What is it?", "2. Why is it?"],
    ],
)
def test_prose_is_cut_where_a_reader_would(sentences):
    assert [one.text for one in split_sentences("  ".join(sentences))] == sentences


def test_korean_sentences_need_no_space_between():
    found = split_sentences("처음 문장입니다.다음 문장이다.GPT-4o도 그렇다.")
    assert [one.text for one in found] == ["처음 문장입니다.", "다음 문장이다.", "GPT-4o도 그렇다."]


def test_blank_lines_headings_items_and_rows_end_sentences():
    text = "# A heading\nA line that\ngoes on\n\nNext paragraph\n- an item\n- another\n| a | 1 |\n| b | 2 |\nAfter it"
    assert [one.text for one in split_sentences(text)] == [
        "# A heading", "A line that\ngoes on", "Next paragraph", "- an item", "- another",
        "| a | 1 |", "| b | 2 |", "After it",
    ]  # fmt: skip


@given(st.text(alphabet=st.sampled_from(list("aZ. 다1\n!?|#-)(\"'e,")), max_size=120))
def test_sentences_cover_the_text_and_stand_where_they_say(text):
    end = 0
    for sentence in split_sentences(text):
        assert text[sentence.start : sentence.end] == sentence.text == sentence.text.strip() != ""
        assert not text[end : sentence.start].strip()
        end = sentence.end
    assert not text[end:].strip()


@given(
    st.lists(
        st.sampled_from(["One thing is so.", "Another is 3.5 long!", "그렇습니다.", "Is it?"]), max_size=6
    )
)
def test_cutting_again_changes_nothing(sentences):
    once = [one.text for one in split_sentences(" ".join(sentences))]
    assert [one.text for one in split_sentences(" ".join(once))] == once == sentences


def test_terms_are_what_a_sentence_is_about():
    terms = content_terms(
        "The proposed method achieves an accuracy of 87.5% on ImageNet, compared to baselines."
    )
    assert terms == {"accuracy", "imagenet"}
    assert content_terms("It converts models") & content_terms("a converted model") == {"convert"}


def test_korean_terms_lose_their_particles_and_keep_english_terms():
    terms = content_terms("정확도는 이미지넷(ImageNet)에서 87.5%를 기록했습니다.", "ko")
    assert {"정확도", "이미지넷", "imagenet"} <= terms
    assert content_terms("정확도를 재고", "ko") & terms == {"정확도"}
