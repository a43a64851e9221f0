"""BitLinear beside torchao 0.18's BitNet b1.58 on the CPU: training and packed inference, one layer.

    python bench/bitnet_v2_torchao.py            # equality, then milliseconds, in turn; Markdown

torchao has W1.58A8 without rotation, as a tensor subclass: integer products in the forward pass, and a weight of 2 bits
that is unpacked for every call. It knows neither 4-bit activations nor the rotation, so ours with both stand in the
table with no peer. All run eagerly; torchao's integer product is `torch._int_mm`, which is made for the int8 units of
CUDA devices and slow on the CPU, so the ratio to float32 says more than that to the peer. The script makes
.venvs/torchao itself (torch of the pinned version, then torchao without its dependencies, then what our modules import)
and runs itself there.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

from peer_environment import ensure_environment

PEER = "torchao 0.18.0"
INSTALLS = (  # what pip is told, in the peer's environment
    ["torch==2.13.0"],
    ["--no-deps", "torchao==0.18.0"],
    ["numpy", "jaxtyping", "numba", "transformers>=5,<6"],
)


def timed(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every way in every round, in turn, after three rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 3):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if turn >= 3:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def show(seconds: dict[str, list[float]], first: str, to: tuple[str, ...]) -> None:
    """Print a table: median milliseconds, and how many times as fast as the ones named."""
    print(f"| {first} | ms | " + " | ".join(f"times as fast as {name}" for name in to) + " |")
    print("|---|---|" + "---|" * len(to))
    for name, taken in seconds.items():
        ratios = [
            f"{statistics.median(a / b for a, b in zip(seconds[one], taken, strict=True)):.1f}" for one in to
        ]
        print(f"| {name} | {1000 * statistics.median(taken):.2f} | " + " | ".join(ratios) + " |")
    print()


def training(tokens: int, inputs: int, outputs: int, batches: int, rounds: int) -> None:
    """Compare a step that accumulates some batches: forward and backward of one layer."""
    import torch
    from torchao.prototype.quantized_training import bitnet_training
    from torchao.quantization import quantize_

    from papertrial.efficient.bitnet_v2.linear import BitLinear, HBitLinear, keep_ternary_weights

    generator = torch.Generator().manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=False))
    x = torch.randn(batches, tokens, inputs, generator=generator).requires_grad_()
    direction = torch.randn(tokens, outputs, generator=generator)
    layers = {name: copy.deepcopy(base) for name in ("float32", PEER, "ours", "kept", "rotated")}
    quantize_(layers[PEER], bitnet_training())
    norm = torch.nn.RMSNorm(inputs, eps=1e-5)
    for name in ("ours", "kept"):
        layers[name][0] = BitLinear(layers[name][0])
    layers["rotated"][0] = HBitLinear(layers["rotated"][0], activation_bits=4, norm=norm)
    keepers = {}
    for name in ("kept", "rotated"):
        keepers[name] = torch.optim.SGD(layers[name].parameters(), lr=0.0)
        keep_ternary_weights(layers[name], keepers[name])

    def step(name: str) -> None:
        layers[name].zero_grad()
        for batch in x:
            (layers[name](batch) * direction).sum().backward()
        if name in keepers:
            keepers[name].step()  # the kept weight is dropped here, as in training

    found = {}
    for name in (PEER, "ours"):
        x.grad = None
        step(name)
        found[name] = (layers[name](x[0]).detach(), x.grad.clone(), layers[name][0].weight.grad.clone())
    for what, theirs, ours in zip(("output", "input", "weight"), found[PEER], found["ours"], strict=True):
        error = float((theirs - ours).norm() / theirs.norm())
        assert error < 1e-3, f"{what}: {error}"  # a code on the edge of rounding may fall to either side
        print(
            f"Relative difference to {PEER}, {what if what == 'output' else f'gradient of the {what}'}: {error:.1e}"
        )
    print(f"\nTraining, {inputs} to {outputs}, {batches} batches of {tokens} tokens accumulated, INT8\n")
    shown = {
        "float32": "float32",
        PEER: PEER,
        "ours": "BitLinear",
        "kept": "BitLinear, ternary weight kept over the batches",
        "rotated": "H-BitLinear, INT4, norm, rotation, kept (no peer)",
    }
    seconds = timed({shown[name]: lambda name=name: step(name) for name in layers}, rounds)
    show(seconds, "layer", (PEER, "float32"))


def packed(tokens: int, inputs: int, outputs: int, rounds: int) -> None:
    """Compare the forward pass of a weight that lies in memory as 2 bits a value."""
    import torch
    from torch.nn import functional
    from torchao.prototype.quantized_training import bitnet as peer

    from papertrial.efficient.bitnet_v2.packed import PackedBitLinear
    from papertrial.efficient.bitnet_v2.quantizers import ternary_codes

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator) / 32
    x = torch.randn(tokens, inputs, generator=generator)
    scale = peer.get_bitnet_scale(weight)
    theirs = peer.BitNetPacked2bitLinearWeight(
        peer._pack_i2_in_i8(peer.quantize_bitnet_weight(weight, scale)), scale
    )
    codes, alpha = ternary_codes(weight)
    ours = PackedBitLinear(inputs, outputs).load(codes, float(alpha))
    rotated = PackedBitLinear(inputs, outputs, activation_bits=4, hadamard="sylvester").load(
        codes, float(alpha)
    )
    with torch.no_grad():
        reference = functional.linear(x, theirs)
        error = float((reference - ours(x)).norm() / reference.norm())
        assert error < 1e-3, error
        held = {"theirs": theirs.int_data.nbytes, "ours": ours.weight.nbytes}
        assert held["theirs"] == held["ours"]
        print(
            f"Packed forward, {inputs} to {outputs}, {tokens} tokens, {held['ours']} bytes both; relative difference "
            f"{error:.1e}\n"
        )
        ways = {
            "float32": lambda: functional.linear(x, weight),
            PEER: lambda: functional.linear(x, theirs),
            "packed BitLinear, INT8": lambda: ours(x),
            "packed BitLinear, INT4, rotated (no peer)": lambda: rotated(x),
        }
        show(timed(ways, rounds), "weight", (PEER, "float32"))


def main() -> None:
    """Compare training and packed inference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=2048)
    parser.add_argument("--outputs", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    ensure_environment(__file__, "torchao", INSTALLS)
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # torchao tells of CUDA libraries that it cannot load
    import torch

    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.rounds} rounds\n")
    training(given.tokens, given.inputs, given.outputs, given.batches, given.rounds)
    for tokens in (1, 64):
        packed(tokens, given.inputs, given.outputs, given.rounds)


if __name__ == "__main__":
    main()
