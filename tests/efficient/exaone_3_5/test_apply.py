"""The deed `haystacks`: a grid for a model of one's own, written where it is asked for."""

from __future__ import annotations

import json

import pytest
import torch

from papertrial.data.tokens import byte_tokenizer
from papertrial.efficient.exaone_3_5.apply import Haystacks
from papertrial.efficient.exaone_3_5.haystacks import evaluate_haystacks
from papertrial.efficient.exaone_3_5.weights import LicenceNotice, export_checkpoint
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

QUICK = {"lengths": (900, 1300), "depths": (0.0, 1.0), "near_misses": 0, "answer_tokens": 2}


@pytest.fixture
def saved(tmp_path):
    """Saves a small Llama with so many positions, and its tokenizer, as `save_pretrained` writes them."""

    def save(positions):
        tokenizer, folder = byte_tokenizer(), tmp_path / f"model-{positions}"
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "max_position_embeddings": positions}
        load_causal_lm("tiny-llama", vocab_size=len(tokenizer), **sizes).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


def test_the_grid_is_that_of_the_function(saved, tmp_path, monkeypatch):
    """A scripted answer, the needle's own number for every third question, lands in the right cells."""
    given = iter(range(100))
    monkeypatch.setattr(
        "papertrial.efficient.exaone_3_5.haystacks.answer_questions",
        lambda model, tokenizer, haystack, tokens: [
            f"It is {needle.answer}." if next(given) % 3 == 0 else "no" for needle in haystack.needles
        ],
    )
    seen = []
    facts = Haystacks(str(saved(1400)), tmp_path / "out", **QUICK).run(lambda *done: seen.append(done))
    assert seen == [(n, 4, "haystacks") for n in (1, 2, 3, 4)]
    grid = json.loads((tmp_path / "out" / "haystacks.json").read_text())
    assert grid["scores"] == {"en": [[1.0, 0.0], [0.0, 1.0]], "ko": [[0.0, 0.0], [1.0, 0.0]]}
    assert (facts["found_en"], facts["found_ko"]) == (0.5, 0.25)
    assert grid["lengths"] == [900, 1300]
    for language in ("en", "ko"):
        assert (tmp_path / "out" / f"haystacks-{language}.png").read_bytes().startswith(b"\x89PNG")


def test_an_exaone_checkpoint_is_read_as_it_is(saved, tmp_path):
    """The same weights under EXAONE's names answer as the Llama does."""
    folder = saved(8192)  # fewer would be EXAONE 3.0
    exaone = export_checkpoint(folder, tmp_path / "exaone")
    byte_tokenizer().save_pretrained(exaone)
    settings = {**QUICK, "languages": ("ko",), "lengths": (900,)}
    with pytest.warns(LicenceNotice, match="non-commercial"):
        Haystacks(str(exaone), tmp_path / "out", **settings).run(lambda *_: None)
    with torch.no_grad():
        expected = evaluate_haystacks(load_causal_lm(str(folder)), byte_tokenizer(), **settings)
    assert json.loads((tmp_path / "out" / "haystacks.json").read_text())["scores"] == expected.scores


def test_what_cannot_work_is_said_and_nothing_is_written(saved, tmp_path):
    folder = saved(1400)
    with pytest.raises(BadInputError, match=r"take \d+ tokens, the model has 1400 positions"):
        Haystacks(str(folder), tmp_path / "out", lengths=(1399,), languages=("en",)).run(lambda *_: None)
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadInputError, match="out must be an empty or new folder"):
        Haystacks(str(folder), folder).run(lambda *_: None)
    with pytest.raises(BadInputError, match="there is no folder"):
        Haystacks("./nowhere", tmp_path / "out").run(lambda *_: None)
