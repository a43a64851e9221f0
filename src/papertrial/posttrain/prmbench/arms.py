"""The scorers that the trials compare, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from papertrial.errors import unknown
from papertrial.models import load_causal_lm, load_token_classifier
from papertrial.posttrain.prmbench.chance import BernoulliScorer, ConstantScorer
from papertrial.posttrain.prmbench.metrics import good_share
from papertrial.posttrain.prmbench.oracle import DerivationOracle
from papertrial.posttrain.prmbench.procedural import (
    SEPARATOR,
    correct_texts,
    derivation_tokenizer,
    make_rows,
)
from papertrial.posttrain.prmbench.rows import Item, write_rows
from papertrial.posttrain.prmbench.surface import LengthRule, SurfaceScorer
from papertrial.posttrain.prmbench.tiny_prm import (
    LAYOUT,
    REGIMES,
    classifier_examples,
    language_examples,
    tiny_classifier,
    tiny_language_model,
    train_steps,
)
from papertrial.posttrain.step_models import classifier_scorer, log_probability_scorer
from papertrial.posttrain.steps import StepScorer

SURFACES: Mapping[str, tuple[str, ...]] = {
    "surface-position": ("position",),
    "surface-length": ("position", "length"),
    "surface-overlap": ("position", "length", "overlap"),
}
PARTS = ("training", "tuning", "benchmark")
_LANGUAGE_MODEL = "language-model"
_LANGUAGE_SEEDS = 1_000_000  # far from the seeds of the three sets of rows


def trivial_scorer(arm: str, fitting: Sequence[Item], seed: int) -> StepScorer:
    """Return a scorer that reads no mathematics, fitted where there is anything to fit.

    Args:
        arm: "always-good", "base-rate", "coin", "length-rule", or one of `SURFACES`.
        fitting: items whose errors are known.
        seed: draws the answers of those that guess.

    Raises:
        BadInputError: another name.
    """
    if arm in SURFACES:
        return SurfaceScorer(SURFACES[arm]).fit(fitting)
    makers: dict[str, Callable[[], StepScorer]] = {
        "always-good": lambda: ConstantScorer(1.0),
        "base-rate": lambda: BernoulliScorer(good_share(fitting), seed),
        "coin": lambda: BernoulliScorer(0.5, seed),
        "length-rule": LengthRule,
    }
    if arm not in makers:
        raise unknown("trivial scorer", arm, [*makers, *SURFACES])
    return makers[arm]()


def write_procedural_sets(folder: Path, counts: Sequence[int], seed: int) -> None:
    """Write rows for training, tuning and the benchmark, of different problems, in the official format.

    Args:
        folder: where a folder for each of `PARTS` is made.
        counts: how many problems each has.
        seed: draws them; no two seeds and no two parts share a problem.
    """
    for part, (name, count) in enumerate(zip(PARTS, counts, strict=True)):
        (folder / name).mkdir()
        rows = make_rows(count, seed=len(PARTS) * seed + part)
        write_rows(rows, folder / name / "procedural.jsonl")


def train_base(folder: Path, *, derivations: int, steps: int, batch: int, lr: float, seed: int) -> None:
    """Train a language model on correct derivations, each of a problem of its own, and save it."""
    tokenizer = derivation_tokenizer()
    model = tiny_language_model(tokenizer, seed)
    examples = language_examples(correct_texts(derivations, seed=_LANGUAGE_SEEDS + seed), tokenizer)
    train_steps(model, examples, steps=steps, seed=seed, lr=lr, batch_size=batch)
    model.save_pretrained(folder / _LANGUAGE_MODEL)


def language_model_scorer(folder: Path) -> StepScorer:
    """Return the saved language model as a scorer by log-probability."""
    model = load_causal_lm(str(folder / _LANGUAGE_MODEL))
    return log_probability_scorer(model, derivation_tokenizer(), separator=SEPARATOR)


def reward_model_scorer(
    arm: str,
    folder: Path,
    training: Sequence[Item],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> StepScorer:
    """Train a process reward model from the saved language model, and return it as a scorer.

    Args:
        arm: `prm-` and the kind of labels ("prm-first-error", "prm-all-steps").
        folder: where `train_base` saved.
        training: items to learn from.
        steps: optimiser steps.
        batch: solutions in a batch.
        lr: peak learning rate.
        seed: draws the new head and the order of the batches.
        on_step: told the loss.

    Raises:
        BadInputError: another kind of labels.
    """
    regime = arm.removeprefix("prm-")
    if regime not in REGIMES:
        raise unknown("arm", arm, [f"prm-{one}" for one in REGIMES])
    tokenizer = derivation_tokenizer()
    model = load_token_classifier(str(folder / _LANGUAGE_MODEL), 2, seed=seed)
    examples = classifier_examples(training, tokenizer, regime)
    train_steps(model, examples, steps=steps, seed=seed, lr=lr, batch_size=batch, on_step=on_step)
    return classifier_scorer(model, tokenizer, layout=LAYOUT)


def oracle_scorer() -> StepScorer:
    """Return the scorer that does every procedural derivation again."""
    return DerivationOracle()


def untrained_scorer(*, seed: int, tokens_per_batch: int, max_tokens: int) -> StepScorer:
    """Return a tiny classifier that has learned nothing.

    It reads with the procedural vocabulary, in which most words of other texts are `<unk>`: to a model
    that knows no word that is no loss.
    """
    tokenizer = derivation_tokenizer()
    return classifier_scorer(
        tiny_classifier(tokenizer, seed),
        tokenizer,
        separator=SEPARATOR,
        tokens_per_batch=tokens_per_batch,
        max_tokens=max_tokens,
    )
