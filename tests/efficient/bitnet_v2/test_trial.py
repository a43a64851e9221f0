from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import papertrial.efficient.bitnet_v2 as room
from papertrial.efficient.bitnet_v2.trial import (
    AfterTrainingTrial,
    PackedTrial,
    SitesTrial,
    TrainingTrial,
    trials,
)
from papertrial.errors import BadInputError
from papertrial.trial.card import load_card


class Watch:
    def __init__(self, folder=None):
        self.prepared = folder
        self.calls = []

    def step(self, done, total, **values):
        assert done <= total
        self.calls.append(values)

    def keep(self, name, artifact):
        raise AssertionError("nothing is kept")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    TrainingTrial.quick().prepare(0, folder)
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    AfterTrainingTrial.quick().prepare(3, folder)
    return folder


@pytest.mark.parametrize("arm", TrainingTrial.arms)
def test_every_arm_trains_and_repeats_itself(arm, prepared):
    trial = TrainingTrial.quick()
    watch = Watch(prepared)
    first, again = trial.measure(arm, 3, watch), trial.measure(arm, 3, Watch(prepared))
    assert set(first) == set(trial.metrics)
    assert len(watch.calls) == trial.steps
    assert first["val_loss"] < math.log(258)
    assert {k: v for k, v in first.items() if v == v} == {k: v for k, v in again.items() if v == v}
    unknown = {name for name, value in first.items() if math.isnan(value)}
    assert len(unknown) == (6 if arm == "full" else 0)
    assert trial.measure(arm, 4, Watch(prepared))["val_loss"] != first["val_loss"]


def test_arms_start_from_the_same_weights_and_differ_only_as_named():
    trial = TrainingTrial.quick()
    same = [trial._build(1, "silu").state_dict() for _ in range(2)]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])
    from papertrial.efficient.bitnet_v2.recipes import RECIPES

    assert set(RECIPES) == set(TrainingTrial.arms)
    assert len({(r.rotation, r.bits, r.activation) for n, r in RECIPES.items() if n != "full"}) == 7


def test_every_arm_is_tuned_as_carefully_and_its_best_rate_lies_inside():
    """As many rates an arm, each twice the one before; the reference run chose none at an end."""
    chosen = json.loads((Path(room.__file__).parent / "reference.json").read_text())["trials"]["training"][
        "points"
    ]
    for arm, points in TrainingTrial.grid.items():
        rates = points["lr"]
        assert len(rates) == 3
        assert [high / low for low, high in pairwise(rates)] == pytest.approx([2.0, 2.0])
        assert rates[0] < chosen[arm]["lr"] < rates[-1]


def test_divergence_is_a_result(prepared):
    trial = dataclasses.replace(TrainingTrial.quick(), lr=1e30)
    measured = trial.measure("v2-a4", 0, Watch(prepared))
    assert measured["diverged"] == 1.0
    assert math.isnan(measured["val_loss"])


@pytest.mark.parametrize("arm", AfterTrainingTrial.arms)
def test_arms_after_training(arm, bases):
    trial = AfterTrainingTrial.quick()
    first = trial.measure(arm, 3, Watch(bases))
    assert set(first) == {"val_loss"}
    assert first == trial.measure(arm, 3, Watch(bases))
    assert 1 < first["val_loss"] < 2 * math.log(258)


def test_arms_after_training_differ_from_their_bases(bases):
    trial = AfterTrainingTrial.quick()
    losses = {arm: trial.measure(arm, 3, Watch(bases))["val_loss"] for arm in trial.arms}
    assert len(set(losses.values())) == len(losses)


def test_sites_show_the_rotation_and_normal_values_do_not_care():
    plain, rotated = (SitesTrial().measure(arm, 0, Watch()) for arm in SitesTrial.arms)
    assert rotated["planted_error"] < 0.2 * plain["planted_error"]
    # both are the closed form of normal values, 0.01313, to a few parts in a hundred
    assert rotated["normal_error"] == pytest.approx(0.01313, rel=0.05)
    assert plain["normal_error"] == pytest.approx(0.01313, rel=0.05)


@pytest.mark.parametrize("arm", PackedTrial.arms)
def test_packed_times_every_arm(arm):
    measured = PackedTrial.quick().measure(arm, 0, Watch())
    assert all(value > 0 for value in measured.values())
    weights = 4 * 64**2 + 3 * 64 * 128
    assert measured["weight_bytes"] == (4 * weights if arm == "float32" else weights // 4 + 4 * 7)


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (TrainingTrial(steps=8), "steps must be at least 24"),
        (TrainingTrial(lr=-1.0), "lr must be above 0"),
        (TrainingTrial(model="some/folder", hidden=32), "hidden can be set for tiny-bitnet only"),
        (AfterTrainingTrial(learning_steps=0), "learning_steps must be at least 1"),
        (AfterTrainingTrial(learning_rate=0.0), "learning_rate must be above 0"),
        (SitesTrial(features=12), "features must be a power of two, got 12"),
        (SitesTrial(channels=-1), "channels must be between 0"),
        (PackedTrial(hidden=96), "hidden must be a power of two"),
        (PackedTrial(tokens=0), "tokens must be at least 1"),
    ],
)
def test_settings_that_cannot_work(trial, words):
    with pytest.raises(BadInputError, match=words):
        trial.check()


def test_a_rate_must_be_tuned_or_given(prepared):
    with pytest.raises(BadInputError, match="lr is tuned by the runner"):
        dataclasses.replace(TrainingTrial.quick(), lr=None).measure("full", 0, Watch(prepared))


def test_a_users_own_model(tmp_path, text_file):
    from papertrial.data.tokens import byte_tokenizer
    from papertrial.models import load_causal_lm

    folder = tmp_path / "model"
    load_causal_lm("tiny-llama", vocab_size=258, hidden_size=32, intermediate_size=64).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    trial = TrainingTrial(model=str(folder), text=str(text_file), steps=24, batch=2, length=16, lr=1e-3)
    trial.check()
    trial.prepare(0, tmp_path)
    for arm in ("full", "v2-a4"):
        assert math.isfinite(trial.measure(arm, 0, Watch(tmp_path))["val_loss"])
    assert str(folder) in trial.scale()


def test_the_cards_snippet_works(bitnet, tmp_path):
    bitnet(hidden=32, ffn=48).save_pretrained(tmp_path)
    code = load_card(Path(room.__file__).parent).use.python
    names = {}
    exec(compile(code.replace("microsoft/bitnet-b1.58-2B-4T-bf16", str(tmp_path)), "card", "exec"), names)
    assert names["model"](input_ids=torch.arange(4)[None]).logits.isfinite().all()


def test_trials_and_deeds_are_read_without_torch():
    code = (
        "import sys, papertrial.efficient.bitnet_v2.trial, papertrial.efficient.bitnet_v2.apply;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_room_exports_what_it_names():
    assert all(getattr(room, name).__name__ == name for name in room.__all__)
    with pytest.raises(AttributeError, match="no attribute 'BitNet3'"):
        _ = room.BitNet3
    assert set(trials) == {"training", "after-training", "sites", "packed"}
