from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from papertrial.efficient.evaluation import bits_per_character
from papertrial.efficient.vocabulary_adaptation.apply import AdaptVocabulary, deeds
from papertrial.errors import BadInputError


@pytest.fixture
def deed(tmp_path, build, source_tokenizer, target_tokenizer, italian, english):
    """A saved source, a saved helper, and text in both languages."""
    for name, model, tokenizer in (
        ("source", build(320), source_tokenizer),
        ("helper", build(380, width=16, seed=3), target_tokenizer),
    ):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    for name, texts in (("it", italian), ("en", english)):
        (tmp_path / f"{name}.txt").write_text(
            "\n\n".join(f"{n}. {text * 4}" for n, text in enumerate(texts * 4))
        )
    return AdaptVocabulary(
        model=str(tmp_path / "source"),
        tokenizer=str(tmp_path / "helper"),
        helper=str(tmp_path / "helper"),
        out=tmp_path / "out",
        text=str(tmp_path / "it.txt"),
        batch=4,
        length=32,
    )


class Progress:
    def __init__(self):
        self.calls = []

    def __call__(self, done, total, what=""):
        self.calls.append((done, total))


def test_adapts_measures_and_saves(deed):
    facts = deed.run(Progress())
    assert facts["method"] == "sava"
    assert facts["shared_tokens"] + facts["new_tokens"] == 380
    assert facts["tokens_per_word_after"] < 0.8 * facts["tokens_per_word_before"]
    model = AutoModelForCausalLM.from_pretrained(deed.out)
    tokenizer = AutoTokenizer.from_pretrained(deed.out)
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) == 380
    held_out, _ = deed._texts()
    bits = bits_per_character(model, tokenizer, held_out, length=32)
    assert bits == pytest.approx(facts["bits_per_character_after"], rel=1e-5)
    assert "mapped" in (deed.out / "adaptation.txt").read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"initialise": "fvt", "helper": None},
        {"initialise": "clp"},
        {"initialise": "random", "helper": None},
        {"aligner": "ridge", "anchors": 200},
        {"union": True},
    ],
)
def test_every_method(deed, options):
    facts = dataclasses.replace(deed, **options).run(Progress())
    assert facts["bits_per_character_after"] > 0
    model = AutoModelForCausalLM.from_pretrained(deed.out)
    assert model(input_ids=torch.tensor([[5]])).logits.isfinite().all()


def test_trains_on_both_languages(deed, tmp_path):
    progress = Progress()
    facts = dataclasses.replace(
        deed, initialise="fvt", steps=12, lr=3e-3, source_text=str(tmp_path / "en.txt")
    ).run(progress)
    assert progress.calls[-1] == (12, 12)
    assert facts["bits_per_character_trained"] < facts["bits_per_character_after"] - 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"helper": None, "initialise": "sava"}, "sava needs a helper"),
        ({"initialise": "focus"}, "unknown method 'focus'"),
        ({"initialise": "fvt", "aligner": "ridge"}, "aligner and anchors are sava's; fvt has none"),
        ({"text": None, "steps": 3}, "training needs a text"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"length": 1}, "length must be at least 2"),
        ({"anchors": 4000}, "anchors must be between 2 and the"),
        ({"model": "tiny-llama"}, "no tokenizer of its own"),
    ],
)
def test_bad_input_leaves_nothing_behind(deed, options, message):
    with pytest.raises(BadInputError, match=message):
        dataclasses.replace(deed, **options).run(Progress())
    assert not deed.out.exists()


def test_out_is_not_overwritten(deed):
    deed.out.mkdir()
    (deed.out / "kept.txt").write_text("mine")
    with pytest.raises(BadInputError, match="holds files already"):
        deed.run(Progress())
    assert deeds == {"vocabulary": AdaptVocabulary}
