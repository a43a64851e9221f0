"""The digest's trials: what their numbers must be whatever the data, and what real days gave."""

from __future__ import annotations

import math
import tomllib

import pytest

from papertrial.errors import BadInputError
from papertrial.insight.digest.extractive_trial import ExtractiveTrial
from papertrial.insight.digest.formats_trial import FormatsTrial
from papertrial.insight.digest.numbers_trial import NumbersTrial
from papertrial.insight.digest.wrong_papers_trial import WrongPapersTrial, area_under_curve


class Watch:
    prepared = None

    def step(self, done, total, **values):
        assert done <= total

    def keep(self, name, artifact):
        raise AssertionError("nothing is kept")


def measure(trial, arm, seed=0):
    return trial.measure(arm, seed, Watch())


def test_area_under_the_curve_against_every_pair():
    from sklearn.metrics import roc_auc_score

    positive, negative = [0.9, 0.4, 0.4, 0.7], [0.1, 0.4, 0.5]
    wins = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    assert area_under_curve(positive, negative) == wins / 12
    assert area_under_curve(positive, negative) == pytest.approx(
        roc_auc_score([1] * 4 + [0] * 3, positive + negative)
    )


def test_every_arm_judges_the_same_statements():
    trial = NumbersTrial.quick()
    assert len({measure(trial, arm)["statements"] for arm in trial.arms}) == 1


def test_a_measurement_is_the_same_twice_and_another_for_another_seed():
    trial = NumbersTrial.quick()
    once, again, other = (measure(trial, "grounding", seed) for seed in (3, 3, 4))
    assert once == pytest.approx(again, nan_ok=True)
    assert once != other


def test_slips_of_none_leave_the_copy_as_true_as_the_extract():
    trial = ExtractiveTrial(papers=6, slips=0.0)
    assert measure(trial, "slipping-copy") == measure(trial, "extractive")
    assert measure(trial, "extractive")["grounded_fraction"] == 1.0
    # number words are not changed, and single digits coincide: what is left of 1.0
    assert measure(ExtractiveTrial(papers=6, slips=1.0), "slipping-copy")["grounded_fraction"] < 0.5


def test_numbers_on_real_days(shared_data):
    """Days that no rule was made on (every second file), other seeds: what the card says of real days."""
    days = tuple(str(file) for file in sorted((shared_data("digest") / "en").glob("*.md"))[1:12:2])
    found = measure(NumbersTrial(days=days), "grounding", seed=101)
    assert found["recall"] >= 0.97
    assert found["recall_all"] >= 0.93
    assert found["false_alarms"] <= 0.01
    strings = measure(NumbersTrial(days=days), "exact-string", seed=101)
    assert strings["false_alarms"] > 0.3


def test_wrong_papers_on_real_days(shared_data):
    days = tuple(str(file) for file in sorted((shared_data("digest") / "en").glob("*.md"))[1:12:2])
    found = measure(WrongPapersTrial(days=days), "weighted-overlap")
    assert found["auroc"] >= 0.99
    assert math.isnan(found["auroc_korean"])


def test_every_row_of_real_days_is_read(shared_data):
    trial = FormatsTrial(days=(str(shared_data("digest") / "en"),))
    parser, split = measure(trial, "parser"), measure(trial, "line-split")
    assert parser["rows"] == 418
    assert parser["rows_found"] == parser["broken_rows_found"] == parser["written_back"] == 1.0
    assert split["broken_rows_found"] == split["written_back"] == 0.0
    assert split["rows_found"] < 0.8


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        (NumbersTrial(filler=-1), "filler"),
        (NumbersTrial(papers=-1), "papers"),
        (NumbersTrial(days=("nowhere",)), "nowhere"),
        (ExtractiveTrial(slips=2.0), "slips"),
        (ExtractiveTrial(papers=-2), "papers"),
        (WrongPapersTrial(others=0), "others"),
        (FormatsTrial(made=0), "made"),
    ],
)
def test_settings_that_cannot_work_are_refused(trial, message):
    with pytest.raises(BadInputError, match=message):
        trial.check()


def test_a_folder_without_a_digest_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="no digest"):
        NumbersTrial(days=(str(tmp_path),)).check()


def test_the_cards_snippet_runs_and_says_what_it_says(capsys):
    from pathlib import Path

    import papertrial.insight.digest as room

    card = tomllib.loads((Path(room.__file__).parent / "card.toml").read_text())
    exec(card["use"]["python"], {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" The model")[0] for line in printed] == ["2.5 points derived", "93 % absent None"]
