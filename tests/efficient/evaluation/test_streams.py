from __future__ import annotations

import pytest
import torch

from papertrial.data.tokens import byte_tokenizer, train_bpe
from papertrial.efficient.evaluation.streams import STREAM_RULES, StreamRule, token_stream
from papertrial.errors import BadInputError


def test_documents_are_joined_as_each_column_says_and_nothing_is_added():
    documents = ["one two", "three", "four"]
    tokenizer = byte_tokenizer()
    for name, text in (("wikitext2", "one two\n\nthree\n\nfour"), ("c4", "one two three four")):
        stream = token_stream(documents, tokenizer, STREAM_RULES[name])
        assert tokenizer.decode(stream) == text
        assert len(stream) == len(text.encode())  # a byte, a token: no token at the start or the end


def test_words_across_the_joints_are_tokenised_together():
    """The text is tokenised as a whole: a document's first word after a space is a word with its mark."""
    tokenizer = train_bpe(["a house and a house"] * 50, 266)
    whole = token_stream(["a", "house"], tokenizer, STREAM_RULES["c4"])
    assert torch.equal(whole, torch.tensor(tokenizer.encode("a house", add_special_tokens=False)))


def test_the_caps_of_c4():
    tokenizer = byte_tokenizer()
    documents = [f"{number:04d}" for number in range(1200)]
    stream = token_stream(documents, tokenizer, STREAM_RULES["c4"])
    assert tokenizer.decode(stream[-4:]) == "1099"
    assert len(stream) == 1100 * 5 - 1
    assert len(token_stream(["x" * 600_000], tokenizer, STREAM_RULES["c4"])) == 256 * 2048
    assert len(token_stream(["abcdef"], tokenizer, StreamRule("", tokens=4))) == 4


def test_nothing_to_measure_is_said():
    with pytest.raises(BadInputError, match="there are no documents to measure"):
        token_stream([], byte_tokenizer(), STREAM_RULES["c4"])
    with pytest.raises(BadInputError, match="the 1 documents hold no token"):
        token_stream([""], byte_tokenizer(), STREAM_RULES["c4"])
