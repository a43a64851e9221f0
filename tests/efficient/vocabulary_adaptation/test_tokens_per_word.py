from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papertrial.data.tokens import byte_tokenizer
from papertrial.efficient.vocabulary_adaptation.tokens_per_word import fertility
from papertrial.errors import BadInputError, MissingExtraError

DOCUMENTS = ["ab cd!", "   ", "abcdefgh"]  # 6 bytes and 3 words; none; 8 bytes and 1 word


def test_both_definitions_by_hand():
    found = fertility(byte_tokenizer(), DOCUMENTS)
    assert found.mean_of_ratios == pytest.approx((6 / 3 + 8 / 1) / 2)
    assert found.ratio_of_sums == pytest.approx(14 / 4)
    assert found.characters_per_token == 1
    assert (found.documents, found.skipped, found.splitter) == (2, 1, "regex")


def test_special_tokens_do_not_count(marked_tokenizer):
    """A tokenizer that begins every text with <s> is not charged for it."""
    from tokenizers.processors import TemplateProcessing

    plain = fertility(marked_tokenizer, ["il gatto"])
    saved = marked_tokenizer.backend_tokenizer.post_processor
    try:
        marked_tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
        assert (
            len(marked_tokenizer("il gatto")["input_ids"]) == len(marked_tokenizer.tokenize("il gatto")) + 1
        )
        assert fertility(marked_tokenizer, ["il gatto"]) == plain
    finally:
        marked_tokenizer.backend_tokenizer.post_processor = saved


@given(st.lists(st.text(alphabet="ab ", max_size=30), min_size=1, max_size=8))
def test_a_splitter_of_ones_own_against_plain_counting(documents):
    counted = [(len(text), len(text.split())) for text in documents if text.split()]
    if not counted:
        with pytest.raises(BadInputError, match="holds a word"):
            fertility(byte_tokenizer(), documents, splitter=str.split)
        return
    found = fertility(byte_tokenizer(), documents, splitter=str.split)
    assert found.mean_of_ratios == pytest.approx(sum(t / w for t, w in counted) / len(counted))
    assert found.ratio_of_sums == pytest.approx(sum(t for t, _ in counted) / sum(w for _, w in counted))
    assert found.skipped == len(documents) - len(counted)


def test_nltk_without_its_data_or_itself(monkeypatch):
    nltk = pytest.importorskip("nltk")

    def missing(*given, **named):
        raise LookupError

    monkeypatch.setattr("nltk.tokenize.word_tokenize", missing)
    with pytest.raises(BadInputError, match=r"no sentence data for 'italian'.*splitter='regex'"):
        fertility(byte_tokenizer(), ["a"], splitter="nltk")
    monkeypatch.setattr("nltk.tokenize.word_tokenize", lambda text, language: text.split("-"))
    assert fertility(byte_tokenizer(), ["a-b"], splitter="nltk").mean_of_ratios == 3 / 2
    monkeypatch.setitem(sys.modules, "nltk.tokenize", None)
    with pytest.raises(MissingExtraError, match="nltk is not installed"):
        fertility(byte_tokenizer(), ["a"], splitter="nltk")
    assert nltk.__version__


def test_bad_input():
    with pytest.raises(BadInputError, match="unknown splitter 'spacy'"):
        fertility(byte_tokenizer(), ["a"], splitter="spacy")
    with pytest.raises(BadInputError, match="none of the 2 documents holds a word"):
        fertility(byte_tokenizer(), ["", " "])
