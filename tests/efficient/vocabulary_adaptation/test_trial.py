from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from papertrial.efficient import vocabulary_adaptation as room
from papertrial.efficient.vocabulary_adaptation.arms import Starting, begin
from papertrial.efficient.vocabulary_adaptation.languages import language_pair
from papertrial.efficient.vocabulary_adaptation.size_trial import SizeTrial
from papertrial.efficient.vocabulary_adaptation.speed_trial import GenerationTrial
from papertrial.efficient.vocabulary_adaptation.trial import AdaptationTrial
from papertrial.errors import BadInputError
from papertrial.trial.card import load_card


class Watch:
    def __init__(self, folder):
        self.prepared = folder
        self.steps = []

    def step(self, done, total, **values):
        self.steps.append((done, total))

    def keep(self, name, artifact):
        raise AssertionError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    trial = AdaptationTrial.quick()
    trial.prepare(5, folder)
    return trial, folder


def measured(trial, arm, folder, lr=3e-3):
    import dataclasses

    watch = Watch(folder)
    return dataclasses.replace(trial, lr=lr).measure(arm, 5, watch), watch


def test_one_measurement(prepared):
    trial, folder = prepared
    found, watch = measured(trial, "fvt", folder)
    assert set(found) == set(trial.metrics)
    assert all(math.isfinite(value) for value in found.values())
    assert watch.steps[-1] == (8, 8)
    assert found["target_bits_end"] < found["target_bits_start"]
    again, _ = measured(trial, "fvt", folder)
    assert found == again


def test_the_arms_differ_where_they_should(prepared):
    trial, folder = prepared
    found = {arm: measured(trial, arm, folder)[0] for arm in ("lapt", "random", "clp-released", "sava-lstsq")}
    assert math.isnan(found["lapt"]["helper_similarity"])
    assert found["lapt"]["target_fertility"] > 1.2 * found["random"]["target_fertility"]
    assert found["lapt"]["parameters"] + 2 * 100 * 16 == found["random"]["parameters"]
    starts = {arm: one["target_bits_start"] for arm, one in found.items()}
    assert len(set(starts.values())) == 4
    ends = {arm: one["target_fertility"] for arm, one in found.items() if arm != "lapt"}
    assert len(set(ends.values())) == 1


def test_fewer_anchors_change_sava_and_nothing_else(prepared):
    trial, folder = prepared
    start = Starting.load(folder, trial.model, trial.helper)
    for arm, same in (("fvt", True), ("random", True), ("sava-lstsq", False)):
        rows = [begin(arm, start, 5, anchors)[0].get_input_embeddings().weight for anchors in (None, 60)]
        assert torch.equal(*rows) == same
    with pytest.raises(BadInputError, match=r"anchors must be between 2 and the \d+ shared tokens, got 9999"):
        begin("sava", start, 5, 9999)


def test_a_diverging_arm_reports_infinity(prepared):
    trial, folder = prepared
    found, _ = measured(trial, "fvt", folder, lr=1e30)
    assert set(found) == set(trial.metrics)
    assert found["target_bits_end"] == math.inf


def test_resize_keeps_the_rows_in_their_order(prepared):
    trial, folder = prepared
    start = Starting.load(folder, trial.model, trial.helper)
    model, tokenizer = begin("resize", start, 5)
    old = start.model.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight[: len(old)], old)
    assert len(tokenizer) == model.get_input_embeddings().num_embeddings == 500
    with pytest.raises(BadInputError, match="unknown arm 'focus'"):
        begin("focus", start, 5)


def test_the_made_up_languages():
    pair = language_pair(3)
    again = language_pair(3)
    assert pair.words == again.words
    assert language_pair(4).words != pair.words
    content = [(first, second) for kind, first, second in pair.words if kind < 6]
    kept = np.mean([first == second for first, second in content])
    assert (
        0.18 < kept < 0.35
    )  # a quarter kept, 500 draws: three standard deviations either side, and chance twins
    assert len({first for first, _ in content}) > 490
    first, second = (" ".join(pair.documents(language, 50, 1)) for language in (0, 1))
    known = {form.lower() for _, *both in pair.words for form in both}
    assert {word.strip(".").lower() for word in first.split()} <= known
    assert first != second
    assert pair.documents(0, 2, 1) == pair.documents(0, 2, 1)
    with pytest.raises(BadInputError, match="at least 20 words"):
        language_pair(0, words=3)


def test_the_grammar_is_shared():
    """The share of each word class is the same in both languages; 1500 words: within a few per cent."""
    pair = language_pair(3)
    shares = []
    for language in (0, 1):
        kind_of = {}
        for kind, *both in pair.words:
            kind_of.setdefault(both[language], kind)
        words = " ".join(pair.documents(language, 60, 1)).replace(".", "").lower().split()
        counts = np.bincount([kind_of[word] for word in words], minlength=7)
        shares.append(counts / counts.sum())
    assert np.abs(shares[0] - shares[1]).max() < 0.05


def test_published_sizes():
    """Table 1: 7.24 and 8.03 billion weights; 7.25 with 32,768 tokens."""
    counts = {arm: SizeTrial().measure(arm, 0, Watch(None))["parameters"] for arm in SizeTrial.arms}
    billions = {arm: round(count / 1e9, 2) for arm, count in counts.items()}
    assert billions == {
        "mistral-7b": 7.24,
        "mistral-7b-adapted": 7.25,
        "llama-3.1-8b": 8.03,
        "llama-3.1-8b-adapted": 7.25,
    }


def test_the_generation_trial():
    trial = GenerationTrial.quick()
    found = {arm: trial.measure(arm, 0, Watch(None)) for arm in trial.arms}
    assert found["adapted"]["characters_per_token"] > 1.3 * found["source"]["characters_per_token"]
    for one in found.values():
        wanted = one["tokens_per_second"] * one["characters_per_token"]
        assert one["characters_per_second"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 7}, "steps must be at least 8"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"length": 1}, "length must be at least 2"),
        ({"share": 1.5}, "share must lie between 0 and 1"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"anchors": 1}, "anchors must be at least 2, got 1"),
        ({"target_text": "it.txt"}, "both be 'procedural', or neither"),
        ({"helper": "some/where"}, "both be tiny models, or neither"),
    ],
)
def test_settings_that_cannot_work(options, message):
    with pytest.raises(BadInputError, match=message):
        AdaptationTrial(**options).check()


def test_speed_settings_that_cannot_work():
    with pytest.raises(BadInputError, match="needs target and text"):
        GenerationTrial(model="some/where").check()
    with pytest.raises(BadInputError, match="new_tokens must be at least 1"):
        GenerationTrial(new_tokens=0).check()
    with pytest.raises(BadInputError, match="vocabulary must be at least 1"):
        SizeTrial(vocabulary=0).check()


def test_the_cards_snippet_works(tmp_path, monkeypatch, build, source_tokenizer, target_tokenizer):
    for name, model, tokenizer in (
        ("source", build(320), source_tokenizer),
        ("helper", build(380, width=16, seed=3), target_tokenizer),
    ):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    code = load_card(Path(room.__file__).parent).use.python
    for named, there in (
        ("mistralai/Mistral-7B-v0.1", "source"),
        ("sapienzanlp/Minerva-3B-base-v1.0", "helper"),
    ):
        code = code.replace(named, str(tmp_path / there))
    names = {}
    exec(compile(code, "card.toml", "exec"), names)
    assert names["report"].new > 0
    assert (tmp_path / "adapted" / "tokenizer.json").is_file()


def test_trials_and_deeds_are_read_without_torch():
    code = (
        "import sys, papertrial.efficient.vocabulary_adaptation.trial,"
        "papertrial.efficient.vocabulary_adaptation.apply;sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_room_exports_what_it_names():
    assert all(getattr(room, name).__name__ == name for name in room.__all__)
    with pytest.raises(AttributeError, match="no attribute 'FOCUS'"):
        _ = room.FOCUS
