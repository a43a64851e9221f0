from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm
from papertrial.serving.retroinfer.apply import GenerateWithRetroInfer, deeds
from papertrial.serving.retroinfer.trial import AttentionTrial, HostileTrial, ModelTrial, trials


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Keep the trained toy model out of the user's home; all tests of a run share it."""
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path_factory.getbasetemp() / "papertrial-home"))


class FakeWatch:
    def __init__(self, prepared: Path) -> None:
        self.prepared = prepared
        self.steps: list[tuple[int, int]] = []

    def step(self, done, total, **values):
        assert all(math.isfinite(value) for value in values.values())
        self.steps.append((done, total))

    def keep(self, name, artifact):
        raise AssertionError("this room keeps no artifacts")


def measured(trial, folder, seed=0):
    trial.check()
    trial.prepare(seed, folder)
    found = {}
    for arm in trial.arms:
        watch = FakeWatch(folder)
        found[arm] = trial.measure(arm, seed, watch)
        assert set(found[arm]) == set(trial.metrics)
    return found


def test_the_quick_attention_trial_shows_what_it_claims(tmp_path):
    found = measured(AttentionTrial.quick(), tmp_path)
    # float32 against float64.
    assert found["dense"]["error"] < 1e-4
    assert found["sdpa"]["error"] < 1e-4
    assert found["dense"]["step_bytes"] == 2 * 2048 * 2 * 32 * 4
    assert math.isnan(found["dense"]["build_seconds"])
    assert math.isnan(found["best-tokens"]["payback_steps"])
    assert found["retroinfer"]["error"] < found["retrieval-only"]["error"]
    assert found["retroinfer"]["mass_exact"] == found["retrieval-only"]["mass_exact"]
    assert found["retroinfer"]["mass_touched"] > found["retroinfer"]["mass_exact"]
    assert found["retroinfer"]["step_bytes"] < 0.25 * found["dense"]["step_bytes"]
    assert found["retroinfer"]["build_seconds"] > 0
    assert found["quest"]["build_seconds"] > 0
    # Queries move a little from step to step, so most of their clusters are still cached.
    assert 0.2 < found["retroinfer"]["hit_ratio"] <= 1
    assert 0 <= found["retroinfer"]["moved_bytes"] < found["retroinfer"]["step_bytes"]
    assert found["retroinfer"]["hit_ratio"] == found["retrieval-only"]["hit_ratio"]
    assert math.isnan(found["quest"]["hit_ratio"])


def test_the_quick_hostile_trial_loses(tmp_path):
    found = measured(replace(HostileTrial.quick(), context=2048), tmp_path)
    assert HostileTrial.quick().data == "hostile"
    assert found["retroinfer"]["error"] > 0.5
    assert found["best-tokens"]["mass_exact"] < 0.3


def test_the_quick_model_trial_runs(tmp_path):
    found = measured(ModelTrial.quick(), tmp_path)
    assert math.isnan(found["dense"]["clusters_touched"])
    assert found["retroinfer"]["clusters"] == 64
    # nprobe 1 and es 15 of 64 clusters.
    assert found["retroinfer"]["clusters_touched"] == pytest.approx(25.0)
    assert found["retrieval-only"]["clusters_touched"] == pytest.approx(100 / 64)
    assert all(0 <= one["accuracy"] <= 100 for one in found.values())


def test_retrieving_everything_answers_as_dense(tmp_path):
    found = measured(replace(ModelTrial.quick(), retrieve=1.0, estimate=0.0), tmp_path)
    assert found["retroinfer"]["accuracy"] == found["dense"]["accuracy"]


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """Return the folder of a small untrained model with a tokenizer of bytes."""
    folder = tmp_path_factory.mktemp("model")
    vocabulary = {chr(i): i for i in range(32, 127)} | {"\n": 10, "?": 63}
    tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(vocabulary)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)
    load_causal_lm("tiny-llama", vocab_size=128, initializer_range=0.2).save_pretrained(folder)
    return folder


def test_a_users_model_and_official_data_run_the_same_trial(saved_model, tmp_path):
    record = {"index": 0, "input": "Which letter? " * 100 + "Answer:", "outputs": ["A"], "length": 1407}
    data = tmp_path / "ruler.json"
    data.write_text(json.dumps([record, record]))
    trial = ModelTrial(model=str(saved_model), data=str(data), context=1200, contexts=1, max_new_tokens=3)
    found = measured(trial, tmp_path)
    # The index's own defaults: 1407 tokens make 88 clusters.
    assert found["retroinfer"]["clusters"] == 88
    assert math.isnan(found["dense"]["clusters"])
    made = ModelTrial(model=str(saved_model), data="needle", context=1300, contexts=1, max_new_tokens=3)
    made.check()
    assert made.measure("retroinfer", 0, FakeWatch(tmp_path))["clusters"] in (80, 88)
    assert "needle" in made.scale()


def test_the_deed_generates_what_greedy_decoding_does(saved_model, tmp_path):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("The river was low that week. " * 45)
    told = []
    deed = deeds["generate"](
        model=str(saved_model),
        prompt=prompt,
        max_new_tokens=12,
        retrieve=1.0,
        estimate=0.0,
        out=tmp_path / "answer.txt",
    )
    facts = deed.run(lambda done, total, what="": told.append((done, total)))
    assert facts["mode"] == "indexed"
    assert facts["prompt_tokens"] == len("The river was low that week. " * 45)
    assert facts["new_tokens"] == 12
    assert facts["clusters"] == 80
    assert told[0] == (0, 12)
    assert told[-1] == (12, 12)
    from papertrial.models import load_tokenizer

    tokenizer, model = load_tokenizer(str(saved_model)), load_causal_lm(str(saved_model)).eval()
    ids = tokenizer(prompt.read_text(), return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**ids, max_new_tokens=12, do_sample=False)
    assert (tmp_path / "answer.txt").read_text() == tokenizer.decode(out[0, ids["input_ids"].shape[1] :])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"prompt": Path("/none/such.txt")}, "no prompt file at"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"retrieve": 2.0}, "retrieve must be above 0 and at most 1"),
        ({"model": "/none/such"}, "/none/such"),
    ],
)
def test_the_deed_refuses_early(changed, said, saved_model, tmp_path):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("text")
    deed = replace(GenerateWithRetroInfer(model=str(saved_model), prompt=prompt), **changed)
    with pytest.raises(BadInputError, match=said):
        deed.run(lambda done, total, what="": None)


def test_an_empty_prompt_is_refused(tmp_path):
    (tmp_path / "prompt.txt").write_text(" \n")
    with pytest.raises(BadInputError, match="is empty"):
        GenerateWithRetroInfer(model="x", prompt=tmp_path / "prompt.txt").run(lambda *_: None)


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (AttentionTrial(context=1000), "context must be at least 1092, .* got 1000"),
        (AttentionTrial(steps=0), "steps must be at least 1, got 0"),
        (AttentionTrial(retrieve=0.8, estimate=0.4), r"retrieve \+ estimate must be at most 1"),
        (ModelTrial(data="needle"), "the tiny model knows only data=recall, got 'needle'"),
        (ModelTrial(model="m", data="recall"), "data must be a RULER file or one of needle"),
        (ModelTrial(context=100), "24 keys in phrases of 4 need a context of 192 tokens, got 100"),
        (ModelTrial(model="m", data="needle"), "context must be at least 1092, .* got 512"),
        (ModelTrial(contexts=0), "contexts must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_measured(trial, said):
    with pytest.raises(BadInputError, match=said):
        trial.check()


def test_the_defaults_pass_their_own_check():
    for kind in trials.values():
        kind().check()
        kind.quick().check()
        assert kind().scale()
