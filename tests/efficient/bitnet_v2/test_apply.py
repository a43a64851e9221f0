from __future__ import annotations

import dataclasses

import pytest
from transformers import AutoModelForCausalLM

from papertrial.efficient.bitnet_v2.apply import MakeTernary, deeds
from papertrial.efficient.bitnet_v2.checkpoints import load_packed
from papertrial.efficient.bitnet_v2.packed import packed_linears
from papertrial.errors import BadInputError


@pytest.fixture
def deed(text_file, tmp_path):
    return MakeTernary(
        model="tiny-bitnet", text=str(text_file), out=tmp_path / "out", steps=40, batch=4, length=32, lr=1e-2
    )


class Progress:
    def __init__(self):
        self.calls = []

    def __call__(self, done, total, what=""):
        self.calls.append((done, total))


@pytest.mark.parametrize(
    "options", [{}, {"rotation": "none", "int4_from": 1.0}, {"accumulate": 2, "keep_latent": True}]
)
def test_trains_packs_and_loads_back(deed, options):
    progress = Progress()
    facts = dataclasses.replace(deed, **options).run(progress)
    assert progress.calls[-1] == (40, 40)
    assert facts["validation_loss_after"] < facts["validation_loss_before"] - 1
    # packed sums are whole numbers, latent ones float32: 1e-3 nats is ten codes on an edge
    assert facts["validation_loss_packed"] == pytest.approx(facts["validation_loss_after"], abs=1e-3)
    assert facts["weight_bytes"] == pytest.approx(facts["weight_bytes_bfloat16"] / 8, rel=0.01)
    bits = 8 if options.get("int4_from") == 1.0 else 4
    assert facts["activation_bits"] == bits
    layers = packed_linears(load_packed(deed.out))
    assert {layer.activation_bits for layer in layers.values()} == {bits}
    assert (deed.out / "latent").is_dir() == bool(options.get("keep_latent"))


def test_lm_evals_tasks_are_asked_of_the_original_and_of_the_packed_model(deed, monkeypatch):
    """What lm-eval itself says is held to account in the corridor's tests; here, whom it is asked of."""
    asked = []

    def answer(model, tokenizer, tasks, **settings):
        asked.append((len(packed_linears(model)) if asked else 0, tasks, settings))
        return {task: {"acc": len(asked) / 4} for task in tasks}

    monkeypatch.setattr("papertrial.efficient.evaluation.lm_eval_tasks", answer)
    facts = dataclasses.replace(deed, tasks="piqa, arc_easy", limit=5, steps=24).run(Progress())
    assert {name: value for name, value in facts.items() if "_acc_" in name} == {
        "piqa_acc_before": 0.25,
        "arc_easy_acc_before": 0.25,
        "piqa_acc_packed": 0.5,
        "arc_easy_acc_packed": 0.5,
    }
    settings = {"limit": 5, "batch_size": deed.batch}
    assert asked == [(0, ["piqa", "arc_easy"], settings), (14, ["piqa", "arc_easy"], settings)]


def test_another_model_folded_with_other_sizes(deed, tmp_path):
    from papertrial.data.tokens import byte_tokenizer
    from papertrial.models import load_causal_lm

    folder = tmp_path / "model"
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "vocab_size": 258}
    load_causal_lm("tiny-llama", **sizes).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    made = dataclasses.replace(
        deed, model=str(folder), fold_rotation=True, steps=6, warmup=1, keep_latent=True
    )
    facts = made.run(Progress())
    assert facts["ternary_layers"] == 7
    latent = AutoModelForCausalLM.from_pretrained(deed.out / "latent", ignore_mismatched_sizes=True)
    assert latent.config.papertrial_bitnet["hadamard"] == "auto"
    with pytest.raises(BadInputError, match="down_proj has 96 inputs, no size for hadamard='strict'"):
        dataclasses.replace(made, hadamard="strict", out=tmp_path / "other").run(Progress())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 2}, "steps must be at least 3"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"warmup": 30}, "warmup must end before drop and switch"),
        ({"int4_from": 1.5}, "switch above 0 and up to 1"),
        ({"second_lr": 1.0}, "second_rate must be above 0 and at most first_rate"),
        ({"text": "no-such-file.txt"}, "no-such-file.txt"),
        ({"model": "tiny-qwen2"}, "q_proj has a bias"),
        ({"lr": 1e30}, r"training diverged at step \d+; lower lr from 1e"),
    ],
)
def test_bad_input(deed, options, words):
    with pytest.raises(BadInputError, match=words):
        dataclasses.replace(deed, **options).run(Progress())
    assert not deed.out.exists()


def test_out_must_be_empty(deed):
    deed.out.mkdir()
    (deed.out / "mine.txt").write_text("mine")
    with pytest.raises(BadInputError, match="holds files already"):
        deed.run(Progress())
    with pytest.raises(BadInputError, match="is a file"):
        dataclasses.replace(deed, out=deed.out / "mine.txt").run(Progress())


def test_the_room_offers_it():
    assert deeds == {"ternary": MakeTernary}
