"""Equality of Apollo and GaLore with the released optimizers, tensor by tensor (`bench/apollo.py --check`)."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from typing import Any

import torch

from papertrial.efficient.apollo.galore import GaLore
from papertrial.efficient.apollo.optimizer import Apollo

SHAPES = {"tall": (12, 8), "wide": (8, 12), "square": (8, 8), "vector": (8,)}
STEPS = 7
GAP = 3
# Float32 rounding: ‖U‖ is summed per channel here and per element there; seven steps of lr 0.01.
TOLERANCE = 2e-6

PeerModule = Callable[[str, str], types.ModuleType]

CASES: dict[str, dict[str, Any]] = {
    "channel": {"scale": 1.0, "scale_type": "channel", "rank": 4},
    "tensor": {"scale": 128.0, "scale_type": "tensor", "rank": 1},
    "tensor, scale in front": {"scale": 128.0, "scale_type": "tensor", "rank": 1, "front": True},
    "channel, no limiter": {"scale": 4.0, "scale_type": "channel", "rank": 2, "no_limiter": True},
    "channel, decay": {"scale": 1.0, "scale_type": "channel", "rank": 4, "weight_decay": 0.1},
    "channel, svd": {"scale": 1.0, "scale_type": "channel", "rank": 4, "proj": "svd"},
    "tensor, svd": {"scale": 1.0, "scale_type": "tensor", "rank": 4, "proj": "svd"},
}


def gradient(name: str, step: int) -> torch.Tensor:
    """Return a gradient that any program can make again: no generator, and growing enough to be limited."""
    shape = SHAPES[name]
    count = torch.tensor(shape).prod().item()
    index = torch.arange(1, count + 1, dtype=torch.float64)
    values = torch.sin(index * (step + 1) * 0.7) + 0.3 * torch.cos(index * 1.3)
    return (values * 0.01 * (1 + step**2)).reshape(shape).float()


def run(make: Callable[[list, list], torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Return every weight after a fixed stream of gradients."""
    weights = {}
    for name, shape in SHAPES.items():
        weights[name] = torch.nn.Parameter(
            torch.linspace(-0.5, 0.5, torch.tensor(shape).prod().item()).reshape(shape)
        )
    optimizer = make([weights["vector"]], [weights["tall"], weights["wide"], weights["square"]])
    for step in range(STEPS):
        for name, weight in weights.items():
            weight.grad = gradient(name, step)
        optimizer.step()
    return {name: weight.detach() for name, weight in weights.items()}


def released_apollo(peer_module: PeerModule, case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Run apollo-torch on one case."""
    optimizer = peer_module("apollo_torch", "apollo").AdamW

    def make(dense: list, low_rank: list) -> torch.optim.Optimizer:
        decay = case.get("weight_decay", 0.0)
        group = {
            "params": low_rank,
            "rank": case["rank"],
            "update_proj_gap": GAP,
            "scale": case["scale"],
            "scale_type": case["scale_type"],
            "proj": case.get("proj", "random"),
            "proj_type": "std",
            "weight_decay": decay,
        }
        return optimizer(
            [{"params": dense, "weight_decay": decay}, group],
            lr=0.01,
            scale_front=case.get("front", False),
            disable_nl=case.get("no_limiter", False),
        )

    return run(make)


def our_apollo(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Run Apollo on one case."""

    def make(dense: list, low_rank: list) -> torch.optim.Optimizer:
        return Apollo(
            [{"params": dense}, {"params": low_rank, "rank": case["rank"]}],
            lr=0.01,
            weight_decay=case.get("weight_decay", 0.0),
            scale=case["scale"],
            scale_type=case["scale_type"],
            proj=case.get("proj", "random"),
            update_proj_gap=GAP,
            limiter=None if case.get("no_limiter") else 1.01,
            scale_front=case.get("front", False),
        )

    return run(make)


def galore_pair(peer_module: PeerModule, package: str) -> tuple[dict, dict]:
    """Run a released GaLore and ours."""
    released = peer_module(package, "adamw").AdamW

    def theirs(dense: list, low_rank: list) -> torch.optim.Optimizer:
        group = {"params": low_rank, "rank": 4, "update_proj_gap": GAP, "scale": 0.25, "proj_type": "std"}
        return released([{"params": dense}, group], lr=0.01, no_deprecation_warning=True)

    def ours(dense: list, low_rank: list) -> torch.optim.Optimizer:
        return GaLore(
            [{"params": dense}, {"params": low_rank, "rank": 4}], lr=0.01, scale=0.25, update_proj_gap=GAP
        )

    return run(theirs), run(ours)


def difference(theirs: dict[str, torch.Tensor], ours: dict[str, torch.Tensor]) -> float:
    """Return the largest absolute difference of any weight."""
    return max((theirs[name] - ours[name]).abs().max().item() for name in theirs)


def check(peer_module: PeerModule) -> None:
    """Print the largest difference of every case; stop with an error where one is not rounding."""
    worst = 0.0
    print(f"largest difference of any weight after {STEPS} steps, projection redrawn every {GAP}\n")
    print("| case | peer | difference |")
    print("|---|---|---|")
    for name, case in CASES.items():
        worst = max(
            worst, report(name, "apollo-torch 1.0.3", released_apollo(peer_module, case), our_apollo(case))
        )
    for package, label in (("apollo_torch", "apollo-torch 1.0.3"), ("galore_torch", "galore-torch 1.0")):
        worst = max(worst, report("GaLore", label, *galore_pair(peer_module, package)))
    if worst > TOLERANCE:
        raise SystemExit(f"the largest difference, {worst:.1e}, is more than rounding ({TOLERANCE:.0e})")


def report(name: str, label: str, theirs: dict, ours: dict) -> float:
    """Print one row and return its difference."""
    worst = difference(theirs, ours)
    print(f"| {name} | {label} | {worst:.1e} |")
    return worst


def record(peer_module: PeerModule) -> None:
    """Print, as JSON, what the released optimizers make of each case: the first elements of each weight."""
    rows = {name: released_apollo(peer_module, case) for name, case in CASES.items()}
    rows["galore"] = galore_pair(peer_module, "apollo_torch")[0]
    short = {
        name: {weight: [round(v, 9) for v in tensor.flatten()[:6].tolist()] for weight, tensor in row.items()}
        for name, row in rows.items()
    }
    print(json.dumps(short, indent=1))
