from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import papertrial.efficient.apollo as room
from papertrial.efficient.apollo.arms import make_optimizer, state_bytes
from papertrial.efficient.apollo.step_trial import StepTrial
from papertrial.efficient.apollo.trial import PretrainTrial, trials
from papertrial.errors import BadInputError
from papertrial.trial.card import load_card


class Watch:
    def __init__(self, folder):
        self.prepared = folder
        self.losses = []

    def step(self, done, total, **values):
        assert done <= total
        self.losses.append(values.get("loss"))

    def keep(self, name, artifact):
        raise AssertionError("nothing is kept")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    PretrainTrial.quick().prepare(0, folder)
    return folder


def middle(trial, arm):
    values = trial.grid[arm]["lr"]
    return dataclasses.replace(trial, lr=values[len(values) // 2])


@pytest.mark.parametrize("arm", PretrainTrial.arms)
def test_every_arm_measures_every_metric_and_repeats_itself(arm, prepared):
    trial = middle(PretrainTrial.quick(), arm)
    trial.check()
    watch = Watch(prepared)
    first, again = trial.measure(arm, 3, watch), trial.measure(arm, 3, Watch(prepared))
    assert set(first) == set(trial.metrics)
    assert len(watch.losses) == trial.steps
    assert watch.losses[-1] < watch.losses[0]
    assert 0 < first["val_loss"] < math.log(258)  # better than knowing nothing
    assert {name: first[name] for name in first if name != "step_ms"} == {
        name: again[name] for name in again if name != "step_ms"
    }
    assert trial.measure(arm, 4, Watch(prepared))["val_loss"] != first["val_loss"]


def test_state_bytes_are_the_papers_formula(prepared):
    """Counted by hand for hidden 32, ffn 64, one layer, 258 tokens: 4 square weights and 3 of 32 x 64."""
    trial = dataclasses.replace(PretrainTrial.quick(), lr=1e-3)
    measured = {arm: trial.measure(arm, 0, Watch(prepared)) for arm in trial.arms}
    dense = 2 * 258 * 32 + 3 * 32
    channels, matrices = 4 * 32 + 3 * 64, 4 * 32 * 32 + 3 * 32 * 64
    rank, m, count = 8, 32, 7
    expected = {
        "adamw": 4 * 2 * matrices + 4 * count,  # and a step counter for each
        "adamw-two-rates": 4 * 2 * matrices + 4 * count,
        "sgd": 4 * matrices,
        "galore": 4 * (2 * rank * channels + count * m * rank),
        "galore-random": 4 * 2 * rank * channels,  # the seed, an int, redraws the projection
        "apollo": 4 * (2 * rank * channels + count),
        "apollo-half": 4 * (2 * rank // 2 * channels + count),
        "apollo-svd": 4 * (2 * rank * channels + count + count * m * rank),
        "q-apollo": 4 * (2 * rank * channels + count),
        "apollo-mini": 4 * (2 * channels + count),
    }
    assert {arm: measured[arm]["matrix_state_bytes"] for arm in trial.arms} == expected
    assert measured["apollo"]["state_bytes"] == expected["apollo"] + 4 * 2 * dense
    assert measured["apollo"]["cache_bytes"] == 4 * count * m * rank


def test_a_rate_that_diverges_is_a_result(prepared):
    trial = dataclasses.replace(PretrainTrial.quick(), lr=1e6)
    for arm in ("sgd", "apollo"):
        loss = trial.measure(arm, 0, Watch(prepared))["val_loss"]
        assert loss > math.log(258) or math.isnan(loss)


def test_every_arm_is_tuned_over_as_many_rates():
    assert set(PretrainTrial.grid) == set(PretrainTrial.arms)
    assert {len(points["lr"]) for points in PretrainTrial.grid.values()} == {3}


def test_two_rates_are_a_tenth_apart(tiny_llama):
    options = {"rank": 8, "gap": 4, "mini_scale": 128.0, "galore_scale": 0.25, "seed": 0}
    optimizer = make_optimizer("adamw-two-rates", tiny_llama(), lr=0.03, **options)
    dense, matrices = optimizer.param_groups
    assert [group["lr"] for group in (dense, matrices)] == pytest.approx([0.03, 0.003])
    assert {p.ndim for p in matrices["params"]} == {2}
    assert len(matrices["params"]) == 7


def test_validation_text_is_not_trained_on(prepared):
    from safetensors.torch import load_file

    blocks = load_file(prepared / "blocks.safetensors")
    seen = {tuple(row) for row in blocks["training"].tolist()}
    assert len(blocks["validation"]) > 50
    assert not seen & {tuple(row) for row in blocks["validation"].tolist()}


def test_a_users_own_model_and_text(saved_model, text_file, tmp_path):
    trial = PretrainTrial(model=str(saved_model), text=str(text_file), steps=4, batch=2, length=16, lr=3e-3)
    trial.check()
    trial.prepare(0, tmp_path)
    for arm in ("adamw", "apollo", "apollo-mini"):
        measured = trial.measure(arm, 0, Watch(tmp_path))
        assert math.isfinite(measured["val_loss"])
    assert str(saved_model) in trial.scale()


def test_a_trained_vocabulary(text_file, tmp_path):
    trial = dataclasses.replace(PretrainTrial.quick(), text=str(text_file), vocabulary=300, lr=1e-2)
    trial.prepare(0, tmp_path)
    assert trial.measure("apollo", 0, Watch(tmp_path))["val_loss"] < math.log(300)


@pytest.mark.parametrize("arm", StepTrial.arms)
def test_step_trial_times_every_arm(arm, tmp_path):
    trial = StepTrial.quick()
    measured = trial.measure(arm, 0, Watch(tmp_path))
    assert set(measured) == set(trial.metrics)
    assert all(value > 0 for value in measured.values())
    low, high = sorted((measured["plain_step_ms"], measured["refresh_step_ms"]))
    assert low <= measured["step_ms"] <= high


def test_step_trial_counts_a_refresh_once_in_gap_steps(monkeypatch, tmp_path):
    from papertrial.efficient.apollo import lowrank

    draws = []
    original = lowrank.draw_projection
    monkeypatch.setattr(lowrank, "draw_projection", lambda *a, **k: draws.append(a) or original(*a, **k))
    StepTrial.quick().measure("apollo", 0, Watch(tmp_path))
    assert len(draws) == 2 * 7  # the first step and the one timed as a refresh, of seven weights each


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (PretrainTrial(steps=0), "steps must be at least 1, got 0"),
        (PretrainTrial(length=1), "length must be at least 2, got 1"),
        (PretrainTrial(mini_scale=0.0), "mini_scale must be above 0"),
        (PretrainTrial(lr=-1.0), "lr must be above 0"),
        (PretrainTrial(rank=65), r"rank of model.layers.0.self_attn.q_proj.weight \(64 x 64\) .* 64, got 65"),
        (PretrainTrial(model="some/folder", hidden=32), "hidden can be set for toy models only"),
        (StepTrial(hidden=2), "hidden must be at least 4"),
        (StepTrial(repeats=0), "repeats must be at least 1"),
    ],
)
def test_settings_that_cannot_work(trial, words):
    with pytest.raises(BadInputError, match=words):
        trial.check()


def test_unknown_arm_and_untuned_rate(tmp_path):
    with pytest.raises(BadInputError, match="unknown arm 'apolo'; did you mean apollo"):
        make_optimizer(
            "apolo", torch.nn.Linear(2, 2), lr=1.0, rank=1, gap=1, mini_scale=1.0, galore_scale=1.0, seed=0
        )
    with pytest.raises(BadInputError, match="lr is tuned by the runner"):
        PretrainTrial.quick().measure("apollo", 0, Watch(tmp_path))


def test_state_bytes_counts_tensors_of_torchs_own_optimizers():
    weight = torch.nn.Parameter(torch.ones(10, 3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.grad = torch.ones(10, 3)
    optimizer.step()
    assert state_bytes(optimizer) == 10 * 3 * 4


def test_card_fits_the_trials():
    card = load_card(Path(room.__file__).parent)
    for claim in card.tested:
        kind = trials[claim.trial]
        assert claim.metric in kind.metrics, claim.name
        assert claim.arm in kind.arms, claim.name
        assert claim.against in kind.arms, claim.name
    tests = Path(__file__).parents[3]
    for finding in card.findings:
        if not finding.check.startswith("trial "):
            file, _, name = finding.check.partition("::")
            assert f"def {name}(" in (tests / file).read_text(), finding.check


def test_the_cards_snippet_works(saved_model):
    card = load_card(Path(room.__file__).parent)
    code = card.use.python.replace("Qwen/Qwen3-0.6B", str(saved_model)).replace("rank=256", "rank=8")
    names = {}
    exec(compile(code, "card.toml", "exec"), names)
    assert isinstance(names["optimizer"], room.Apollo)


def test_trials_and_deeds_are_read_without_torch():
    code = (
        "import sys, papertrial.efficient.apollo.trial, papertrial.efficient.apollo.apply;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_room_exports_what_it_names():
    from papertrial.efficient import Apollo

    assert Apollo is room.Apollo
    assert all(getattr(room, name).__name__ == name for name in room.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Adam'"):
        _ = room.Adam


def test_quick_runs_through_the_runner(tmp_path):
    """The command a user types, with two arms, evidence and verdicts included."""
    command = [sys.executable, "-m", "papertrial", "try", "apollo.pretrain", "--quick", "--seeds", "2"]
    environment = {"PAPERTRIAL_HOME": str(tmp_path), "PATH": str(Path(shutil.which("env")).parent)}
    ran = subprocess.run(
        [*command, "--arms", "adamw,apollo", "--workers", "1", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "beats-adamw" in ran.stdout
