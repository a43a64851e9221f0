"""From measurements to verdicts: *holds*, *fails*, *undecided*, or *untested* here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from papertrial.trial.card import Card, Claim
from papertrial.trial.contract import Metric
from papertrial.trial.evidence import Measurement
from papertrial.trial.intervals import CONFIDENCE, Interval, interval
from papertrial.trial.relation import Relation

Word = Literal["holds", "fails", "undecided", "untested", "not measured"]
SIGNS: Mapping[Word, str] = {
    "holds": "✔",
    "fails": "✘",
    "undecided": "?",
    "untested": "–",
    "not measured": "·",
}


@dataclass(frozen=True)
class Verdict:
    """What was found about one claim.

    Attributes:
        claim: the claim's name.
        word: the verdict.
        estimate, low, high: ours with its interval; None where nothing was measured.
        seeds: how many paired seeds it rests on.
        method: how the interval was made.
        p_value: against the threshold, where there is noise.
        adjusted: the verdict after Holm's correction over the paper's claims, where it differs.
        notes: what a reader must know: seeds that would decide it, skewed differences, lost seeds.
    """

    claim: str
    word: Word
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    method: str = ""
    p_value: float | None = None
    adjusted: Word | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Verdict:
        """Read one verdict back."""
        ends = {
            name: None if raw.get(name) is None else float(raw[name]) for name in ("estimate", "low", "high")
        }
        return cls(**{**raw, **ends, "notes": tuple(raw.get("notes", ()))})


def judge(
    card: Card,
    measured: Mapping[str, Sequence[Measurement]],
    metrics: Mapping[str, Mapping[str, Metric]],
) -> dict[str, Verdict]:
    """Judge every claim of a card.

    Args:
        card: the card.
        measured: measurements on fresh seeds, by trial. A trial that was not run may be missing.
        metrics: each trial's metrics.

    Returns:
        The verdicts by claim name, in the card's order, with Holm's correction over the noisy ones.
    """
    verdicts = {}
    for claim in card.claims:
        if claim.untested is not None:
            verdicts[claim.name] = Verdict(claim.name, "untested", notes=(claim.untested,))
        elif claim.trial is None or claim.metric is None or claim.trial not in measured:
            verdicts[claim.name] = Verdict(claim.name, "not measured")
        else:
            verdicts[claim.name] = _judge_claim(
                claim, measured[claim.trial], metrics[claim.trial][claim.metric]
            )
    return _with_holm(card, verdicts)


def tally(verdicts: Iterable[Verdict]) -> dict[Word, int]:
    """Count verdicts by word, in the order of `SIGNS`; words that do not occur are left out."""
    words = [verdict.word for verdict in verdicts]
    return {word: words.count(word) for word in SIGNS if word in words}


def _judge_claim(claim: Claim, measured: Sequence[Measurement], metric: Metric) -> Verdict:
    assert claim.relation is not None
    assert claim.metric is not None
    values, lost = _paired(claim, measured)
    if lost:
        note = f"no number for seed {', '.join(map(str, lost))}: a verdict without them would flatter"
        return Verdict(claim.name, "undecided", seeds=len(values), notes=(note,))
    if not values:
        return Verdict(claim.name, "not measured")
    relation = claim.relation
    if relation.quantity == "ratio" and min(values) <= 0:
        return Verdict(claim.name, "undecided", seeds=len(values), notes=("a ratio needs positive values",))
    found = interval(values, relation.threshold, metric.kind, log_scale=relation.quantity == "ratio")
    return Verdict(
        claim.name,
        _word(relation, found.low, found.high),
        found.estimate,
        found.low,
        found.high,
        len(values),
        found.method,
        found.p_value,
        notes=_notes(found),
    )


def _paired(claim: Claim, measured: Sequence[Measurement]) -> tuple[list[float], list[int]]:
    """Return the claim's quantity for every seed that has all its arms, and the seeds without a number."""
    assert claim.relation is not None
    assert claim.metric is not None
    of_arm = {one.seed: one.metrics[claim.metric] for one in measured if one.arm == claim.arm}
    against = {one.seed: one.metrics[claim.metric] for one in measured if one.arm == claim.against}
    values, lost = [], []
    for seed in sorted(of_arm if claim.against is None else of_arm.keys() & against.keys()):
        value = _quantity(claim.relation, of_arm[seed], against.get(seed, math.nan))
        if math.isfinite(value):
            values.append(value)
        else:
            lost.append(seed)
    return values, lost


def _quantity(relation: Relation, arm: float, against: float) -> float:
    match relation.quantity:
        case "value":
            return arm
        case "difference":
            return arm - against
        case "ratio":
            return arm / against if against else math.nan


def _word(relation: Relation, low: float, high: float) -> Word:
    """Say *holds* where the whole interval satisfies the relation, *fails* where all of it violates it."""
    ends = (relation.allows(low), relation.allows(high))
    if all(ends):
        return "holds"
    return "undecided" if any(ends) else "fails"


def _notes(found: Interval) -> tuple[str, ...]:
    notes = []
    if found.seeds_needed is not None:
        notes.append(f"about {found.seeds_needed} seeds would decide it")
    if found.skewed:
        notes.append("the differences are visibly one-sided: the interval may err more often than 5 %")
    return tuple(notes)


def _with_holm(card: Card, verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    """Add Holm's step-down correction over the claims of a paper that carry noise."""
    noisy = sorted(
        ((verdict.p_value, name) for name, verdict in verdicts.items() if verdict.p_value is not None),
    )
    worst = 0.0
    for rank, (p_value, name) in enumerate(noisy):
        worst = max(worst, min(1.0, (len(noisy) - rank) * p_value))
        verdict = verdicts[name]
        if verdict.word in ("holds", "fails") and worst > 1 - CONFIDENCE:
            verdicts[name] = replace(verdict, adjusted="undecided")
    return {claim.name: verdicts[claim.name] for claim in card.claims}
