"""Summarising models of transformers: a tiny one, drawn at random, held to its own generate."""

from __future__ import annotations

import pytest

from papertrial.digest.records import ROLES
from papertrial.digest.summarising import Seq2SeqSummariser, open_backend, summarise
from papertrial.errors import BadInputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    from papertrial.data.tokens import byte_tokenizer

    place = tmp_path_factory.mktemp("bart")
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 256
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=258,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=256,
        bos_token_id=256,
        eos_token_id=256,
        pad_token_id=257,
        decoder_start_token_id=256,
        init_std=1.0,  # wide enough that a model drawn at random says something
        forced_bos_token_id=None,
        forced_eos_token_id=None,
    )
    BartForConditionalGeneration(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


def test_each_role_is_the_models_summary_of_its_part(folder, text):
    import torch
    from transformers import AutoModelForSeq2SeqLM

    from papertrial.models import load_tokenizer

    backend = Seq2SeqSummariser(folder, max_tokens=8, beams=1)
    written = backend.summarise(text)
    assert set(written) <= set(ROLES)
    assert "method" in written
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), load_tokenizer(folder)
    source = "The projection consists of three stages that are trained together."
    ids = tokenizer(source)["input_ids"]
    with torch.inference_mode():
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            num_beams=1,
            max_new_tokens=8,
            no_repeat_ngram_size=3,
        )
    assert written["method"] == " ".join(tokenizer.decode(out[0], skip_special_tokens=True).split())


def test_an_entry_names_the_model_and_keeps_to_the_papers_language(folder, paper, text, clock):
    entry = summarise(paper, text, Seq2SeqSummariser(folder, max_tokens=8), lang="ko", clock=clock)
    assert (entry.model, entry.lang) == (folder, "en")
    assert any("writes in the paper's language only" in note for note in entry.notes)


def test_a_long_part_is_cut_at_a_sentences_end(folder):
    backend = Seq2SeqSummariser(folder)
    model, tokenizer = backend._pair()
    source = " ".join(f"This is sentence number {n} of the part." for n in range(20))
    ids = backend._ids(source, model, tokenizer)
    shown = tokenizer.decode(ids, skip_special_tokens=True)
    assert len(ids) <= 256
    assert source.startswith(shown)
    assert shown.endswith(" of the part.")
    assert len(backend._ids("x" * 999, model, tokenizer)) == 256  # one endless sentence: as much as fits


def test_one_word_opens_whoever_writes(folder, tmp_path):
    from papertrial.llm import Cached

    assert open_backend(None) is None
    assert open_backend("extractive") is None
    assert isinstance(open_backend(folder), Seq2SeqSummariser)
    assert isinstance(open_backend("tiny-llama"), Cached)
    assert isinstance(open_backend("http://localhost:1/v1#m"), Cached)
    assert isinstance(open_backend(str(tmp_path)), Cached)  # loading it will say that it is no model


def test_bad_input_is_refused(text, tmp_path):
    with pytest.raises(BadInputError, match="at least 1"):
        Seq2SeqSummariser("x", beams=0)
    with pytest.raises(BadInputError, match="there is no folder"):
        Seq2SeqSummariser(str(tmp_path / "none")).summarise(text)
