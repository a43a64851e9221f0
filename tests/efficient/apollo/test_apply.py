from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from papertrial.efficient.apollo.apply import TrainWithApollo, deeds
from papertrial.errors import BadInputError


@pytest.fixture
def deed(saved_model, text_file, tmp_path):
    return TrainWithApollo(
        model=str(saved_model),
        text=str(text_file),
        out=tmp_path / "out",
        steps=30,
        batch=4,
        length=32,
        lr=1e-2,
    )


class Progress:
    def __init__(self):
        self.calls = []

    def __call__(self, done, total, what=""):
        self.calls.append((done, total))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mini": True},
        {"int8": True},
        {"layerwise": True},
        {"int8": True, "layerwise": True, "mini": True},
    ],
)
def test_trains_the_users_model_and_saves_it(options, deed, saved_model):
    progress = Progress()
    facts = dataclasses.replace(deed, **options).run(progress)
    assert progress.calls[-1] == (30, 30)
    assert facts["validation_loss_after"] < facts["validation_loss_before"] - 1
    assert facts["optimizer_state_bytes"] < facts["adamw_state_bytes"]
    trained = AutoModelForCausalLM.from_pretrained(deed.out)
    tokenizer = AutoTokenizer.from_pretrained(deed.out)
    before = AutoModelForCausalLM.from_pretrained(saved_model)
    assert set(trained.state_dict()) == set(before.state_dict())
    tokens = tokenizer("Line 7: the sum of 7 and 8 is 15.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        losses = [model(input_ids=tokens, labels=tokens).loss.item() for model in (before, trained)]
    assert losses[1] < losses[0]


def test_saved_model_has_the_loss_that_was_told(deed):
    """Measured again from disk on the last twentieth of the text."""
    from papertrial.data.text import load_documents
    from papertrial.data.tokens import pack

    facts = dataclasses.replace(deed, int8=True).run(Progress())
    model = AutoModelForCausalLM.from_pretrained(deed.out)
    blocks = pack(load_documents(deed.text), AutoTokenizer.from_pretrained(deed.out), 32)
    held_out = blocks[-(len(blocks) // 20) :]
    with torch.no_grad():
        loss = model(input_ids=held_out, labels=held_out).loss.item()
    assert loss == pytest.approx(facts["validation_loss_after"], abs=1e-4)  # float32 in other batches


def test_a_toy_model_trains_from_scratch(deed):
    facts = dataclasses.replace(deed, model="tiny-llama", steps=4).run(Progress())
    assert facts["validation_loss_after"] < math.log(258)
    assert (deed.out / "tokenizer_config.json").is_file()


def test_divergence_saves_nothing(deed):
    with pytest.raises(BadInputError, match=r"training diverged at step \d+; lower lr from 1e"):
        dataclasses.replace(deed, lr=1e30).run(Progress())
    assert not deed.out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"mini": True, "rank": 4}, "mini is APOLLO at rank 1, got rank 4"),
        ({"rank": 64}, r"rank of .*q_proj.weight \(32 x 32\) must be between 1 and 32, got 64"),
        ({"target": ("ffn",)}, "no linear layer of LlamaForCausalLM"),
        ({"length": 100_000}, "do not fill one block"),
        ({"length": 20_000}, "two are needed, one to hold out"),
        ({"text": "no-such-file.txt"}, "no-such-file.txt"),
        ({"model": "no/such/model"}, "no folder 'no/such/model'"),
    ],
)
def test_bad_input(options, words, deed):
    with pytest.raises(BadInputError, match=words):
        dataclasses.replace(deed, **options).run(Progress())


def test_out_must_be_empty(deed):
    deed.out.mkdir()
    (deed.out / "model.safetensors").write_text("mine")
    with pytest.raises(BadInputError, match="holds files already"):
        deed.run(Progress())
    with pytest.raises(BadInputError, match="is a file"):
        dataclasses.replace(deed, out=deed.out / "model.safetensors").run(Progress())


def test_the_room_offers_training():
    assert deeds == {"train": TrainWithApollo}
