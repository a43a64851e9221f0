"""PRMBench side by side: reading and counting the full size, scoring with and without batches, TRL's targets.

    python bench/prmbench.py metrics            # 6,216 rows, 83k steps, about 20 MB, made up here
    python bench/prmbench.py scoring            # shared beginnings and batches against one item at a time
    python bench/prmbench.py trl                # labels against TRL's PRMTrainer, in .venvs/trl-prm

Each prints a Markdown table. Rounds are interleaved, and the median is given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from papertrial.models import load_token_classifier
from papertrial.posttrain.prmbench.metrics import evaluate_labels, lay_out, make_sheet
from papertrial.posttrain.prmbench.procedural import derivation_tokenizer, make_rows
from papertrial.posttrain.prmbench.rows import items_of, read_rows, write_rows
from papertrial.posttrain.prmbench.tiny_prm import LAYOUT, classifier_examples
from papertrial.posttrain.step_forward import plan_batches
from papertrial.posttrain.step_models import ModelScorer, classifier_scorer
from papertrial.posttrain.steps import Solution, StepLabels

ROOT = Path(__file__).resolve().parents[1]
PEER = ROOT / ".venvs" / "trl-prm"
TRL = "trl==1.0.0"  # the last release that has PRMTrainer
CLASSES = ("redundency", "circular", "counterfactual", "step_contradiction", "domain_inconsistency")
CLASSES += ("confidence", "missing_condition", "deception")


def medians(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run every way once a round, in turn, and return the median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print(
            "| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row) + " |"
        )


def full_size_rows() -> list[dict[str, object]]:
    """Rows of the size of the released set: 6,216 of them, 13.4 steps of 95 characters on average."""
    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + letter) for letter in rng.integers(26, size=size)) for size in range(2, 9)]

    def text(count: int) -> str:
        return " ".join(words[at] for at in rng.integers(len(words), size=count))

    rows: list[dict[str, object]] = []
    for number in range(777):
        original = [text(17) for _ in range(int(rng.integers(6, 20)))]
        question = text(35)
        for kind in CLASSES:
            steps = [text(17) for _ in range(int(rng.integers(5, 22)))]
            errors = (np.flatnonzero(rng.random(len(steps)) < 0.16) + 1).tolist()
            rows.append(
                {
                    "idx": f"made_{number}",
                    "classification": kind,
                    "original_question": question,
                    "modified_question": question,
                    "original_process": original,
                    "modified_process": steps,
                    "modified_steps": errors,
                    "error_steps": errors,
                    "reason": text(20),
                    "question": question,
                }
            )
    return rows


def measure_metrics(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        write_rows(full_size_rows(), file)
        size = file.stat().st_size / 1e6
        items = items_of(read_rows(file))[0]
        sheet = make_sheet(items)
        rng = np.random.default_rng(1)
        predictions = {item.id: StepLabels(rng.random(len(item.steps)) < 0.8) for item in items}
        labels = lay_out(sheet, predictions)
        edited = [item for item in items if item.classification != "correct"]
        found = medians(
            {
                "counting alone": lambda: evaluate_labels(sheet, labels),
                "laying out predictions and counting": lambda: evaluate_labels(
                    sheet, lay_out(sheet, predictions)
                ),
                "reading the file, items, sheet, counting": lambda: evaluate_labels(
                    (again := make_sheet(items_of(read_rows(file))[0])), lay_out(again, predictions)
                ),
            },
            rounds,
        )
    steps = sum(len(item.steps) for item in edited)
    print(f"{len(edited):,} items, {steps:,} steps, {size:.1f} MB")
    table(("work", "milliseconds"), [(name, 1000 * seconds) for name, seconds in found.items()])


def measure_scoring(rounds: int, problems: int) -> None:
    tokenizer = derivation_tokenizer()
    items = items_of(make_rows(problems, seed=0))[0]
    solutions = [item.solution() for item in items]
    rows = []
    for width, layers in ((64, 2), (256, 4)):
        model = load_token_classifier(
            "tiny-qwen2",
            2,
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
        )
        scorers = {
            "one at a time": classifier_scorer(
                model, tokenizer, layout=LAYOUT, tokens_per_batch=1, share_prefix=False
            ),
            "batches": classifier_scorer(model, tokenizer, layout=LAYOUT, share_prefix=False),
            "batches, shared beginnings": classifier_scorer(model, tokenizer, layout=LAYOUT),
        }
        found = medians(
            {name: lambda one=one: one.score_all(solutions) for name, one in scorers.items()}, rounds
        )
        alone = found["one at a time"]
        rows += [
            (f"width {width}, {layers} layers", name, len(items) / seconds, alone / seconds)
            for name, seconds in found.items()
        ]
    left = tokens_left(scorers["batches"], solutions)
    print(f"{len(items)} solutions, {torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    table(("model", "way", "items/s", "against one at a time"), rows)
    print(
        f"\nSharing beginnings leaves {100 * left:.0f} % of the tokens, so where time goes with tokens it is "
        f"worth at most {1 / left:.2f}x; what batching is worth comes on top."
    )


def tokens_left(scorer: ModelScorer, solutions: list[Solution]) -> float:
    """Return the share of tokens that are run once each question's common beginning is run once."""
    readings = [scorer.layout(scorer.tokenizer, solution) for solution in solutions]
    ran = 0
    for batch in plan_batches(readings, [solution.question for solution in solutions], 10**9):
        ran += sum(len(readings[m].ids) - p for m, p in zip(batch.members, batch.prefixes, strict=True))
        ran += sum(dict(zip(batch.groups, batch.prefixes, strict=True)).values())
    return ran / sum(len(reading.ids) for reading in readings)


PEER_SCRIPT = """
import json, sys
from transformers import PreTrainedTokenizerFast
from trl.experimental.prm.prm_trainer import PRMTrainer
folder, separator = sys.argv[1:]
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
for line in open(folder + "/rows.jsonl"):
    made = PRMTrainer.tokenize_row(json.loads(line), tokenizer, separator, None, None, False, False)
    print(json.dumps(made))
"""


def compare_with_trl() -> None:
    """Hold the classifier's training targets to TRL's, on two hundred procedural rows."""
    python = PEER / "bin" / "python"
    if not python.exists():
        venv.create(PEER, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "torch==2.13.0"], check=True)
        subprocess.run([*pip, "transformers>=5,<6", "accelerate", "datasets"], check=True)
        subprocess.run([*pip, "--no-deps", TRL], check=True)
    tokenizer = derivation_tokenizer()
    items = items_of(make_rows(25, seed=0))[0]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        write_rows(
            [
                {
                    "prompt": item.question,
                    "completions": list(item.steps),
                    "labels": [place not in item.errors for place in range(1, len(item.steps) + 1)],
                }
                for item in items
            ],
            Path(folder) / "rows.jsonl",
        )
        said = subprocess.run(
            [str(python), "-c", PEER_SCRIPT, folder, LAYOUT.separator],
            check=True,
            capture_output=True,
            text=True,
        )
    theirs = [json.loads(line) for line in said.stdout.splitlines()]
    ours = classifier_examples(items, tokenizer, "all-steps")
    same = sum(
        one["input_ids"] == other["input_ids"] and one["labels"] == other["labels"]
        for one, other in zip(ours, theirs, strict=True)
    )
    table(("rows", "equal to TRL's"), [(len(ours), same)])
    if same < len(ours):
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("metrics", "scoring", "trl"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--problems", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "metrics":
        measure_metrics(given.rounds)
    elif given.what == "scoring":
        measure_scoring(given.rounds, given.problems)
    else:
        compare_with_trl()


if __name__ == "__main__":
    main()
