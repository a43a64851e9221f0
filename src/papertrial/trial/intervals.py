"""Two-sided 95 % intervals over paired seeds. The method and its limits: docs/verdicts.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from papertrial.trial.contract import MetricKind

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 30
_RESAMPLES = 9_999
_MOST_SEEDS = 1_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        estimate: the mean (sampled), geometric mean (sampled ratio), median (timed) or mean (exact).
        low, high: the ends; infinite where too few seeds allow none.
        method: how it was made, for printing.
        p_value: two-sided, against the threshold it was made for; None where there is no noise.
        seeds_needed: about how many seeds would put the threshold outside; None where it is outside
            already or no reasonable number would do.
        skewed: whether the paired numbers are visibly one-sided, so that t may err more often.
    """

    estimate: float
    low: float
    high: float
    method: str
    p_value: float | None
    seeds_needed: int | None
    skewed: bool = False


def interval(values: Sequence[float], threshold: float, kind: MetricKind, log_scale: bool) -> Interval:
    """Return the interval of paired numbers (one for each seed), as the metric's kind asks.

    Args:
        values: finite differences, ratios or values, one for each seed.
        threshold: the number a claim holds them against.
        kind: the metric's kind.
        log_scale: whether the values are ratios: a sampled ratio is averaged as its logarithm.
    """
    if kind == "exact":
        mean = math.fsum(values) / len(values)
        return Interval(mean, min(values), max(values), "exact", None, None)
    if kind == "timed":
        return _median_interval(values, threshold)
    if not log_scale:
        return _mean_interval(values, threshold)
    logs = _mean_interval([math.log(value) for value in values], math.log(threshold))
    return Interval(
        math.exp(logs.estimate),
        _exp(logs.low),
        _exp(logs.high),
        f"{logs.method} on log ratios",
        logs.p_value,
        logs.seeds_needed,
        logs.skewed,
    )


def _mean_interval(values: Sequence[float], threshold: float) -> Interval:
    from scipy import stats

    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Interval(mean, -math.inf, math.inf, "one seed: no interval", 1.0, None)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    error = spread / math.sqrt(count)
    if error <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean, f"no variation over {count} seeds", float(mean == threshold), None)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    p_value = 2 * float(stats.t.sf(abs(mean - threshold) / error, count - 1))
    low, high, method = mean - half, mean + half, f"Student t, {count} seeds"
    if count >= BOOTSTRAP_FROM:
        low, high = _bootstrap(values)
        method = f"BCa bootstrap, {count} seeds"
    needed = _seeds_for_mean(abs(mean - threshold), spread) if low <= threshold <= high else None
    return Interval(mean, low, high, method, p_value, needed, _visibly_skewed(values, mean, spread))


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    import numpy as np
    from scipy import stats

    found = stats.bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _median_interval(values: Sequence[float], threshold: float) -> Interval:
    """Distribution-free: the k-th smallest to the k-th largest, k as large as 95 % coverage allows."""
    from scipy import stats

    ordered = sorted(values)
    count = len(ordered)
    median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    rank = int(stats.binom.ppf((1 - CONFIDENCE) / 2, count, 0.5))
    while rank > 0 and 2 * stats.binom.cdf(rank - 1, count, 0.5) > 1 - CONFIDENCE:
        rank -= 1
    below = sum(value < threshold for value in ordered)
    above = sum(value > threshold for value in ordered)
    p_value = float(stats.binomtest(below, below + above).pvalue) if below + above else 1.0
    if rank == 0:
        return Interval(median, -math.inf, math.inf, f"{count} pairs: too few for an interval", p_value, 10)
    low, high = ordered[rank - 1], ordered[count - rank]
    needed = _pairs_for_median(below, above) if low <= threshold <= high else None
    return Interval(
        median, low, high, f"order statistics {rank} and {count + 1 - rank} of {count}", p_value, needed
    )


def _seeds_for_mean(distance: float, spread: float) -> int | None:
    """Return how many seeds would make a t interval of this spread shorter than the distance."""
    if distance == 0:
        return None
    for count, half in enumerate(_half_widths(), start=2):
        if half * spread < distance:
            return count
    return None


@cache
def _half_widths() -> list[float]:
    """Return the half widths of t intervals of unit spread, for 2, 3, … seeds."""
    import numpy as np
    from scipy import stats

    counts = np.arange(2, _MOST_SEEDS + 1)
    widths: list[float] = (stats.t.ppf((1 + CONFIDENCE) / 2, counts - 1) / np.sqrt(counts)).tolist()
    return widths


def _pairs_for_median(below: int, above: int) -> int | None:
    """Return how many pairs would decide, were the share on the larger side to stay as it is."""
    if below == above:
        return None
    share = max(below, above) / (below + above)
    count = math.ceil((1.96 / (2 * share - 1)) ** 2) + 4
    return count if count <= _MOST_SEEDS else None


def _visibly_skewed(values: Sequence[float], mean: float, spread: float) -> bool:
    """Say whether the sample skewness is over twice its standard error (never below five seeds)."""
    count = len(values)
    if count < 5:
        return False
    third = math.fsum(((value - mean) / spread) ** 3 for value in values)
    skewness = count / ((count - 1) * (count - 2)) * third
    error = math.sqrt(6 * count * (count - 1) / ((count - 2) * (count + 1) * (count + 3)))
    return abs(skewness) > 2 * error


def _exp(value: float) -> float:
    return math.inf if value > 700 else math.exp(value)
