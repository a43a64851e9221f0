"""How the report averages benchmarks: three groups, ten-point scores times ten, dashes for what cannot be run.

Source: arXiv 2412.04862, notes of tables 5 to 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from papertrial.efficient.exaone_3_5.published import GENERAL, LONG_CONTEXT, REAL_WORLD, SCORES
from papertrial.errors import BadInputError, unknown

GROUPS: Mapping[str, tuple[str, ...]] = {
    "real-world": REAL_WORLD,
    "long-context": LONG_CONTEXT,
    "general": GENERAL,
}
OUT_OF_TEN = ("MT-Bench", "KoMT-Bench", "LogicKor")
"""Benchmarks scored out of 10; they count tenfold."""
NEEDED_CONTEXT = 16_384
"""Tokens. Models that take no more get dashes, not zeros, in the long-context group."""


def macro_mean(scores: Mapping[str, float | None], benchmarks: Sequence[str]) -> float | None:
    """Return the mean over benchmarks, each counting once, out of 100; None where all are dashes.

    Raises:
        BadInputError: a benchmark is missing, only some are dashes, or a score lies outside its range.
    """
    values = []
    for name in benchmarks:
        if name not in scores:
            raise unknown("benchmark", name, scores)
        value = scores[name]
        most = 10 if name in OUT_OF_TEN else 100
        if value is not None and not 0 <= value <= most:
            raise BadInputError(f"{name} is scored out of {most}, got {value}")
        values.append(None if value is None else value * 100 / most)
    present = [value for value in values if value is not None]
    if not present:
        return None
    if len(present) < len(values):
        raise BadInputError(
            f"some of {', '.join(benchmarks)} are dashes and some are not; a mean over the rest misleads"
        )
    return sum(present) / len(present)


def group_averages(scores: Mapping[str, float | None], context: int | None = None) -> dict[str, float | None]:
    """Return the average of each of the three groups.

    Args:
        scores: by benchmark; None is a dash.
        context: tokens that the model takes. At 16K or below the long-context group is a dash whatever its
            scores.

    Raises:
        BadInputError: as `macro_mean`.
    """
    averages = {}
    for group, benchmarks in GROUPS.items():
        short = group == "long-context" and context is not None and context <= NEEDED_CONTEXT
        averages[group] = None if short else macro_mean(scores, benchmarks)
    return averages


def published_averages() -> dict[str, dict[str, float | None]]:
    """Return the three averages of every model of the report, recomputed from its own rows."""
    return {model: group_averages(scores) for model, scores in SCORES.items()}
