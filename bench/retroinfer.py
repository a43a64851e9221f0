"""RetroInfer's decode step beside dense attention, its own torch path and transformers' cache, on one CPU
thread.

    python bench/retroinfer.py           # step times of one layer, interleaved; Markdown tables
    python bench/retroinfer.py --peer    # accuracy beside kvpress 0.5.5's presses at as many bytes read

One layer, 2 key-value heads with 4 query heads each, 128 dimensions, float32. `dense` is the fair baseline:
each key and value read once, by the same compiled loop as RetroInfer's exact part. Every contestant takes its
turn in every round; ratios are medians over rounds. `cold` empties the processor's caches before each step,
as the other layers of a model do; `warm` repeats the step, which favours what fits into a cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch.nn.functional import scaled_dot_product_attention

from papertrial.serving.clustering import cluster_keys
from papertrial.serving.retroinfer import IndexSettings, IndexSizes, RetroSequence, make_layer, prompt_sizes
from papertrial.serving.retroinfer.baselines import DenseStep, QuestPages
from papertrial.serving.retroinfer.layer_work import EVICTED_NUMBERS
from papertrial.serving.retroinfer.synthetic import SyntheticLayer

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venvs" / "kvpress"
ROUNDS = 15
SCALE = 128**-0.5
Step = Callable[[torch.Tensor], object]


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", action="store_true", help="accuracy beside kvpress, in .venvs/kvpress")
    parser.add_argument("--contexts", default="8192,32768,131072", help="tokens, separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peer:
        compare_with_presses()
        return
    for context in map(int, options.contexts.split(",")):
        compare_steps(context)


def compare_steps(context: int) -> None:
    """Print one context's table: milliseconds, and times faster than the fair dense step."""
    layer = make_layer("structured", context, 4, seed=0)
    settings = IndexSettings()
    sizes = prompt_sizes(context, settings)
    start = time.perf_counter()
    middle = layer.keys[:, settings.sink : context - settings.window]
    assignment = cluster_keys(middle, sizes.clusters, sizes.segments).assignment
    sequence = RetroSequence(layer.keys, layer.values, settings, assignment)
    build = time.perf_counter() - start
    by_torch = RetroSequence(layer.keys, layer.values, replace(settings, backend="torch"), assignment)
    alone = replace(settings, mode="retrieval-only")
    retrieval = RetroSequence(layer.keys, layer.values, alone, assignment)
    pages = QuestPages(layer.keys, layer.values, sizes.retrieved * settings.cluster_size + settings.steady)
    dense = DenseStep(layer.keys, layer.values)
    keys, values = layer.keys[None], layer.values[None]
    token = torch.randn(1, 2, 1, 128)

    def default_attention(queries: torch.Tensor) -> object:
        flat = queries.reshape(1, 8, 1, 128)
        return scaled_dot_product_attention(flat, keys, values, scale=SCALE, enable_gqa=True)

    contestants: dict[str, Step] = {
        "dense": lambda queries: dense.attend(queries, SCALE),
        "retroinfer": lambda queries: sequence.attend(queries, SCALE),
        "retroinfer, torch path": lambda queries: by_torch.attend(queries, SCALE),
        "retrieval only": lambda queries: retrieval.attend(queries, SCALE),
        "quest pages, same tokens": lambda queries: pages.attend(queries, SCALE),
        "dense, torch, grouped": lambda queries: scaled_dot_product_attention(
            queries[None], keys, values, scale=SCALE
        ),
        "dense, torch, enable_gqa": default_attention,
        "DynamicCache, appending alone": lambda _: (
            torch.cat([keys, token], 2),
            torch.cat([values, token], 2),
        ),
    }
    warm = interleaved(contestants, layer.queries, is_cold=False)
    cold = interleaved(contestants, layer.queries, is_cold=True)
    saved = median(cold["dense"]) - median(cold["retroinfer"])
    payback = f"{1e3 * build / saved:.0f} steps" if saved > 0 else "never"
    print(f"\n{context} tokens: {sizes.clusters} clusters, built in {build:.2f} s, paid back in {payback}\n")
    print("| one step | cold, ms | faster than dense | warm, ms | faster than dense |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in contestants:
        cells = []
        for times in (cold, warm):
            ratios = [d / own for d, own in zip(times["dense"], times[name], strict=True)]
            cells += [f"{median(times[name]):.3f}", f"{median(ratios):.1f}x"]
        print(f"| {name} | {' | '.join(cells)} |")

    compare_builds(layer, settings, sizes)


def compare_builds(layer: SyntheticLayer, settings: IndexSettings, sizes: IndexSizes) -> None:
    """Print what it takes to build the index, and how far its answers are off, by the reach of the last round."""
    middle = layer.keys[:, settings.sink : -settings.window]
    dense = DenseStep(layer.keys, layer.values)
    print("\n| last round joins | clustered in, s | relative error of the output |\n| --- | ---: | ---: |")
    for name, reach in (("any cluster (released)", None), ("own segment and neighbours", 1)):
        start = time.perf_counter()
        assignment = cluster_keys(middle, sizes.clusters, sizes.segments, reach=reach).assignment
        seconds = time.perf_counter() - start
        sequence = RetroSequence(layer.keys, layer.values, settings, assignment)
        errors = []
        for queries in layer.queries:
            exact = dense.attend(queries, SCALE)
            errors.append(float((sequence.attend(queries, SCALE) - exact).norm() / exact.norm()))
        print(f"| {name} | {seconds:.2f} | {median(errors):.4f} |")


def interleaved(contestants: dict[str, Step], queries: torch.Tensor, is_cold: bool) -> dict[str, list[float]]:
    """Return each contestant's milliseconds, one of each a round, in turns that reverse every other round."""
    others = torch.zeros(EVICTED_NUMBERS)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for step in contestants.values():
        step(queries[0])
    for turn in range(ROUNDS):
        names = list(contestants) if turn % 2 == 0 else list(contestants)[::-1]
        for name in names:
            if is_cold:
                others.sum()
            else:
                contestants[name](queries[turn % len(queries)])
            start = time.perf_counter()
            contestants[name](queries[turn % len(queries)])
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def compare_with_presses() -> None:
    """Print the accuracy of the trial's trained model, dense, by wave index and through kvpress's presses.

    A press throws tokens away before it sees a question; an index chooses anew at every step. Each press
    keeps as many tokens as RetroInfer reads bytes for (rounded up), which is also the memory it needs;
    RetroInfer keeps all.
    """
    from safetensors.torch import save_file

    from papertrial.serving.retroinfer.answering import ask_tokens
    from papertrial.serving.retroinfer.recall import fresh_tasks, load_recall, trained_weights
    from papertrial.serving.retroinfer.trial import ModelTrial

    ensure_peer()
    trial = ModelTrial()
    weights = trained_weights(trial.base_seed, trial.context, trial.phrase, trial.train_steps)
    model = load_recall(weights, trial.base_seed, trial.context)
    shares = {"6.4 %, the official share": 0.064, "25 %": 0.25}
    rows = {"dense": [], "retroinfer": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_pretrained(folder)
        for seed in range(4):
            tasks = fresh_tasks(seed, trial.contexts, trial.context, trial.questions, trial.phrase)
            for arm, found in rows.items():
                settings = trial.settings(arm)
                found.append(ask_tokens(model, tasks, settings, lambda *_: None)["accuracy"])
            parts = {"context": tasks.context, "questions": tasks.questions, "answers": tasks.answers}
            save_file(parts, folder / f"tasks-{seed}.safetensors")
        command = [VENV / "bin" / "python", Path(__file__).with_name("retroinfer_kvpress.py"), folder]
        done = subprocess.run([*command, json.dumps(shares)], check=True, stdout=subprocess.PIPE, text=True)
    print("| cache | accuracy, % |")
    print("| --- | ---: |")
    for arm, found in rows.items():
        print(f"| {arm} | {sum(found) / len(found):.1f} |")
    print(done.stdout.strip())


def ensure_peer() -> None:
    """Make the peer's virtual environment where it is missing: kvpress 0.5.5 wants transformers below 5.3."""
    python = VENV / "bin" / "python"
    if (VENV / "ready").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "torch==2.13.0", "numpy"], check=True)
    # Not without dependencies: importing kvpress imports all of them.
    subprocess.run([*pip, "torch==2.13.0", "transformers==5.2.0", "kvpress==0.5.5"], check=True)
    (VENV / "ready").touch()


if __name__ == "__main__":
    main()
