from __future__ import annotations

import warnings

import pytest
from tokenizers import AddedToken

from papertrial.data.tokens import byte_tokenizer, train_bpe
from papertrial.efficient.vocabulary_adaptation.canonical import (
    TokenForm,
    special_roles,
    token_forms,
    token_strings,
    writing_of,
)


def test_both_word_marks_are_one_space(source_tokenizer, marked_tokenizer):
    assert writing_of(source_tokenizer) == "byte-level"
    assert writing_of(marked_tokenizer) == "metaspace"
    byte_level = {form for form in token_forms(source_tokenizer) if form}
    marked = {form for form in token_forms(marked_tokenizer) if form}
    assert TokenForm("text", " the") in byte_level & marked
    assert not any(
        "Ġ" in form.text or "▁" in form.text for form in byte_level | marked if form.kind == "text"
    )


def test_every_byte_level_form_is_what_the_token_decodes_to(target_tokenizer):
    """The tokenizer's own decoder is the oracle."""
    for number, form in enumerate(token_forms(target_tokenizer)):
        if form is not None and form.kind == "text":
            assert target_tokenizer.decode([number]) == form.text


def test_bytes_are_kept_apart_from_text(marked_tokenizer):
    forms = dict(zip(token_strings(marked_tokenizer), token_forms(marked_tokenizer), strict=True))
    assert forms["<0x41>"] == TokenForm("byte", "41")
    assert forms["<0x41>"].data == b"A"
    assert forms["a"] == TokenForm("text", "a")
    bytes_only = token_forms(byte_tokenizer())
    assert bytes_only[0xE9] == TokenForm("byte", "e9")  # half of a character
    assert bytes_only[ord("A")] == TokenForm("text", "A")
    assert bytes_only[256] == TokenForm("special", "<|endoftext|>")


def test_half_characters_of_several_bytes():
    """E8 AA without its third byte is no text; 日 and 本 share their first byte and half of the second."""
    tokenizer = train_bpe(["語誤説読認誌" * 40] * 4, 264)
    kinds = {form.kind for form in token_forms(tokenizer) if form is not None}
    assert "bytes" in kinds
    for form in token_forms(tokenizer):
        if form is not None and form.kind == "bytes":
            assert len(form.data) > 1
            with pytest.raises(UnicodeDecodeError):
                form.data.decode()


def test_added_tokens_are_literal(source_tokenizer, tmp_path):
    source_tokenizer.save_pretrained(tmp_path)
    own = type(source_tokenizer).from_pretrained(tmp_path)
    own.add_tokens([AddedToken("Ġé  x", normalized=False)])
    own.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    forms = token_forms(own)
    assert forms[320] == TokenForm("text", "Ġé  x")
    assert forms[321] == TokenForm("special", "<|im_start|>")


def test_roles(source_tokenizer, marked_tokenizer):
    assert special_roles(source_tokenizer) == {"eos": 0, "pad": 1}
    assert special_roles(marked_tokenizer) == {"eos": 2, "bos": 1, "unk": 0}


def test_a_slow_tokenizer_is_accepted_with_a_warning():
    from transformers import ByT5Tokenizer

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert writing_of(ByT5Tokenizer()) == "plain"
    assert any("slow tokenizer" in str(one.message) for one in caught)
