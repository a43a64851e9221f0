from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import papertrial.efficient.exaone_3_5 as room
from papertrial.efficient.exaone_3_5.decontamination_trial import DecontaminationTrial
from papertrial.efficient.exaone_3_5.long_context_trial import LongContextTrial
from papertrial.efficient.exaone_3_5.preference_trial import PreferenceTrial
from papertrial.efficient.exaone_3_5.toy_preferences import (
    END,
    MOST_TOKENS,
    PROMPTS,
    demonstrations,
    encode_rows,
    make_pairs,
    proxy_reward,
    reward_at,
    sample,
    second_reward,
    true_reward,
)
from papertrial.efficient.exaone_3_5.trial import trials
from papertrial.errors import BadInputError
from papertrial.trial.card import load_card


class Watch:
    def __init__(self, folder):
        self.prepared = folder
        self.kept = {}

    def step(self, done, total, **values):
        assert 0 < done <= total

    def keep(self, name, artifact):
        self.kept[name] = artifact


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folders = {}
    for kind in trials.values():
        folders[kind] = tmp_path_factory.mktemp(kind.__name__)
        kind.quick().prepare(0, folders[kind])
    return folders


@pytest.mark.parametrize("kind", trials.values(), ids=trials)
def test_every_arm_measures_every_metric_and_repeats_itself(kind, prepared):
    trial = kind.quick()
    trial.check()
    for arm in trial.arms:
        watch = Watch(prepared[kind])
        first, again = trial.measure(arm, 0, watch), trial.measure(arm, 0, Watch(prepared[kind]))
        assert set(first) == set(trial.metrics)
        assert all(math.isfinite(value) for value in first.values())
        assert {n: v for n, v in first.items() if n != "megabytes_a_second"} == {
            n: v for n, v in again.items() if n != "megabytes_a_second"
        }
        if kind is LongContextTrial:
            assert [type(figure).__name__ for figure in watch.kept.values()] == ["Figure"]


def test_rules_rank_as_the_arithmetic_says(prepared):
    """Whole copies: exhaustive and GPT-4's rule find all; nobody sees paraphrases or accuses clean texts."""
    trial = DecontaminationTrial.quick()
    found = {arm: trial.measure(arm, 0, Watch(prepared[DecontaminationTrial])) for arm in trial.arms}
    for arm in ("exhaustive", "gpt4"):
        assert found[arm]["recall"] == 1.0
    assert found["exhaustive"]["recall_short"] == 1.0
    assert found["sampled-10"]["recall_short"] == 0.0
    assert found["sampled-10"]["recall_20000"] < 0.5
    for values in found.values():
        assert values["recall_paraphrased"] == values["recall_case"] == values["false_positives"] == 0.0


def test_real_items_may_be_planted(shared_data, tmp_path):
    tests = shared_data("qwen3_quantization") / "mmlu" / "test" / "anatomy_test.csv"
    trial = dataclasses.replace(DecontaminationTrial.quick(), documents=3, tests=str(tests))
    trial.prepare(0, tmp_path)
    assert trial.measure("exhaustive", 0, Watch(tmp_path))["recall"] == 1.0
    assert "anatomy" in trial.scale()


def test_the_flawed_reward_likes_chatter_and_the_true_one_does_not():
    """Means over all prompts and 24 chatters a length, so that the models' whims (±0.1) average out."""
    chatters = [["abcd"[(n >> k) % 4] for k in range(6)] for n in range(24)]

    def mean(reward, length):
        values = [
            reward(prompt, max(prompt[0], prompt[2]) + "".join(one[:length]))
            for prompt in PROMPTS
            for one in chatters
        ]
        return sum(values) / len(values)

    for reward, sign in ((true_reward, -1), (second_reward, -1), (proxy_reward, 1)):
        assert sign * (mean(reward, 6) - mean(reward, 0)) > 0.05
        assert mean(reward, 0) > 0.9
    assert true_reward("3>5=", "5") == 1.0
    assert true_reward("3>5=", "3ab") == pytest.approx(-0.1)
    assert true_reward("3>5=", "") == 0.0


class Scripted(torch.nn.Module):
    """A model whose next id is one more than the last, and the end after 'd'."""

    def forward(self, input_ids, use_cache):
        logits = torch.full((*input_ids.shape, END + 1), -1e4)
        return type(
            "Out", (), {"logits": logits.scatter(2, (input_ids + 1).unsqueeze(-1).clamp(max=END), 0.0)}
        )


def test_sampling_follows_the_model_and_stops_at_the_end():
    """From '=' (id 11) a script of +1 gives a, b, c, d and the end."""
    assert sample(Scripted(), PROMPTS[:3], torch.Generator().manual_seed(0)) == ["abcd"] * 3
    assert MOST_TOKENS > 4


def test_demonstrations_are_right_as_often_as_asked():
    """4,000 of them: 0.6 and a tenth of the rest, within five binomial standard errors (0.038)."""
    prompts, responses = demonstrations(4000, torch.Generator().manual_seed(0))
    share = sum(r[0] == max(p[0], p[2]) for p, r in zip(prompts, responses, strict=True)) / 4000
    assert abs(share - (0.6 + 0.4 * 0.1)) < 0.038
    tokens, completion = encode_rows(prompts[:5], responses[:5])
    assert (tokens[completion] == END).sum() == 5
    assert not completion[:, :4].any()
    with pytest.raises(BadInputError, match="it has no"):
        encode_rows(["x"], ["1"])


def test_models_that_say_one_thing_give_no_pairs():
    with pytest.raises(BadInputError, match="no prompt has rankings that agree"):
        make_pairs([Scripted(), Scripted()], 3, 0.0, torch.Generator().manual_seed(0))


def test_reward_on_the_path_at_a_divergence():
    kl, reward = torch.tensor([0.0, 1.0, 3.0, 2.0]), torch.tensor([0.0, 4.0, 8.0, 9.0])
    assert reward_at(kl, reward, 2.0) == pytest.approx(6.0)
    assert reward_at(kl, reward, 0.5) == pytest.approx(2.0)
    assert reward_at(kl, reward, 5.0) == 9.0


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (DecontaminationTrial(documents=0), "documents must be at least 1, got 0"),
        (DecontaminationTrial(window=30), "window must lie between 41 and 60"),
        (LongContextTrial(short=20), "short must be at least 28"),
        (LongContextTrial(long=48), "below long"),
        (LongContextTrial(replay=0.0), r"lies in \(0, 1\), got 0.0"),
        (LongContextTrial(tokens=100), "holds no text of 192"),
        (LongContextTrial(lr=-1.0), "lr must be above 0"),
        (PreferenceTrial(responses=1), "responses must be at least 2"),
        (PreferenceTrial(budget=0.0), "budget must be above 0"),
        (PreferenceTrial(agreement=2.0), "from -1 to 1"),
        (PreferenceTrial(lr=0.0), "lr must be above 0"),
    ],
)
def test_settings_that_cannot_work(trial, words):
    with pytest.raises(BadInputError, match=words):
        trial.check()


def test_an_untuned_rate_is_refused(prepared):
    for kind, arm in ((LongContextTrial, "long"), (PreferenceTrial, "dpo")):
        trial = dataclasses.replace(kind.quick(), lr=None)
        with pytest.raises(BadInputError, match="lr is tuned by the runner"):
            trial.measure(arm, 0, Watch(prepared[kind]))


def test_divergence_is_a_result(prepared):
    for kind, arm in ((LongContextTrial, "long"), (PreferenceTrial, "dpo")):
        measured = dataclasses.replace(kind.quick(), lr=1e30).measure(arm, 0, Watch(prepared[kind]))
        assert set(measured) == set(kind.metrics)
        assert any(not math.isfinite(value) for value in measured.values())


def test_the_cards_snippet_works(tmp_path, monkeypatch):
    (tmp_path / "mmlu" / "test").mkdir(parents=True)
    (tmp_path / "mmlu" / "test" / "a.csv").write_text(
        f"{'Which of these is a long question' * 3}?,a,b,c,d,A\n"
    )
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(load_card(Path(room.__file__).parent).use.python, "card.toml", "exec"), names)
    assert names["leak"] is None
    assert names["missed"] == pytest.approx(0.88, abs=0.005)


def test_trials_and_deeds_are_read_without_torch():
    code = (
        "import sys, papertrial.efficient.exaone_3_5.trial, papertrial.efficient.exaone_3_5.apply;"
        "sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_room_exports_what_it_names():
    assert all(getattr(room, name).__name__ == name for name in room.__all__)
