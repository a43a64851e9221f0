"""Exponential schedules: against torch's own, and equal ratios."""

from __future__ import annotations

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.scenes.learning_rates import exponential_rate, set_rates


def test_it_is_torchs_exponential_schedule():
    first, last, steps = 1.6e-4, 1.6e-6, 40
    rate = exponential_rate(first, last, steps)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=first)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=(last / first) ** (1 / steps))
    for step in range(steps + 1):
        assert rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        schedule.step()


def test_it_stays_at_its_ends():
    rate = exponential_rate(0.01, 0.0001, 10)
    assert rate(0) == pytest.approx(0.01)
    assert rate(5) == pytest.approx(0.001)  # halfway is the geometric mean
    assert rate(10) == rate(10_000) == pytest.approx(0.0001)


def test_named_groups_follow_and_others_stay():
    groups = [{"params": [torch.zeros(1)], "lr": 0.5, "name": name} for name in ("one", "two")]
    optimizer = torch.optim.Adam(groups)
    set_rates(optimizer, {"two": exponential_rate(1.0, 0.01, 2)}, 1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.1])
    with pytest.raises(BadInputError, match="no group 'three'; it has one, two"):
        set_rates(optimizer, {"three": exponential_rate(1.0, 0.1, 2)}, 1)


@pytest.mark.parametrize(("first", "last", "steps"), [(0.0, 1.0, 5), (1.0, -1.0, 5), (1.0, 0.1, 0)])
def test_schedules_that_cannot_be(first, last, steps):
    with pytest.raises(BadInputError, match="above 0"):
        exponential_rate(first, last, steps)
