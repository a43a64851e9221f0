"""From measurements to verdicts: words, lost seeds, Holm's correction."""

from __future__ import annotations

import math

import pytest

from papertrial.trial.card import load_card
from papertrial.trial.contract import Metric
from papertrial.trial.evidence import Measurement
from papertrial.trial.files import to_json
from papertrial.trial.verdict import Verdict, judge, tally

METRICS = {
    "noise": {"loss": Metric("nats", "lower"), "bytes": Metric("bytes", "lower", kind="exact")},
    "timing": {"ms": Metric("ms", "lower", kind="timed")},
}


@pytest.fixture
def card(lab):
    return load_card(lab.folder, "lab_paper", "efficient")


def measured(method, baseline, other=1.0):
    return [
        Measurement(arm, seed, {"loss": loss, "bytes": 40.0 if arm == "method" else 100.0})
        for arm, losses in (("method", method), ("baseline", baseline))
        for seed, loss in enumerate(losses)
    ]


def test_each_word(card):
    base = [5.0, 5.1, 4.9]
    words = {
        "holds": [4.0, 4.1, 3.9],
        "fails": [6.0, 6.15, 5.9],
        "undecided": [5.5, 4.6, 5.0],
    }
    for word, method in words.items():
        verdicts = judge(card, {"noise": measured(method, base)}, METRICS)
        assert verdicts["lower"].word == word
        assert verdicts["small"].word == "holds"  # exact: 40 of 100 bytes
        assert verdicts["fast"].word == "not measured"
        assert verdicts["large"].word == "untested"
        assert list(verdicts) == ["lower", "small", "fast", "large"]


def test_undecided_says_how_many_seeds_would_do(card):
    verdict = judge(card, {"noise": measured([4.6, 5.0, 4.9], [5.0, 5.1, 4.9])}, METRICS)["lower"]
    assert verdict.word == "undecided"
    assert "seeds would decide it" in verdict.notes[0]


def test_a_seed_without_a_number_is_never_left_out_in_silence(card):
    verdict = judge(card, {"noise": measured([4.0, math.nan, 3.9], [5.0, 5.1, 4.9])}, METRICS)["lower"]
    assert verdict.word == "undecided"
    assert "seed 1" in verdict.notes[0]


def test_only_paired_seeds_count(card):
    verdict = judge(card, {"noise": measured([4.0, 4.1, 3.9, 0.0], [5.0, 5.1, 4.9])}, METRICS)["lower"]
    assert verdict.seeds == 3


def test_holm_is_stricter_only_where_several_claims_carry_noise(card):
    """p = 0.04 alone holds; beside a second noisy claim its adjusted p is 0.08."""
    noise = measured([4.90, 4.93, 4.91], [5.0, 5.1, 5.0])
    timing = [
        Measurement(arm, seed, {"ms": ms})
        for seed in range(10)
        for arm, ms in (("method", 0.94 if seed % 2 else 0.95), ("baseline", 1.05))
    ]
    alone = judge(card, {"noise": noise}, METRICS)["lower"]
    assert alone.word == "holds"
    assert 0.025 < alone.p_value < 0.05
    assert alone.adjusted is None
    beside = judge(card, {"noise": noise, "timing": timing}, METRICS)["lower"]
    assert beside.word == "holds"
    assert beside.adjusted == "undecided"


def test_a_verdict_comes_back_from_json():
    import json

    verdict = Verdict("c", "undecided", 0.5, -math.inf, math.inf, 1, "one seed", 1.0, None, ("a note",))
    from dataclasses import asdict

    assert Verdict.from_json(json.loads(to_json(asdict(verdict)))) == verdict


def test_the_tally_counts_words(card):
    verdicts = judge(card, {"noise": measured([4.0, 4.1, 3.9], [5.0, 5.1, 4.9])}, METRICS)
    assert tally(verdicts.values()) == {"holds": 2, "untested": 1, "not measured": 1}
