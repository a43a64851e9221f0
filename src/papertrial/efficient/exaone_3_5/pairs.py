"""Preference pairs from several responses to one prompt, scored by one reward model and checked by another.

Source: arXiv 2412.04862, figure 2 and section 2.3.2. How the agreement of the two is measured is not given
there: here it is Kendall's τ over the responses' rankings.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import kendalltau

from papertrial.data.files import json_rows
from papertrial.errors import BadInputError

Reward = Callable[[str, Sequence[str]], Sequence[float]]
"""Scores the responses to one prompt; higher is better."""


@dataclass(frozen=True)
class PreferencePair:
    """One example of preference data.

    Attributes:
        prompt: x.
        chosen: the response with the highest score, y_w.
        rejected: the one with the lowest, y_l.
        scores: of the two.
    """

    prompt: str
    chosen: str
    rejected: str
    scores: tuple[float, float]


@dataclass(frozen=True)
class PairReport:
    """What became of the prompts.

    Attributes:
        pairs: the preference data.
        dropped: how many prompts gave no pair, by reason: "too few responses", "NaN score", "identical texts",
            "equal scores", "low agreement".
        agreement: Kendall's τ of every prompt for which it was taken, in order.
    """

    pairs: list[PreferencePair]
    dropped: dict[str, int]
    agreement: list[float]


def build_pairs(
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    reward: Reward,
    second: Reward | None = None,
    *,
    agreement: float = 0.0,
) -> PairReport:
    """Pair the best and the worst response of every prompt.

    Args:
        prompts: one for each list of responses.
        responses: of one or several models, several to each prompt. Equal texts count once.
        reward: chooses the pair.
        second: another reward model. A prompt is dropped where its ranking of the responses agrees with the
            first one's by less than `agreement`.
        agreement: the lowest Kendall's τ (-1 to 1; ties by τ-b) with which a prompt stays.

    Raises:
        BadInputError: as many prompts as lists are needed, as many scores as responses, and a τ from -1 to 1.
    """
    if len(prompts) != len(responses):
        raise BadInputError(f"each prompt needs its responses, got {len(prompts)} and {len(responses)} lists")
    if not -1.0 <= agreement <= 1.0:
        raise BadInputError(f"agreement is Kendall's τ and lies between -1 and 1, got {agreement}")
    pairs, dropped, measured = [], Counter[str](), []
    for prompt, given in zip(prompts, responses, strict=True):
        texts = list(dict.fromkeys(given))
        reason, pair = _best_and_worst(prompt, texts, len(given), reward)
        if pair is None:
            dropped[reason] += 1
            continue
        if second is not None:
            tau = kendall_tau(_scores(reward, prompt, texts), _scores(second, prompt, texts))
            measured.append(tau)
            if not tau >= agreement:  # NaN: one of the two gives all the same score
                dropped["low agreement"] += 1
                continue
        pairs.append(pair)
    return PairReport(pairs, dict(dropped), measured)


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Kendall's τ-b of two rankings, -1 to 1; NaN where one of them ranks nothing.

    Raises:
        BadInputError: the two have different lengths, or fewer than two scores.
    """
    if len(first) != len(second) or len(first) < 2:
        raise BadInputError(
            f"two rankings of two or more are needed, got {len(first)} and {len(second)} scores"
        )
    return float(kendalltau(first, second).statistic)


def clean_pairs(pairs: Iterable[PreferencePair]) -> PairReport:
    """Drop and count pairs that teach nothing: identical texts, NaN scores."""
    kept, dropped = [], Counter[str]()
    for pair in pairs:
        if pair.chosen == pair.rejected:
            dropped["identical texts"] += 1
        elif any(math.isnan(score) for score in pair.scores):
            dropped["NaN score"] += 1
        else:
            kept.append(pair)
    return PairReport(kept, dict(dropped), [])


def load_pairs(path: Path) -> PairReport:
    """Read preference data: JSON lines {"prompt", "chosen", "rejected", "scores"?: [chosen's, rejected's]}.

    Pairs that teach nothing are dropped and counted.

    Raises:
        BadInputError: no such file, no JSON, or a row without its three texts.
    """
    if not path.is_file():
        raise BadInputError(f"there is no preference file {path}")
    pairs = []
    for number, row in json_rows(path.read_text(encoding="utf-8"), path):
        for field in ("prompt", "chosen", "rejected"):
            if not isinstance(row.get(field), str):
                raise BadInputError(f"{path}:{number} has no text under {field!r}")
        scores = row.get("scores", [1.0, 0.0])
        if not (
            isinstance(scores, list) and len(scores) == 2 and all(isinstance(s, int | float) for s in scores)
        ):
            raise BadInputError(f"{path}:{number}: scores must be two numbers, got {scores!r}")
        pairs.append(
            PreferencePair(
                row["prompt"], row["chosen"], row["rejected"], (float(scores[0]), float(scores[1]))
            )
        )
    return clean_pairs(pairs)


def save_pairs(pairs: Iterable[PreferencePair], path: Path) -> None:
    """Write preference data as `load_pairs` reads it."""
    rows = (
        {"prompt": one.prompt, "chosen": one.chosen, "rejected": one.rejected, "scores": list(one.scores)}
        for one in pairs
    )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _best_and_worst(
    prompt: str, texts: list[str], given: int, reward: Reward
) -> tuple[str, PreferencePair | None]:
    if len(texts) < 2:
        return "identical texts" if given >= 2 else "too few responses", None
    scores = _scores(reward, prompt, texts)
    if any(math.isnan(score) for score in scores):
        return "NaN score", None
    best, worst = max(scores), min(scores)
    if best == worst:
        return "equal scores", None
    chosen, rejected = texts[scores.index(best)], texts[scores.index(worst)]
    return "", PreferencePair(prompt, chosen, rejected, (best, worst))


def _scores(reward: Reward, prompt: str, texts: list[str]) -> list[float]:
    scores = [float(score) for score in reward(prompt, texts)]
    if len(scores) != len(texts):
        raise BadInputError(f"the reward gave {len(scores)} scores for {len(texts)} responses to {prompt!r}")
    return scores
