from __future__ import annotations

import dataclasses
import json
import math
import pickle
from pathlib import Path

import pytest
import torch

from papertrial.data.tokens import byte_tokenizer
from papertrial.efficient.layouts import layout_of
from papertrial.efficient.qwen3_quantization.evaluations import ZERO_SHOT, evaluations_of
from papertrial.efficient.qwen3_quantization.facts import fact_documents, fact_questions, make_facts
from papertrial.efficient.qwen3_quantization.study_table import as_markdown, study_table
from papertrial.efficient.qwen3_quantization.tiny_base import base_of
from papertrial.efficient.qwen3_quantization.trial import GridTrial, arm_settings, trials
from papertrial.errors import BadInputError, MissingExtraError
from papertrial.models import load_causal_lm, parameter_count


class _Watch:
    prepared = Path()

    def __init__(self):
        self.kept = {}

    def step(self, done, total, **values):
        pass

    def keep(self, name, artifact):
        self.kept[name] = artifact


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERTRIAL_HOME", str(tmp_path))


def test_facts_are_stated_evenly_and_asked_fairly():
    facts = make_facts(96, 24, seed=1)
    assert len({fact.person for fact in facts}) == 96
    assert not {fact.person for fact in facts} & {fact.town for fact in facts}
    sentences = "\n".join(fact_documents(facts, 40, seed=2)).split("\n")
    counts = [sentences.count(fact.sentence) for fact in facts]
    assert sum(counts) == len(sentences) == 480
    assert max(counts) - min(counts) <= 1
    by_person = {fact.person: fact.town for fact in facts}
    questions = fact_questions(facts, seed=3)
    for question in questions:
        assert question.choices[question.answer] == by_person[question.context.removesuffix(" lives in")]
        assert len(set(question.choices)) == 4
    places = [question.answer for question in questions]
    assert all(places.count(place) > 10 for place in range(4))  # 24 expected


def test_every_arm_is_what_its_name_says():
    for arm in GridTrial.arms[1:]:
        settings = arm_settings(arm, 32)
        settings.check()
        assert settings.group_size == (32 if arm.endswith("-group") else 128 if "billm" in arm else -1)
    assert arm_settings("gptq-3-group", 16).bits == 3
    assert arm_settings("smoothquant-w4a8", 16).method == "smoothquant"
    assert arm_settings("smoothquant-w4a8", 16).activation_bits == 8
    assert arm_settings("smoothquant-released-w4a4", 16).method == "rtn_wa"
    assert arm_settings("billm-hessian", 16).saliency == "hessian"
    assert arm_settings("rtn-3-search", 16).search
    for arm in ("full", "gptq-5"):
        with pytest.raises(BadInputError, match="unknown quantised arm"):
            arm_settings(arm, 32)


def test_a_base_has_outliers_and_the_size_that_is_printed(home):
    trial = GridTrial.quick()
    base = base_of(trial._recipe(0))
    assert f"{parameter_count(base.model) / 1e6:.2f} M parameters" in trial.scale()
    norm = layout_of(base.model).layers[0].module.input_layernorm.weight.abs()
    assert int((norm > 20 * norm.median()).sum()) == trial.outliers
    assert base.held_out.numel() == trial.held_out * trial.length
    assert base_of(trial._recipe(0)) is base  # trained and loaded once


def test_the_full_arm_is_its_own_reference_and_tables_are_kept(home):
    watch = _Watch()
    full = GridTrial.quick().measure("full", 0, watch)
    assert full["kl"] == pytest.approx(0.0, abs=1e-6)
    assert full["agreement"] == 1.0
    assert full["bytes_per_weight"] == 2.0
    assert "layers" not in watch.kept
    GridTrial.quick().measure("gptq-2", 0, watch)
    assert len(watch.kept["layers"]) == 7
    assert watch.kept["row"][0]["arm"] == "gptq-2"


@pytest.fixture
def real(tmp_path):
    """A folder as `save_pretrained` writes it, MMLU files, a calibration text and one to be measured on."""
    model = load_causal_lm("tiny-qwen3", vocab_size=300, hidden_size=32, intermediate_size=32)
    model.save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    for part, rows in (("dev", 5), ("test", 6)):
        (tmp_path / "mmlu" / part).mkdir(parents=True)
        lines = [f'"What is {n}+1?","{n}","{n + 1}","None","9","B"' for n in range(rows)]
        (tmp_path / "mmlu" / part / f"sums_{part}.csv").write_text("\n".join(lines))
    rows = [{"text": f"Document {n} says that {n * n} is its square. " * 4} for n in range(40)]
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps({"text": f"Line {n}."}) for n in range(60)))
    return tmp_path


@pytest.mark.parametrize("stream", ["wikitext2", "c4", None])
def test_a_saved_model_is_measured_on_the_text_that_the_stream_takes(home, real, stream):
    given = {} if stream is None else {"evaluation": str(real / "test.jsonl"), "stream": stream}
    trial = GridTrial(
        model=str(real / "model"),
        text=str(real / "text.jsonl"),
        mmlu=real / "mmlu",
        length=64,
        sequences=4,
        held_out=3,
        **given,
    )
    trial.check()
    full, quantised = (trial.measure(arm, 0, _Watch()) for arm in ("full", "billm"))
    assert 0 <= full["accuracy"] <= 1
    assert full["kl"] == pytest.approx(0.0, abs=1e-6)
    assert 0.2 < quantised["bytes_per_weight"] < 1
    assert quantised["kl"] > 0
    if stream is not None:  # the papers' rule, by hand: chunks of the joined text, the remainder dropped
        joined = {"wikitext2": "\n\n", "c4": " "}[stream].join(f"Line {n}." for n in range(60))
        ids = torch.tensor(byte_tokenizer().encode(joined, add_special_tokens=False))
        chunks = ids[: len(ids) // 64 * 64].view(-1, 64)
        model = load_causal_lm(str(real / "model"))
        with torch.no_grad():
            losses = [float(model(chunk[None], labels=chunk[None]).loss) for chunk in chunks]
        assert full["perplexity"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)


def _real_trial(real, **given):
    return GridTrial(
        model=str(real / "model"),
        text=str(real / "text.jsonl"),
        length=64,
        sequences=4,
        held_out=3,
        **given,
    )


def test_several_texts_and_tasks_have_a_metric_each(home, real, monkeypatch):
    """The first text is what one text alone would be; tasks go to lm-eval, which is held to elsewhere."""
    first, second = str(real / "test.jsonl"), str(real / "text.jsonl")
    asked = []

    def tasks(model, tokenizer, names, *, shots):
        asked.append((tuple(names), shots))
        return {name: {"acc": 0.25, "acc_norm": 0.5} for name in names}

    monkeypatch.setattr("papertrial.efficient.evaluation.lm_eval_adapter.lm_eval_tasks", tasks)
    both = _real_trial(real, evaluation=f"{first}, {second},lm-eval:zero-shot", stream="wikitext2,c4")
    both.check()
    watch = _Watch()
    got = both.measure("rtn-8", 0, watch)
    assert (
        set(got)
        == set(both.metrics)
        == set(GridTrial.metrics)
        | {
            "perplexity_test",
            "perplexity_text",
            *ZERO_SHOT,
        }
    )
    assert asked == [(ZERO_SHOT, 0)]
    assert [got[task] for task in ZERO_SHOT] == [0.25] * 6
    for text, rule, name in ((first, "wikitext2", "perplexity_test"), (second, "c4", "perplexity_text")):
        alone = _real_trial(real, evaluation=text, stream=rule)
        assert alone.metrics == GridTrial.metrics
        assert got[name] == pytest.approx(alone.measure("rtn-8", 0, _Watch())["perplexity"])
    assert got["perplexity"] == got["perplexity_test"]
    assert watch.kept["row"][0]["piqa"] == 0.25
    assert (
        dataclasses.replace(both, group=16).metrics
        == pickle.loads(pickle.dumps(both)).metrics
        == both.metrics
    )
    row = study_table([{"arm": "rtn-8", "metrics": got}], 32)
    assert "| bits/weight | perplexity | kl | agreement | accuracy | perplexity_test |" in as_markdown(row)


def test_tasks_need_the_extra(real, monkeypatch):
    monkeypatch.setattr("papertrial.efficient.qwen3_quantization.evaluations.find_spec", lambda name: None)
    _real_trial(real, evaluation="a.txt").check()
    with pytest.raises(MissingExtraError, match=r"lm-eval is not installed.*papertrial\[evaluation\]"):
        _real_trial(real, evaluation="a.txt,lm-eval:piqa").check()


@pytest.mark.parametrize(
    ("evaluation", "stream", "message"),
    [
        ("a.txt", "wikitext", "unknown stream 'wikitext'"),
        ("a.txt,b.txt", "c4,c4,c4", "one for each of 2 texts"),
        ("x/a.txt,y/a.jsonl", "c4", "must differ in name"),
        ("a.txt,lm-eval:piqa,lm-eval:zero-shot", "c4", "must differ in name"),
        ("a.txt,,b.txt", "c4", "empty name"),
        ("lm-eval:", "c4", "empty name"),
    ],
)
def test_evaluations_that_cannot_be_told_apart_are_refused(evaluation, stream, message):
    with pytest.raises(BadInputError, match=message):
        GridTrial(model="somewhere", evaluation=evaluation, stream=stream)
    assert evaluations_of("a.txt,lm-eval:piqa,b.txt", "c4").streams == ("c4", "c4")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"group": 48}, "group must divide hidden = 128, got 48"),
        ({"outliers": 129}, "outliers must lie between 0 and hidden = 128"),
        ({"mmlu": "somewhere"}, "mmlu is for real models"),
        ({"length": 1}, "length must be at least 2"),
        ({"evaluation": "somewhere"}, "evaluation is for real models"),
        ({"stream": "c5"}, "unknown stream 'c5'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(BadInputError, match=message):
        GridTrial(**settings).check()
    with pytest.raises(BadInputError, match="sequences must be at least 4"):
        trials["calibration"](sequences=2).check()
