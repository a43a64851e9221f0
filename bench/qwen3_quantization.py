"""Quantisation side by side on the CPU: searches, packed products, memory; and two peers.

    python bench/qwen3_quantization.py billm     # the structural search beside trying every candidate in full
    python bench/qwen3_quantization.py packed    # y = x Wᵀ from packed codes, unpacked first, and in float32
    python bench/qwen3_quantization.py memory    # peak memory of GPTQ beside what one layer and the weights take
    python bench/qwen3_quantization.py gptq      # one decoder layer, beside gptqmodel 7.7.0
    python bench/qwen3_quantization.py awq       # one decoder layer, beside llmcompressor 0.14.0.1

Contestants run in turn, in one process. For the peers the script makes .venvs/qwen3_gptqmodel and
.venvs/qwen3_llmcompressor (torch of the pinned version first) and runs bench/qwen3_quantization_peers.py there, with
this checkout on the path. gptqmodel 7.7.0 asks for torch 2.14.1; it is installed without its dependencies and runs
on the pinned torch.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"
OURS = [
    "jaxtyping",
    "numba",
    "transformers==5.17.0",
    "accelerate",
    "filelock",
    "scipy",
    "scikit-learn",
    "datasets",
]
PEERS = {
    "gptq": (
        "qwen3_gptqmodel",
        ["gptqmodel==7.7.0", "torchao==0.18.0"],
        [
            "pypcre",
            "tokenicer",
            "defuser",
            "logbar",
            "device-smi",
            "threadpoolctl",
            "protobuf",
            "pillow",
            "requests",
        ],
    ),
    "awq": (
        "qwen3_llmcompressor",
        ["llmcompressor==0.14.0.1", "compressed-tensors==0.20.0"],
        ["loguru", "pydantic", "pyyaml", "psutil", "requests"],
    ),
}


def in_turn(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run each once unmeasured, then all in turn, round by round; return the seconds of each."""
    for run in contestants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """Return the median of the pairwise ratios: how many times as fast `fast` is."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def billm(rounds: int) -> None:
    """Time the search for salient columns and the split, and compare what is picked."""
    import torch

    from papertrial.efficient.qwen3_quantization.billm import find_structure
    from papertrial.efficient.qwen3_quantization.naive import search_structure

    print(f"One block of 128 columns; {torch.get_num_threads()} threads, {rounds} rounds\n")
    print("| rows | saliency | full search, ms | sorted sums, ms | times as fast | same picks |")
    print("|---|---|---|---|---|---|")
    for rows in (256, 1024, 3072):
        for kind in ("magnitude", "hessian"):
            generator = torch.Generator().manual_seed(rows)
            saliency = torch.randn(rows, 128, generator=generator) * torch.linspace(0.3, 2.0, 128)
            saliency = saliency.square() if kind == "hessian" else saliency
            fast, full = find_structure(saliency), search_structure(saliency)
            same = fast[0] == full[0] and abs(fast[1] - full[1]) <= 1e-6 * full[1]
            seconds = in_turn(
                {
                    "full": lambda s=saliency: search_structure(s),
                    "fast": lambda s=saliency: find_structure(s),
                },
                rounds,
            )
            times = [1000 * statistics.median(seconds[name]) for name in ("full", "fast")]
            faster = ratio(seconds, "full", "fast")
            print(
                f"| {rows} | {kind} | {times[0]:.0f} | {times[1]:.1f} | {faster:.1f} | {'yes' if same else 'no'} |"
            )


def packed(rounds: int) -> None:
    """Time one token's product with each matrix of a Qwen3-0.6B layer."""
    import torch
    from torch.nn import functional

    from papertrial.efficient.quantized_linear import QuantLinear, packed_product
    from papertrial.efficient.qwen3_quantization.grids import GridOptions, round_weight

    print(f"Batch 1, groups of 128; {torch.get_num_threads()} threads, {rounds} rounds\n")
    print(
        "| out × in | bits | packed, ms | unpack + product, ms | float32 product, ms | times as fast as unpacking |"
    )
    print("|---|---|---|---|---|---|")
    for outputs, inputs in ((2048, 1024), (3072, 1024), (1024, 3072)):
        weight = torch.randn(outputs, inputs)
        x = torch.randn(1, inputs)
        for bits in (8, 4, 3, 2):
            layer = QuantLinear.from_weight(
                round_weight(weight, GridOptions(bits, 128, scale_dtype=torch.float16))
            )
            seconds = in_turn(
                {
                    "packed": lambda layer=layer, x=x: packed_product(x, layer),
                    "unpacked": lambda layer=layer, x=x: functional.linear(x, layer.dequantized()),
                    "float": lambda weight=weight, x=x: functional.linear(x, weight),
                },
                rounds,
            )
            times = [
                f"{1000 * statistics.median(seconds[name]):.2f}" for name in ("packed", "unpacked", "float")
            ]
            row = [f"{outputs} × {inputs}", str(bits), *times, f"{ratio(seconds, 'unpacked', 'packed'):.1f}"]
            print(f"| {' | '.join(row)} |")


def memory() -> None:
    """Measure the peak of a GPTQ run in a process of its own, beside what it cannot do without."""
    done = subprocess.run(
        [sys.executable, __file__, "memory-inside"], stdout=subprocess.PIPE, text=True, check=True
    )
    print(done.stdout.strip())


def memory_inside() -> None:
    """Load a model of twelve layers, quantise it and print what the peak, above the idle process, was made of."""
    import torch

    from papertrial.efficient.qwen3_quantization import QuantizationSettings, quantize_model
    from papertrial.models import load_causal_lm

    sequences, length, hidden, ffn = 16, 256, 768, 2304
    warm = load_causal_lm("tiny-qwen3", vocab_size=64)
    ids = torch.randint(64, (4, 32))
    quantize_model(warm, QuantizationSettings("gptq", 4, 32), ids)  # libraries and compiled loops
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model = load_causal_lm(
        "tiny-qwen3",
        vocab_size=512,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=12,
        num_attention_heads=24,
        num_key_value_heads=8,
    )
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    ids = torch.randint(512, (sequences, length))
    quantize_model(model, QuantizationSettings("gptq", 4, 128), ids, batch_size=4)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    layer_inputs = 4 * sequences * length * hidden
    batch = 4 * 4 * length * (4 * hidden + 3 * ffn)  # what one layer's forward makes for a batch of four
    hessians = 3 * 4 * ffn * ffn  # the moment, its damped copy and the factor of the widest matrix
    needed = weights + layer_inputs + batch + hessians
    print(f"GPTQ, 12 layers, {weights / 2**20:.0f} MiB of weights, {sequences} × {length} tokens\n")
    print("| weights | a layer's inputs | a batch's forward | Hessian and factor | sum | peak | peak / sum |")
    print("|---|---|---|---|---|---|---|")
    parts = [f"{part / 2**20:.0f} MiB" for part in (weights, layer_inputs, batch, hessians, needed, peak)]
    print(f"| {' | '.join(parts)} | {peak / needed:.2f} |")


def with_peer(part: str, words: list[str]) -> None:
    """Run one part of the peers' script in the peer's own virtual environment, making that where it is missing."""
    folder, alone, more = PEERS[part]
    venv = ROOT / ".venvs" / folder
    python = venv / "bin" / "python"
    if not (venv / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        quiet = {"stdout": sys.stderr, "check": True}
        subprocess.run([*pip, TORCH, "numpy", "setuptools", "wheel"], **quiet)
        subprocess.run([*pip, *OURS, *more], **quiet)
        subprocess.run([*pip, "--no-deps", *alone], **quiet)
        (venv / "ready").touch()
    script = Path(__file__).with_name("qwen3_quantization_peers.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([python, script, part, *words], env=environment, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def main() -> None:
    """Parse the command line and run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["billm", "packed", "memory", "memory-inside", *PEERS])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if given.part in PEERS:
        with_peer(given.part, ["--rounds", str(given.rounds)])
    elif given.part == "billm":
        billm(given.rounds)
    elif given.part == "packed":
        packed(20 * given.rounds)
    elif given.part == "memory":
        memory()
    else:
        memory_inside()


if __name__ == "__main__":
    main()
