from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from papertrial.data.tokens import byte_tokenizer
from papertrial.efficient.evaluation import bits_per_byte, bits_per_character, document_log_likelihoods
from papertrial.efficient.evaluation.characters import rolling_windows
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm


@given(count=st.integers(0, 40), length=st.integers(1, 12))
def test_windows_score_every_token_once_with_the_fullest_context(count, length):
    ids, scored = list(range(1, count + 1)), []
    whole = [0, *ids]
    for context, continuation in rolling_windows(ids, 0, length):
        scored += continuation
        inputs = [*context, *continuation[:-1]]
        assert len(inputs) == min(length, continuation[-1])  # full, or back to the text's beginning
        assert inputs == whole[continuation[-1] - len(inputs) : continuation[-1]]
    assert scored == ids


def test_a_uniform_model_over_bytes_needs_log2_of_its_vocabulary():
    model = load_causal_lm("tiny-llama", vocab_size=258, hidden_size=32, num_hidden_layers=1)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    documents = ["abc", "", "ünï"]  # 3 bytes, none, 6 - 1 = 5 bytes; 6 characters
    bits = math.log2(258)
    found = bits_per_character(model, byte_tokenizer(), documents, length=4)
    assert found == pytest.approx(bits * 8 / 6, rel=1e-6)  # float32 logits
    assert bits_per_byte(model, byte_tokenizer(), documents, length=4) == pytest.approx(bits, rel=1e-6)


def test_one_window_is_the_chain_rule(model, tokenizer, texts):
    ids = [tokenizer.eos_token_id, *tokenizer(texts[0])["input_ids"]]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits.double().log_softmax(-1)
    wanted = sum(float(logits[0, t, ids[t + 1]]) for t in range(len(ids) - 1))
    (found,) = document_log_likelihoods(model, tokenizer, texts[:1], length=200)
    assert found == pytest.approx(wanted, rel=1e-5)  # float32 against float64


def test_nothing_to_measure_is_an_error(model, tokenizer):
    with pytest.raises(BadInputError, match="no documents"):
        bits_per_character(model, tokenizer, [])
    with pytest.raises(BadInputError, match="2 documents hold no character"):
        bits_per_character(model, tokenizer, ["", ""])
    bare = byte_tokenizer()
    bare.eos_token = None
    with pytest.raises(BadInputError, match="neither bos_token nor eos_token"):
        bits_per_character(model, bare, ["a"])
