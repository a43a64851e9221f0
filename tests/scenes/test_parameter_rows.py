"""Rows of parameters and Adam's moments: against a run that had only the kept rows from the start."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from papertrial.errors import BadInputError
from papertrial.scenes.parameter_rows import append_rows, keep_rows


class Table(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.places = nn.Parameter(rows.clone())
        self.register_buffer("fixed", torch.arange(len(rows)).float()[:, None])


def adam(module, **more):
    return torch.optim.Adam([{"params": [module.places], "lr": 0.05, "name": "places"}], eps=1e-15, **more)


def train(module, optimizer, targets, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        (module.places - targets).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("amsgrad", [False, True])
def test_kept_rows_go_on_as_if_the_others_had_never_been(amsgrad):
    """Adam works number by number, so the kept rows' path must be that of a run with them alone, to the bit."""
    start, targets = torch.randn(6, 3), torch.randn(6, 3)
    kept = torch.tensor([True, False, True, True, False, False])
    module, alone = Table(start), Table(start[kept])
    optimizer, other = adam(module, amsgrad=amsgrad), adam(alone, amsgrad=amsgrad)
    train(module, optimizer, targets, 7)
    keep_rows(module, optimizer, kept, ["places", "fixed"])
    train(module, optimizer, targets[kept], 5)
    train(alone, other, targets[kept], 12)
    assert torch.equal(module.places, alone.places)
    assert module.fixed[:, 0].tolist() == [0.0, 2.0, 3.0]


def test_appended_rows_have_zero_moments_and_the_others_theirs():
    module = Table(torch.randn(2, 3))
    optimizer = adam(module)
    train(module, optimizer, torch.zeros(2, 3), 4)
    before = {name: value.clone() for name, value in optimizer.state[module.places].items()}
    append_rows(module, optimizer, {"places": torch.ones(3, 3), "fixed": torch.full((3, 1), 9.0)})
    state = optimizer.state[module.places]
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(state[name][:2], before[name])
        assert torch.equal(state[name][2:], torch.zeros(3, 3))
    assert float(state["step"]) == 4
    assert torch.equal(module.places[2:], torch.ones(3, 3))
    assert module.fixed[:, 0].tolist() == [0.0, 1.0, 9.0, 9.0, 9.0]


def test_groups_keep_names_rates_and_order_and_hold_the_new_parameters():
    module, head = Table(torch.randn(3, 2)), nn.Linear(2, 2)
    groups = [
        {"params": list(head.parameters()), "lr": 0.1, "name": "head"},
        {"params": [module.places], "lr": 0.2, "name": "places"},
    ]
    optimizer = torch.optim.Adam(groups)
    old = module.places
    keep_rows(module, optimizer, torch.tensor([True, False, True]), ["places"])
    assert module.places is not old
    assert [(group["name"], group["lr"]) for group in optimizer.param_groups] == [
        ("head", 0.1),
        ("places", 0.2),
    ]
    assert optimizer.param_groups[1]["params"][0] is module.places
    assert old not in optimizer.state  # no row of what is gone is kept alive


def test_rows_can_be_edited_before_the_first_step_and_the_state_is_saved_whole():
    module = Table(torch.randn(3, 2))
    optimizer = adam(module)
    append_rows(module, optimizer, {"places": torch.zeros(1, 2)})
    train(module, optimizer, torch.ones(4, 2), 2)
    copy = Table(module.places.detach())
    other = adam(copy)
    other.load_state_dict(deepcopy(optimizer.state_dict()))  # loading shares the moments it is given
    train(module, optimizer, torch.ones(4, 2), 3)
    train(copy, other, torch.ones(4, 2), 3)
    assert torch.equal(module.places, copy.places)


def test_what_cannot_be_edited_is_named():
    module = Table(torch.randn(3, 2))
    optimizer = adam(module)
    with pytest.raises(BadInputError, match="places has 3 rows, kept speaks of 2"):
        keep_rows(module, optimizer, torch.tensor([True, False]), ["places"])
    with pytest.raises(BadInputError, match="no parameter or buffer 'palces'"):
        keep_rows(module, optimizer, torch.ones(3, dtype=torch.bool), ["palces"])
    with pytest.raises(BadInputError, match=r"rows of places have shape \(2,\), got \(5,\)"):
        append_rows(module, optimizer, {"places": torch.zeros(1, 5)})
    with pytest.raises(BadInputError, match="the same number of new rows"):
        append_rows(module, optimizer, {"places": torch.zeros(1, 2), "fixed": torch.zeros(2, 1)})
    stranger = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    with pytest.raises(BadInputError, match="the optimiser does not train places"):
        keep_rows(module, stranger, torch.ones(3, dtype=torch.bool), ["places"])
