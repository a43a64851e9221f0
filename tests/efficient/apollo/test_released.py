"""Held to what apollo-torch 1.0.3 computes.

released.json holds the first six elements of every weight after seven steps, printed by
`python bench/apollo.py --record`, which runs the released optimizers (torch 2.13.0, CPU). The same script with
`--check` compares whole tensors. The gradients are a closed formula, written out again here.
"""

from __future__ import annotations

import pytest
import torch

from papertrial.efficient.apollo import Apollo, GaLore

SHAPES = {"tall": (12, 8), "wide": (8, 12), "square": (8, 8), "vector": (8,)}
CASES = {
    "channel": {"rank": 4},
    "tensor": {"scale": 128.0, "scale_type": "tensor", "rank": 1},
    "tensor, scale in front": {"scale": 128.0, "scale_type": "tensor", "rank": 1, "scale_front": True},
    "channel, no limiter": {"scale": 4.0, "rank": 2, "limiter": None},
    "channel, decay": {"rank": 4, "weight_decay": 0.1},
    "channel, svd": {"rank": 4, "proj": "svd"},
    "tensor, svd": {"scale_type": "tensor", "rank": 4, "proj": "svd"},
}


def gradient(shape, step):
    count = torch.tensor(shape).prod().item()
    index = torch.arange(1, count + 1, dtype=torch.float64)
    values = torch.sin(index * (step + 1) * 0.7) + 0.3 * torch.cos(index * 1.3)
    return (values * 0.01 * (1 + step**2)).reshape(shape).float()


def compare(optimizer_class, expected, rank, options):
    weights = {
        name: torch.nn.Parameter(torch.linspace(-0.5, 0.5, torch.tensor(shape).prod().item()).reshape(shape))
        for name, shape in SHAPES.items()
    }
    low_rank = [weights[name] for name in ("tall", "wide", "square")]
    groups = [{"params": [weights["vector"]]}, {"params": low_rank, "rank": rank}]
    optimizer = optimizer_class(groups, lr=0.01, update_proj_gap=3, **options)
    for step in range(7):
        for name, weight in weights.items():
            weight.grad = gradient(SHAPES[name], step)
        optimizer.step()
    for name, weight in weights.items():
        # Float32 rounding over seven steps; largest seen over whole tensors 1.5e-7.
        torch.testing.assert_close(
            weight.detach().flatten()[:6], torch.tensor(expected[name]), atol=1e-6, rtol=1e-6
        )


@pytest.mark.parametrize("case", CASES)
def test_apollo_equals_the_released_optimizer(case, released):
    options = dict(CASES[case])
    compare(Apollo, released[case], options.pop("rank"), options)


def test_galore_equals_the_released_optimizer(released):
    compare(GaLore, released["galore"], 4, {"scale": 0.25})


def test_the_projections_change_between_draws(released):
    """The recorded runs span three draws, so equality above covers the seed order."""
    weight = torch.nn.Parameter(torch.zeros(12, 8))
    optimizer = Apollo([{"params": [weight], "rank": 4}], update_proj_gap=3)
    seen = []
    for step in range(7):
        weight.grad = gradient((12, 8), step)
        optimizer.step()
        seen.append(optimizer.state[weight]["seed"])
    assert [len({*seen[:3]}), len({*seen[3:6]}), len({*seen})] == [1, 1, 3]
