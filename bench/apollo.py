"""APOLLO's optimizer step beside apollo-torch 1.0.3, galore-torch 1.0 and torch.optim.AdamW, on the CPU.

    python bench/apollo.py            # equality, then step times at Llama-130M shapes, interleaved; Markdown
    python bench/apollo.py --check    # equality with the released optimizers alone, tensor by tensor
    python bench/apollo.py --record   # the short reference numbers that the tests hold

The script makes .venvs/apollo itself (torch of the pinned version, numpy, jaxtyping, the two peers without
their dependencies) and runs itself there with this checkout on the path, so that all contestants share one
process, one torch and the same gradients. The peers' `__init__` imports bitsandbytes and transformers for
their 8-bit variants; only their plain optimizer modules are loaded here, unchanged.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import types
from pathlib import Path

from peer_environment import ensure_environment

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venvs" / "apollo"
TORCH = "torch==2.13.0"
INSTALLS = (  # what pip is told, in the peer's environment
    [TORCH, "numpy"],
    ["jaxtyping"],
    ["--no-deps", "apollo-torch==1.0.3", "galore-torch==1.0"],
)


def peer_module(package: str, module: str) -> types.ModuleType:
    """Import one module of a peer without its package's `__init__` (which wants bitsandbytes)."""
    versions = types.ModuleType("transformers.utils.versions")
    versions.require_version = lambda *_: None  # a version check, the only thing it takes from transformers
    for name in ("transformers", "transformers.utils"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["transformers.utils.versions"] = versions
    if package not in sys.modules:
        shell = types.ModuleType(package)
        shell.__path__ = [str(next(VENV.glob("lib/python*/site-packages")) / package)]
        sys.modules[package] = shell
    return importlib.import_module(f"{package}.{module}")


def llama_shapes(hidden: int, ffn: int, layers: int, vocab: int) -> tuple[list, list]:
    """Return the shapes of a Llama's dense parameters and of its low-rank weights."""
    dense = [(vocab, hidden), (vocab, hidden), (hidden,), *[(hidden,)] * (2 * layers)]
    layer = [*[(hidden, hidden)] * 4, (ffn, hidden), (ffn, hidden), (hidden, ffn)]
    return dense, layer * layers


class Weights:
    """Synthetic weights and gradients of given shapes, one set for all contestants."""

    def __init__(self, dense_shapes: list, low_rank_shapes: list, dtype: object = None) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)

        def make(shape: tuple[int, ...]) -> torch.nn.Parameter:
            parameter = torch.nn.Parameter(torch.randn(shape, generator=generator).mul_(0.02).to(dtype))
            parameter.grad = torch.randn(shape, generator=generator).mul_(1e-3).to(dtype)
            return parameter

        self.dense = [make(shape) for shape in dense_shapes]
        self.low_rank = [make(shape) for shape in low_rank_shapes]

    def groups(self, rank: int, **options: object) -> list[dict]:
        return [{"params": self.dense}, {"params": self.low_rank, "rank": rank, **options}]


def released_options(*, scale: float, scale_type: str, gap: int = 200, proj: str = "random") -> dict:
    return {
        "update_proj_gap": gap,
        "scale": scale,
        "scale_type": scale_type,
        "proj": proj,
        "proj_type": "std",
    }


def contestants(weights: Weights, rank: int) -> dict[str, object]:
    """Return every optimizer to be timed, by the name it has in the table."""
    import torch

    from papertrial.efficient.apollo.optimizer import Apollo

    released = peer_module("apollo_torch", "apollo").AdamW
    everything = [*weights.dense, *weights.low_rank]
    mini = {"scale": 128.0, "scale_type": "tensor"}
    return {
        "AdamW foreach": torch.optim.AdamW(everything, lr=1e-4, foreach=True),
        "AdamW fused": torch.optim.AdamW(everything, lr=1e-4, fused=True),
        f"apollo-torch rank {rank}": released(
            weights.groups(rank, **released_options(scale=1, scale_type="channel")), lr=1e-3
        ),
        f"Apollo rank {rank}": Apollo(weights.groups(rank), lr=1e-3),
        "apollo-torch Mini": released(
            weights.groups(1, **released_options(scale=128, scale_type="tensor")), lr=1e-3
        ),
        "Apollo Mini": Apollo(weights.groups(1, **mini), lr=1e-3),
    }


def timings(rounds: int, hidden: int, ffn: int, layers: int, vocab: int) -> None:
    """Time all contestants in turn, round by round, and print medians and pairwise ratios."""
    import torch

    weights = Weights(*llama_shapes(hidden, ffn, layers, vocab))
    rank = hidden // 4
    optimizers = contestants(weights, rank)
    seconds: dict[str, list[float]] = {name: [] for name in optimizers}
    for turn in range(rounds + 2):
        for name, optimizer in optimizers.items():
            start = time.perf_counter()
            optimizer.step()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - start)

    def ratio(of: str, to: str) -> str:
        return f"{statistics.median(b / a for a, b in zip(seconds[of], seconds[to], strict=True)):.2f}"

    count = sum(p.numel() for p in [*weights.dense, *weights.low_rank])
    threads = torch.get_num_threads()
    print(f"{count / 1e6:.0f} M parameters, torch {torch.__version__}, {threads} threads, {rounds} rounds\n")
    print("| optimizer | ms a step | times as fast as apollo-torch | as AdamW foreach | as AdamW fused |")
    print("|---|---|---|---|---|")
    for name in optimizers:
        peer = name.replace("Apollo", "apollo-torch")
        versus_peer = ratio(name, peer) if name.startswith("Apollo") else ""
        milliseconds = 1000 * statistics.median(seconds[name])
        versus_adamw = f"{ratio(name, 'AdamW foreach')} | {ratio(name, 'AdamW fused')}"
        print(f"| {name} | {milliseconds:.0f} | {versus_peer} | {versus_adamw} |")
    products = product_seconds(weights, rank, rounds)
    fused = statistics.median(seconds["AdamW fused"])
    moved = 28 * sum(p.numel() for p in weights.dense) + 12 * sum(p.numel() for p in weights.low_rank)
    bound = products + fused * moved / (28 * count)
    print(
        f"\nBound of rank {rank}: its projections alone, written to memory that is there, take "
        f"{1000 * products:.0f} ms. With one read of each gradient beside them (they hide it), one pass over "
        f"the weights and AdamW for the rest, at fused AdamW's bytes a second, a step takes at least "
        f"{1000 * bound:.0f} ms: {statistics.median(seconds[f'apollo-torch rank {rank}']) / bound:.2f} times "
        "as fast as apollo-torch."
    )
    print(f"\nState bytes: {state_bytes(optimizers)}")


def product_seconds(weights: Weights, rank: int, rounds: int) -> float:
    """Return the median time of projecting every gradient once, into a buffer that is used again."""
    import torch

    gradients = [p.grad if p.shape[0] >= p.shape[1] else p.grad.T for p in weights.low_rank]
    projections = {g.shape[1]: torch.randn(g.shape[1], rank) for g in gradients}
    buffers = {g.shape[0]: torch.empty(g.shape[0], rank) for g in gradients}
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for gradient in gradients:
            torch.mm(gradient, projections[gradient.shape[1]], out=buffers[gradient.shape[0]])
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def state_bytes(optimizers: dict[str, object]) -> dict[str, int]:
    """Return the bytes of every tensor that an optimizer's state holds, projections included."""
    import torch

    def size(value: object) -> int:
        if isinstance(value, torch.Tensor):
            return value.numel() * value.element_size()
        return sum(size(v) for v in vars(value).values()) if hasattr(value, "ortho_matrix") else 0

    return {
        name: sum(size(v) for state in optimizer.state.values() for v in state.values())
        for name, optimizer in optimizers.items()
    }


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--ffn", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocab", type=int, default=32000)
    given = parser.parse_args()
    ensure_environment(__file__, "apollo", INSTALLS)
    from apollo_check import check, record

    if given.record:
        record(peer_module)
        return
    check(peer_module)
    if given.check:
        return
    print()
    timings(given.rounds, given.hidden, given.ffn, given.layers, given.vocab)


if __name__ == "__main__":
    main()
