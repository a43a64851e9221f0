"""Intervals: held to scipy's own, to closed forms, and to simulated trials whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from papertrial.trial.card import Card, Claim, PaperNumber
from papertrial.trial.contract import Metric
from papertrial.trial.evidence import Measurement
from papertrial.trial.intervals import interval
from papertrial.trial.relation import Relation
from papertrial.trial.verdict import judge

NOISES = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy-tailed": lambda rng, size: rng.standard_t(3, size=size),
    "skewed": lambda rng, size: rng.exponential(size=size),
}
TRIALS = 2000


def word(claim_relation, arm, against, kind="sampled"):
    """Judge one claim on simulated values, through the same call that a real run uses."""
    claim = Claim("c", "says", PaperNumber("1", "t"), "t", "m", "a", "b", Relation.parse(claim_relation))
    card = Card("p", "efficient", "T", "2501.00001", None, "why", {}, (claim,))
    measured = [
        Measurement(name, seed, {"m": float(value)})
        for name, values in (("a", arm), ("b", against))
        for seed, value in enumerate(values)
    ]
    return judge(card, {"t": measured}, {"t": {"m": Metric("", "lower", kind)}})["c"].word


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
def test_without_an_effect_holds_is_rarely_said(noise, seeds):
    """At most 5 % of 2,000 null trials (nominally 2.5 %, one side of a two-sided 95 % interval)."""
    rng = np.random.default_rng(seeds)
    draws = NOISES[noise](rng, (TRIALS, 2, seeds))
    wrong = sum(word("difference < 0", arm, against) == "holds" for arm, against in draws)
    assert wrong / TRIALS <= 0.05


def test_without_an_effect_ratios_and_timed_pairs_are_rarely_said_to_hold():
    rng = np.random.default_rng(0)
    draws = np.exp(rng.normal(scale=0.3, size=(TRIALS, 2, 10)))
    for kind in ("sampled", "timed"):
        wrong = sum(word("ratio < 1", arm, against, kind) == "holds" for arm, against in draws)
        assert wrong / TRIALS <= 0.05


@pytest.mark.parametrize("noise", NOISES)
def test_a_clear_effect_is_found(noise):
    """An effect of three standard deviations of one arm's noise, ten seeds: found in over 90 %."""
    rng = np.random.default_rng(1)
    draws = NOISES[noise](rng, (500, 2, 10))
    spread = np.std(NOISES[noise](rng, 100_000))
    found = sum(word("difference < 0", arm - 3 * spread, against) == "holds" for arm, against in draws)
    assert found / 500 > 0.9


def test_between_no_effect_and_a_clear_one_it_is_undecided():
    """Half a standard deviation at five seeds: neither word is said in most trials."""
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(500, 2, 5))
    words = [word("difference < 0", arm - 0.5, against) for arm, against in draws]
    assert words.count("undecided") / 500 > 0.7


def test_the_t_interval_is_scipys():
    values = [0.1, -0.3, 0.5, 0.2]
    found = interval(values, 0.0, "sampled", log_scale=False)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)
    assert found.p_value == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, rel=1e-12)


def test_a_ratio_is_averaged_on_its_logarithm():
    values = [0.5, 0.8, 1.25, 2.0]
    found = interval(values, 1.0, "sampled", log_scale=True)
    assert found.estimate == pytest.approx(1.0)
    assert found.low * found.high == pytest.approx(1.0)  # symmetric in the logarithm


def test_ten_timed_pairs_use_the_second_and_the_ninth():
    values = [float(one) for one in (5, 3, 8, 1, 9, 2, 7, 4, 6, 10)]
    found = interval(values, 0.5, "timed", log_scale=True)
    assert (found.low, found.high, found.estimate) == (2.0, 9.0, 5.5)


@pytest.mark.parametrize("count", range(6, 40))
def test_the_median_interval_covers_95_percent_and_no_narrower_one_does(count):
    """Coverage of the k-th to the (n+1-k)-th order statistic: 1 - 2 P(Bin(n, 1/2) < k)."""
    found = interval([float(one) for one in range(1, count + 1)], 0.5, "timed", log_scale=True)
    rank = int(found.low)
    assert found.high == count + 1 - rank
    assert 1 - 2 * stats.binom.cdf(rank - 1, count, 0.5) >= 0.95
    assert 1 - 2 * stats.binom.cdf(rank, count, 0.5) < 0.95


def test_too_few_seeds_or_pairs_give_no_interval():
    assert math.isinf(interval([1.0], 0.0, "sampled", log_scale=False).low)
    assert math.isinf(interval([0.5] * 5, 1.0, "timed", log_scale=True).high)


def test_exact_numbers_decide_by_themselves():
    found = interval([0.4, 0.4, 0.4], 0.5, "exact", log_scale=True)
    assert (found.low, found.high, found.p_value) == (0.4, 0.4, None)
    mixed = interval([0.4, 0.6], 0.5, "exact", log_scale=True)
    assert (mixed.low, mixed.high) == (0.4, 0.6)  # a count that depends on the seed must hold at every one


def test_from_thirty_seeds_on_the_interval_is_bca():
    values = np.random.default_rng(3).exponential(size=40).tolist()
    found = interval(values, 0.0, "sampled", log_scale=False)
    assert "BCa" in found.method
    t = stats.t.interval(0.95, 39, loc=np.mean(values), scale=stats.sem(values))
    assert found.low > t[0]  # a right-skewed sample: BCa moves up
    assert found.high == pytest.approx(t[1], rel=0.1)


def test_the_seeds_needed_are_the_fewest_that_decide():
    values = [0.3, -0.2, 0.5]
    found = interval(values, 0.0, "sampled", log_scale=False)
    spread, mean = float(np.std(values, ddof=1)), float(np.mean(values))
    half = {n: stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n) for n in range(2, 200)}
    assert found.seeds_needed == min(n for n, width in half.items() if width < mean)


def test_one_sided_differences_are_flagged():
    assert interval([0.0] * 12 + [0.01, 0.02, 5.0], 0.0, "sampled", log_scale=False).skewed
    assert not interval([-1.0, -0.5, 0.0, 0.5, 1.0], 0.0, "sampled", log_scale=False).skewed
