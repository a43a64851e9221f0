from __future__ import annotations

import pytest
import torch
from torch import nn

from papertrial.efficient.vocabulary_adaptation.continued import MixedBatches, continued_training_optimizer
from papertrial.errors import BadInputError


def blocks(value, count):
    """Blocks that say which language they are of, and which they are."""
    return torch.stack([torch.tensor([value, number]) for number in range(count)])


@pytest.mark.parametrize(("share", "batch"), [(0.75, 4), (0.75, 3), (0.3, 7), (0.0, 2), (1.0, 2)])
def test_the_share_holds_over_any_run(share, batch):
    stream = MixedBatches(blocks(1, 6), blocks(0, 5), batch, share)
    taken = []
    for _ in range(25):
        rows = next(stream)
        assert rows.shape == (batch, 2)
        taken += rows[:, 0].tolist()
        assert abs(sum(taken) - share * len(taken)) <= 1


def test_every_block_of_a_language_comes_once_a_round():
    stream = MixedBatches(blocks(1, 6), blocks(0, 2), 4, 0.75)
    seen = [tuple(row) for _ in range(2) for row in next(stream).tolist()]
    assert sorted(row for row in seen if row[0] == 1) == [(1, number) for number in range(6)]
    assert sorted(row for row in seen if row[0] == 0) == [(0, 0), (0, 1)]


def test_resumes_where_it_stood():
    first, second = (MixedBatches(blocks(1, 6), blocks(0, 5), 3, 0.6, seed=4) for _ in range(2))
    for _ in range(7):
        next(first)
    second.load_state_dict(first.state_dict())
    for _ in range(9):
        assert torch.equal(next(first), next(second))


def test_decay_does_not_shrink_with_the_rate():
    """Without gradients a step multiplies by 1 - 1e-5, at whatever peak rate, as Composer's decoupled AdamW."""
    for lr in (1e-5, 1e-3):
        layer = nn.Linear(3, 2).double()
        before = layer.weight.detach().clone()
        optimizer = continued_training_optimizer(layer, lr)
        for weight in layer.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        assert torch.allclose(layer.weight / before, torch.full_like(before, 1 - 1e-5), atol=1e-12)
        optimizer.param_groups[0]["lr"] = lr / 2  # half way up the warm-up: half the decay
        before = layer.weight.detach().clone()
        optimizer.step()
        assert torch.allclose(layer.weight / before, torch.full_like(before, 1 - 0.5e-5), atol=1e-12)


def test_the_papers_settings():
    group = continued_training_optimizer(nn.Linear(2, 2)).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (1e-5, (0.9, 0.95), 1e-8)


def test_bad_input():
    with pytest.raises(BadInputError, match="share must lie between 0 and 1, got 75"):
        MixedBatches(blocks(1, 2), blocks(0, 2), 2, 75.0)
    with pytest.raises(BadInputError, match="one length, got 2 and 3"):
        MixedBatches(blocks(1, 2), torch.zeros(2, 3, dtype=torch.int64), 2)
    with pytest.raises(BadInputError, match="batch_size must be at least 1"):
        MixedBatches(blocks(1, 2), blocks(0, 2), 0)
    with pytest.raises(BadInputError, match="lr must be above 0"):
        continued_training_optimizer(nn.Linear(2, 2), 0.0)
