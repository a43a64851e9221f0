from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

from papertrial.efficient.apollo import Apollo, GaLore, param_groups


def make(kind, parameters):
    tall, wide, vector = parameters
    groups = [{"params": [vector]}, {"params": [tall, wide], "rank": 3}]
    if kind == "galore":
        return GaLore(groups, lr=0.01, update_proj_gap=4)
    options = {
        "channel": {},
        "tensor": {"scale_type": "tensor", "scale": 16.0},
        "svd": {"proj": "svd"},
        "redrawn": {"keep_projection": False},
        "other seeds": {"seed": 7},
    }[kind]
    return Apollo(groups, lr=0.01, update_proj_gap=4, **options)


def parameters(weight, dtype):
    return weight(8, 5, dtype=dtype), weight(5, 8, dtype=dtype, seed=2), weight(7, dtype=dtype, seed=3)


def streams(parameters, gradients, steps):
    return {p: gradients(tuple(p.shape), steps, seed=i, dtype=p.dtype) for i, p in enumerate(parameters)}


def through_a_file(state):
    """Save and load as a Trainer does: nothing but tensors and plain values may be inside."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("kind", ["channel", "tensor", "svd", "redrawn", "other seeds", "galore"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [1, 4, 6])
def test_resuming_is_bit_identical(kind, dtype, stop, weight, gradients, run):
    """Stopped right after a draw, right before the next, and between two."""
    whole = parameters(weight, dtype)
    plan = streams(whole, gradients, 10)
    run(make(kind, whole), plan)

    part = parameters(weight, dtype)
    early = make(kind, part)
    run(early, {p: plan[q][:stop] for p, q in zip(part, whole, strict=True)})
    saved = through_a_file(early.state_dict())
    resumed = [torch.nn.Parameter(p.detach().clone()) for p in part]
    late = make(kind, resumed)
    late.load_state_dict(saved)
    run(late, {p: plan[q][stop:] for p, q in zip(resumed, whole, strict=True)})
    assert all(torch.equal(p, q) for p, q in zip(resumed, whole, strict=True))


def test_state_loads_weights_only(weight, gradients, run):
    held = parameters(weight, torch.float32)
    optimizer = make("channel", held)
    run(optimizer, streams(held, gradients, 3))
    state = through_a_file(optimizer.state_dict())["state"]
    assert {type(value) for entry in state.values() for value in entry.values()} <= {torch.Tensor, int}


def test_float32_moments_of_a_bfloat16_weight_are_not_rounded_by_loading(weight, gradients, run):
    held = parameters(weight, torch.bfloat16)
    optimizer = make("channel", held)
    run(optimizer, streams(held, gradients, 3))
    before = optimizer.state[held[0]]["exp_avg"].clone()
    optimizer.load_state_dict(through_a_file(optimizer.state_dict()))
    after = optimizer.state[held[0]]["exp_avg"]
    assert after.dtype == torch.float32
    assert torch.equal(before, after)
    assert not torch.equal(before, before.bfloat16().float())  # there was something to lose


def test_state_dtype_gradient_keeps_bfloat16_moments(weight, gradients, run):
    held = weight(8, 5, dtype=torch.bfloat16)
    optimizer = Apollo([{"params": [held], "rank": 2}], state_dtype="gradient")
    run(optimizer, {held: gradients((8, 5), 2, dtype=torch.bfloat16)})
    assert optimizer.state[held]["exp_avg"].dtype == torch.bfloat16


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_goes_on_as_the_original(duplicate, weight, gradients, run):
    held = weight(8, 5)
    optimizer = Apollo([{"params": [held], "rank": 2}], update_proj_gap=2)
    stream = gradients((8, 5), 6)
    run(optimizer, {held: stream[:3]})
    twin = duplicate(optimizer)
    (twin_weight,) = twin.param_groups[0]["params"]
    run(optimizer, {held: stream[3:]})
    run(twin, {twin_weight: stream[3:]})
    assert torch.equal(held, twin_weight)


@pytest.mark.parametrize(("rows", "columns"), [(24, 16), (16, 24), (16, 16)])
def test_state_has_the_papers_element_count(rows, columns, weight, gradients, run):
    """Table 1: APOLLO 2nr + 2, Mini 2n + 2 (the +2 are the seed and the last norm), GaLore 2nr + mr."""
    n, m, r = max(rows, columns), min(rows, columns), 4
    stream = gradients((rows, columns), 2)
    for optimizer_class, rank, options, elements in (
        (Apollo, r, {}, 2 * n * r + 2),
        (Apollo, 1, {"scale_type": "tensor"}, 2 * n + 2),
        (GaLore, r, {}, 2 * n * r + m * r),
        (Apollo, r, {"proj": "svd"}, 2 * n * r + m * r + 1),
    ):
        held = weight(rows, columns)
        optimizer = optimizer_class([{"params": [held], "rank": rank}], **options)
        run(optimizer, {held: stream})
        state = optimizer.state[held]
        tensors = sum(value.numel() for value in state.values() if isinstance(value, torch.Tensor))
        seeds = 1 if "seed" in state else 0
        assert tensors + seeds == elements
        assert optimizer.state_bytes() == 4 * tensors
        assert optimizer.cache_bytes() == (4 * m * rank if seeds else 0)


def test_numbering_follows_the_released_order(tiny_llama):
    """Dense parameters are counted first, frozen ones too; the low-rank ones follow the modules."""
    model = tiny_llama()
    model.model.embed_tokens.weight.requires_grad_(False)
    optimizer = Apollo(param_groups(model, rank=2))
    tokens = torch.arange(12).reshape(1, 12)
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    dense, low_rank = optimizer.param_groups
    seeds = [optimizer.state[p]["seed"] for p in low_rank["params"]]
    assert seeds == list(range(len(dense["params"]) + 1, len(dense["params"]) + 8))
