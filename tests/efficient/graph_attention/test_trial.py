from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from papertrial.data.tokens import byte_tokenizer
from papertrial.efficient.graph_attention import load_sparse_gin
from papertrial.efficient.graph_attention.adapter_trial import AdapterTrial
from papertrial.efficient.graph_attention.apply import AdaptWithSparseGin
from papertrial.efficient.graph_attention.decoders import Sizes, arm_settings, losses, make_decoder
from papertrial.efficient.graph_attention.fine_tuning import (
    FineTuning,
    encode_texts,
    lora_size,
    matched_settings,
    text_loss,
)
from papertrial.efficient.graph_attention.fine_tuning import (
    arm_settings as adapter_settings,
)
from papertrial.efficient.graph_attention.problems import make_problems, read_problems
from papertrial.efficient.graph_attention.proteins import (
    RESIDUES,
    VOCABULARY,
    encode,
    encode_record,
    make_proteins,
    read_proteins,
)
from papertrial.efficient.graph_attention.swapping import use_graph_attention
from papertrial.efficient.graph_attention.trial import ScratchTrial
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm, parameter_count


class Watch:
    def __init__(self, prepared):
        self.prepared = prepared
        self.steps = []

    def step(self, done, total, **values):
        self.steps.append((done, values))

    def keep(self, name, artifact):
        pass


def test_partners_are_decided_by_an_earlier_stem():
    """Across many strings one residue's partner is always the same one."""
    mates = {}
    for protein in make_proteins(60, 40, seed=0):
        assert set(protein.residues) <= set(RESIDUES)
        assert len(protein.residues) == 40
        assert len(protein.partners) == {"COIL": 0, "AH": 4, "BS": 4, "MIX": 8}[protein.kind]
        if protein.kind == "AH":
            second = protein.partners[0]
            # the strand stands somewhere before: one place fits all mates seen so far
            fits = [
                first
                for first in range(second - 4)
                if all(
                    mates.get(protein.residues[first + k], protein.residues[second + k])
                    == protein.residues[second + k]
                    for k in range(4)
                )
            ]
            assert fits
            if len(fits) == 1:
                mates.update((protein.residues[fits[0] + k], protein.residues[second + k]) for k in range(4))
    assert len(set(mates.values())) == len(mates)


def test_strings_are_encoded_with_their_marks():
    proteins = make_proteins(5, 24, seed=1)
    ids, marks = encode(proteins)
    for protein, row, marked in zip(proteins, ids.tolist(), marks.tolist(), strict=True):
        assert "".join(VOCABULARY[number] for number in row) == protein.text
        assert [place - 2 for place, mark in enumerate(marked) if mark and place < 26] == list(
            protein.partners
        )
        assert marked[-2]
        assert not marked[-1]


def test_real_records_are_read(tmp_path):
    file = tmp_path / "strings.jsonl"
    rows = [{"Sequence": "MKTAyi*AK", "Primary_SS_Type": "AH"}, {"Sequence": "GG", "Primary_SS_Type": "H"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    ids = read_proteins(str(file), 2, 14, seed=0)
    texts = {"".join(VOCABULARY[number] for number in row).replace("<pad>", "") for row in ids.tolist()}
    assert texts == {
        "<|begin_of_text|><|sequence|>MKTAYIAK<|/sequence|><|AH|><|eot_id|>",
        "<|begin_of_text|><|sequence|>GG<|/sequence|><|eot_id|>",
    }
    with pytest.raises(BadInputError, match="has 2 sequences, and 3 are needed"):
        read_proteins(str(file), 3, 14, seed=0)
    with pytest.raises(BadInputError, match="holds no residue"):
        encode_record("***", None, 9)
    with pytest.raises(BadInputError, match="length at least 24"):
        make_proteins(1, 10, 0)


def test_problems_have_the_papers_form(tmp_path):
    text = make_problems(1, 3)[0]
    assert text.startswith("### User: Start with ")
    assert text.count("<|eot_id|>") == 2
    assert "### Assistant: " in text
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"question": "2+2?", "answer": "4"}))
    assert read_problems(str(file)) == ["### User: 2+2?<|eot_id|>### Assistant: 4<|eot_id|>"]
    file.write_text(json.dumps({"other": "x"}))
    with pytest.raises(BadInputError, match="has no field 'question'; it has: other"):
        read_problems(str(file))


@pytest.mark.parametrize("arm", ScratchTrial.arms)
def test_all_decoders_are_of_one_size(arm):
    trial = ScratchTrial()
    sizes = trial._sizes()
    reference = parameter_count(make_decoder(None, sizes, 0))
    made = parameter_count(make_decoder(arm_settings(arm, trial.multiplier, trial.wide), sizes, 0))
    assert abs(made - reference) <= 0.01 * reference


def test_the_readmes_models_are_not_of_one_size():
    """The finding: 12.7 M and 9.2 M weights before embeddings, by the README's sizes."""
    sizes = {
        "hidden_size": 560,
        "intermediate_size": 512,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    }
    counts = []
    for settings in (None, arm_settings("gin", 0.5, 4.0)):
        model = load_causal_lm("tiny-llama", vocab_size=8, **sizes)
        if settings is not None:
            use_graph_attention(model, settings)
        counts.append(sum(w.numel() for w in model.model.layers.parameters()) / 1e6)
    assert counts == [pytest.approx(12.7, abs=0.05), pytest.approx(9.2, abs=0.05)]


def test_a_network_wider_than_the_model_is_refused():
    with pytest.raises(BadInputError, match="has more weights than the reference"):
        make_decoder(arm_settings("gin", 60.0, 4.0), Sizes(16, 8, 1, 2, 30), 0)


def test_losses_leave_out_padding_and_count_marks():
    model = make_decoder(None, Sizes(16, 8, 1, 2, len(VOCABULARY)), 0)
    ids, marks = encode(make_proteins(3, 24, 0))
    padded = torch.nn.functional.pad(ids, (0, 5))
    padded_marks = torch.nn.functional.pad(marks, (0, 5))
    assert losses(model, padded, padded_marks) == pytest.approx(losses(model, ids, marks), rel=1e-5)
    with torch.no_grad():
        logits = model(ids).logits[:, :-1].log_softmax(-1)
    nats = -logits.gather(2, ids[:, 1:, None])[..., 0]
    expected = (float(nats.mean()), float(nats[marks[:, 1:]].mean()))
    assert losses(model, ids, marks) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("arm", AdapterTrial.arms)
def test_all_adapters_are_of_loras_size(tiny, arm):
    model = tiny(hidden_size=64, intermediate_size=192, num_key_value_heads=2)
    wanted = lora_size(model, 4)
    tuning = FineTuning(arm, model, 4, seed=0)
    # one step of the width is one or two hundred weights
    assert sum(weight.numel() for weight in tuning.weights()) == pytest.approx(wanted, rel=0.02)


def test_the_token_network_ignores_attention(tiny):
    settings = matched_settings("mlp", tiny(), 2)
    assert (settings.edges, settings.weighted, settings.cut) == ("self", False, None)
    with pytest.raises(BadInputError, match="unknown adapter 'gin'; there are lora, gin-causal"):
        adapter_settings("gin", 4)


def test_the_loss_of_texts_counts_every_token_once(tiny):
    tokenizer = byte_tokenizer()
    rows = encode_texts(["abcdef", "ab"], tokenizer, 5)
    assert (rows == -100).sum().item() == 3
    model = load_causal_lm("tiny-llama", vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1)
    nats, count = 0.0, 0
    for row in rows:
        ids = row[row != -100]
        nats += float(model(ids[None], labels=ids[None]).loss.detach()) * (len(ids) - 1)
        count += len(ids) - 1
    assert text_loss(model, rows) == pytest.approx(nats / count, rel=1e-5)


@pytest.mark.parametrize("trial_class", [ScratchTrial, AdapterTrial])
def test_a_measurement_repeats_and_gives_its_metrics(tmp_path, trial_class):
    trial = dataclasses.replace(trial_class.quick(), lr=1e-2)
    trial.check()
    trial.prepare(0, tmp_path)
    for arm in trial.arms:
        first, second = (trial.measure(arm, 0, Watch(tmp_path)) for _ in range(2))
        assert set(first) == set(trial.metrics)
        for name in set(first) - {"tokens_per_s"}:
            assert first[name] == pytest.approx(second[name], nan_ok=True, abs=0), (arm, name)


def test_divergence_is_reported_as_a_number(tmp_path):
    trial = dataclasses.replace(ScratchTrial.quick(), lr=1e9)
    trial.prepare(0, tmp_path)
    assert trial.measure("reference", 0, Watch(tmp_path))["best_val_loss"] > 1e3


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (ScratchTrial(epochs=0), "epochs must be at least 1"),
        (ScratchTrial(lr=-1.0), "lr must be above 0"),
        (ScratchTrial(length=8), "length at least 24"),
        (ScratchTrial(multiplier=90.0), "more weights than the reference"),
        (AdapterTrial(rank=0), "rank must be at least 1"),
        (AdapterTrial(length=4), "length must be at least 8"),
        (AdapterTrial(lr=0.0), "lr must be above 0"),
    ],
)
def test_bad_settings_are_refused(trial, said):
    with pytest.raises(BadInputError, match=said):
        trial.check()


@pytest.fixture
def checkpoint(tmp_path):
    """A user's own model on disk, with its tokenizer."""
    folder = tmp_path / "own"
    load_causal_lm(
        "tiny-qwen3", vocab_size=len(byte_tokenizer()), hidden_size=32, num_hidden_layers=2
    ).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_a_users_own_model_and_data(checkpoint, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) for n in range(12)))
    trial = AdapterTrial(
        model=str(checkpoint), data=str(file), problems=8, validation=4, steps=2, batch=4, rank=2, lr=1e-2
    )
    trial.check()
    (tmp_path / "p").mkdir()
    trial.prepare(0, tmp_path / "p")
    assert trial.measure("gin-causal", 0, Watch(tmp_path / "p"))["val_loss"] > 0
    with pytest.raises(BadInputError, match="has 12 problems, and 14 are needed"):
        dataclasses.replace(trial, problems=10).check()


def test_the_deed_trains_and_saves_an_adapter(checkpoint, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 60)
    deed = AdaptWithSparseGin(
        model=str(checkpoint), text=str(text), out=tmp_path / "adapter", steps=12, length=32, lr=1e-2, width=6
    )
    told = []
    facts = deed.run(lambda done, total, what="": told.append(done))
    assert told[-1] == 12
    assert facts["validation_loss_after"] < facts["validation_loss_before"]
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    adapter = load_sparse_gin(model, tmp_path / "adapter")
    assert facts["adapter_weights"] == sum(weight.numel() for weight in adapter.parameters())
    with pytest.raises(BadInputError, match="out must be an empty or new folder"):
        deed.run(lambda *_: None)
    short = dataclasses.replace(deed, out=tmp_path / "other", length=1000)
    with pytest.raises(BadInputError, match="two are needed, one to hold out"):
        short.run(lambda *_: None)
