from __future__ import annotations

import dataclasses

import pytest

from papertrial.errors import BadInputError
from papertrial.posttrain.prmbench.arms import reward_model_scorer, trivial_scorer
from papertrial.posttrain.prmbench.rows import items_of, write_rows
from papertrial.posttrain.prmbench.trial import ProceduralTrial, RowsTrial


class Watcher:
    def __init__(self, prepared):
        self.prepared = prepared
        self.kept = {}
        self.steps = []

    def step(self, done, total, **values):
        self.steps.append((done, total))

    def keep(self, name, artifact):
        self.kept[name] = artifact


def measure(trial, arm, folder, seed=0):
    watch = Watcher(folder)
    numbers = trial.measure(arm, seed, watch)
    assert set(numbers) == set(trial.metrics)
    return numbers, watch


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("procedural")
    ProceduralTrial.quick().prepare(0, folder)
    return folder


@pytest.mark.parametrize("arm", ProceduralTrial.arms)
def test_every_procedural_arm_is_measured(prepared, arm):
    numbers, watch = measure(ProceduralTrial.quick(), arm, prepared)
    assert numbers["validity_rate"] == 1
    assert len(watch.kept["classes"]) == 11
    if arm == "oracle":
        assert numbers["prmscore"] == numbers["ms"] == numbers["first_error_accuracy"] == 100
    elif arm == "always-good":
        assert numbers["prmscore"] == pytest.approx(watch.kept["chance"][0]["prmscore"])
    if arm.startswith("prm-"):
        assert watch.steps[-1] == (10, 10)


def test_a_measurement_is_a_pure_function(prepared):
    trial = ProceduralTrial.quick()
    assert measure(trial, "prm-all-steps", prepared)[0] == measure(trial, "prm-all-steps", prepared)[0]


@pytest.mark.parametrize("arm", RowsTrial.arms)
def test_every_arm_runs_on_rows_of_the_users_own(tmp_path, row, arm):
    kinds = ("redundency", "counterfactual", "deception")
    rows = [
        row(idx=f"p{number}", original_question=f"question {number}", classification=kind)
        for number in range(8)
        for kind in kinds
    ]
    write_rows([*rows, rows[0]], tmp_path / "mine.jsonl")
    trial = RowsTrial(data=str(tmp_path))
    trial.check()
    numbers, watch = measure(trial, arm, tmp_path / "nowhere")
    assert numbers["items"] == 12
    assert numbers["steps"] == 36
    assert [line["oddity"] for line in watch.kept["irregular-rows"]] == ["duplicate id"]


def test_a_scorer_of_the_users_own_is_loaded(tmp_path, tokenizer, classifier):
    tokenizer.save_pretrained(tmp_path / "prm")
    classifier.save_pretrained(tmp_path / "prm")
    trial = RowsTrial(problems=10, scorer=str(tmp_path / "prm"), convention="trl", batch=2)
    trial.check()
    (tmp_path / "rows").mkdir()
    trial.prepare(0, tmp_path / "rows")
    numbers, watch = measure(trial, "scorer", tmp_path / "rows")
    assert numbers["validity_rate"] == 1
    assert watch.steps[-1][0] == watch.steps[-1][1]
    short = dataclasses.replace(trial, max_tokens=300)
    assert measure(short, "scorer", tmp_path / "rows")[0]["validity_rate"] < 1


def test_settings_that_cannot_work_are_refused(tmp_path):
    for field in ("training_problems", "tuning_problems", "problems"):
        with pytest.raises(BadInputError, match=f"{field} must be at least 10, got 9"):
            ProceduralTrial(**{field: 9}).check()
    with pytest.raises(BadInputError, match="steps must be at least 1"):
        ProceduralTrial(steps=0).check()
    with pytest.raises(BadInputError, match="lr must lie"):
        ProceduralTrial(lr=-1.0).check()
    with pytest.raises(BadInputError, match="there is no file or folder"):
        RowsTrial(data=str(tmp_path / "none")).check()
    with pytest.raises(BadInputError, match="unknown convention 'qwen'; did you mean qwen-prm"):
        RowsTrial(convention="qwen").check()
    with pytest.raises(BadInputError, match="name the convention"):
        RowsTrial(scorer="someone/some-model").check()
    with pytest.raises(BadInputError, match="batch must be at least 1"):
        RowsTrial(batch=0).check()
    RowsTrial(scorer="Qwen/Qwen2.5-Math-PRM-7B").check()


def test_unknown_arms_are_named(row, tmp_path):
    items = items_of([row()])[0]
    with pytest.raises(BadInputError, match="unknown trivial scorer 'coins'; did you mean coin"):
        trivial_scorer("coins", items, 0)
    with pytest.raises(BadInputError, match="unknown arm 'prm-none'"):
        reward_model_scorer("prm-none", tmp_path, items, steps=1, batch=1, lr=0.1, seed=0)


def test_the_scale_says_what_ran():
    assert "7 + 9 steps" in ProceduralTrial(language_steps=7, steps=9).scale()
    assert "files" in RowsTrial(data="x").scale()
    assert "procedural" in RowsTrial().scale()
