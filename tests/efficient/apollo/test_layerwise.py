from __future__ import annotations

import pytest
import torch
from torch import distributed

from papertrial.efficient.apollo import Apollo, LayerwiseSteps, param_groups
from papertrial.errors import BadInputError

TOKENS = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(1))


def backward(model):
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()


def test_same_weights_as_the_plain_step(tiny_llama):
    """One step in the backward pass or after it is the same arithmetic, bit by bit."""
    models = tiny_llama(), tiny_llama()
    for model, layerwise in zip(models, (False, True), strict=True):
        optimizer = Apollo(param_groups(model, rank=4), lr=0.01, weight_decay=0.1, update_proj_gap=2)
        if layerwise:
            LayerwiseSteps(optimizer)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        for _ in range(4):
            backward(model)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_gradients_never_exist_together(tiny_llama):
    model = tiny_llama()
    optimizer = Apollo(param_groups(model, rank=4))
    LayerwiseSteps(optimizer)
    most = 0

    def count(_):
        nonlocal most
        most = max(most, sum(p.grad is not None for p in model.parameters()))

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(count)
    backward(model)
    assert most == 0
    assert all(p.grad is None for p in model.parameters())


def test_accumulation_is_refused(tiny_llama):
    model = tiny_llama()
    optimizer = Apollo(param_groups(model, rank=4))
    LayerwiseSteps(optimizer)
    backward(model)
    with pytest.raises(BadInputError, match="gradient accumulation 1"):
        backward(model)


def test_removed_hooks_leave_a_plain_optimizer(tiny_llama):
    model = tiny_llama()
    optimizer = Apollo(param_groups(model, rank=4))
    steps = LayerwiseSteps(optimizer)
    steps.remove()
    backward(model)
    assert all(p.grad is not None for p in model.parameters())
    optimizer.step()
    assert optimizer.state


def test_data_parallelism_is_refused(tiny_llama, tmp_path, monkeypatch):
    optimizer = Apollo(param_groups(tiny_llama(), rank=4))
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        LayerwiseSteps(optimizer).remove()  # one process is fine
        monkeypatch.setattr(distributed, "get_world_size", lambda *_: 4)
        with pytest.raises(BadInputError, match="4 data-parallel processes"):
            LayerwiseSteps(optimizer)
    finally:
        distributed.destroy_process_group()


def test_stray_parameter_is_refused():
    optimizer = Apollo([{"params": [torch.nn.Parameter(torch.ones(4, 4))], "rank": 2}])
    with pytest.raises(BadInputError, match=r"shape \(3,\) is not in this optimizer"):
        optimizer.step_parameter(torch.ones(3))
