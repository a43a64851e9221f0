from __future__ import annotations

import torch

from papertrial.data.tokens import byte_tokenizer
from papertrial.models import load_causal_lm, load_with_tokenizer


def test_a_toy_reads_bytes_and_is_drawn_from_its_seed():
    model, tokenizer = load_with_tokenizer("tiny-llama", seed=3)
    other, _ = load_with_tokenizer("tiny-llama", seed=4)
    assert tokenizer("ab")["input_ids"][:2] == [97, 98]
    weights = model.get_input_embeddings().weight
    assert len(weights) == len(tokenizer)
    assert not torch.equal(weights, other.get_input_embeddings().weight)


def test_a_folder_has_its_own_tokenizer(tmp_path):
    load_causal_lm("tiny-llama", vocab_size=300, hidden_size=16).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model, tokenizer = load_with_tokenizer(str(tmp_path), dtype="bfloat16")
    assert model.config.vocab_size == 300
    assert model.dtype == torch.bfloat16
    assert tokenizer("ab")["input_ids"][:2] == [97, 98]
