from __future__ import annotations

import math

import pytest
import torch
from torch import distributed, nn

from papertrial.efficient.apollo import Apollo, GaLore, NonFiniteGradientError, checks, param_groups
from papertrial.errors import BadInputError


def low_rank(*shape, **options):
    return [{"params": [("layer.weight", nn.Parameter(torch.ones(shape)))], "rank": 2, **options}]


@pytest.mark.parametrize("optimizer", [Apollo, GaLore])
@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((8, 4), {"rank": 5}, r"rank of layer.weight \(8 x 4\) must be between 1 and 4, got 5"),
        ((8, 4), {"rank": 0}, "rank of layer.weight must be an int of at least 1, got 0"),
        ((8, 4), {"rank": 2.0}, "must be an int"),
        ((8, 4), {"rank": True}, "must be an int"),
        ((8,), {}, r"layer.weight has shape \(8,\).*param_groups.*FSDP"),
        ((8, 4, 3), {}, r"flatten=True.*\(8, 12\)"),
        ((8, 4), {"proj": "hadamard"}, "proj of .* must be one of random, svd, got 'hadamard'"),
        ((8, 4), {"update_proj_gap": 0}, "update_proj_gap of .* at least 1, got 0"),
        ((8, 4), {"lr": -1.0}, "lr of .* must be a number of at least 0"),
        ((8, 4), {"eps": math.nan}, "eps of"),
        ((8, 4), {"betas": (0.9, 1.0)}, r"betas of .* in \[0, 1\)"),
        ((8, 4), {"state_dtype": "int8"}, "state_dtype of .* float32, gradient"),
    ],
)
def test_groups_that_cannot_work_are_named(optimizer, shape, options, words):
    with pytest.raises(BadInputError, match=words):
        optimizer(low_rank(*shape, **options), lr=0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale_type": "row"}, "scale_type of .* channel, tensor, got 'row'"),
        ({"scale": 0.0}, "scale must be 'auto' or a number above 0"),
        ({"scale": "rank"}, "scale must be 'auto'"),
        ({"limiter": 0.9}, "limiter must be None or a growth of at least 1"),
        ({"draw_on": "gpu"}, "draw_on of .* cpu, gradient"),
    ],
)
def test_apollo_options_that_cannot_work(options, words):
    with pytest.raises(BadInputError, match=words):
        Apollo(low_rank(8, 4), **options)


def test_reversed_projection_types_are_refused():
    with pytest.raises(BadInputError, match=r"proj_type 'reverse_std'.*wrong axis"):
        Apollo(low_rank(8, 4, proj_type="reverse_std"))
    Apollo(low_rank(8, 4, proj_type="std"))


def test_galore_scale_must_be_positive():
    with pytest.raises(BadInputError, match="scale of GaLore"):
        GaLore(low_rank(8, 4), scale=-0.25)


def test_groups_without_a_rank_are_refused():
    with pytest.raises(BadInputError, match=r"no group with a 'rank'.*param_groups"):
        Apollo(nn.Linear(4, 4).parameters())


def test_unnamed_parameter_is_named_by_number_and_shape():
    with pytest.raises(BadInputError, match=r"rank of parameter 2 of shape \(3, 9\)"):
        Apollo(
            [
                {"params": [nn.Parameter(torch.ones(4))]},
                {"params": [nn.Parameter(torch.ones(3, 9))], "rank": 4},
            ]
        )


def test_refused_group_is_not_kept():
    optimizer = Apollo([{"params": [nn.Parameter(torch.ones(8, 4))], "rank": 2}])
    with pytest.raises(BadInputError):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))], "rank": 3})
    assert len(optimizer.param_groups) == 1


def test_noncontiguous_kernel_cannot_be_flattened():
    kernel = nn.Parameter(torch.ones(4, 3, 2, 2).to(memory_format=torch.channels_last))
    with pytest.raises(BadInputError, match="not contiguous"):
        Apollo([{"params": [kernel], "rank": 2}], flatten=True)


def test_sharded_weight_is_refused(tmp_path):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        weight = nn.Parameter(distribute_tensor(torch.ones(8, 4), mesh, [Shard(0)]))
        with pytest.raises(BadInputError, match="sharded DTensor"):
            Apollo([{"params": [weight], "rank": 2}])
    finally:
        distributed.destroy_process_group()


def test_sparse_gradient_is_refused():
    embedding = nn.Embedding(6, 4, sparse=True)
    optimizer = Apollo(
        [{"params": [embedding.weight]}, {"params": [nn.Parameter(torch.ones(4, 4))], "rank": 2}]
    )
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(BadInputError, match="sparse gradient"):
        optimizer.step()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["dense", "low-rank"])
@pytest.mark.parametrize("options", [{}, {"scale_type": "tensor"}])
def test_nonfinite_gradient_changes_nothing(bad, place, options):
    """Neither weights nor moments nor the limiter's memory: the next good step is as if it never came."""
    generator = torch.Generator().manual_seed(0)
    good = {"dense": torch.randn(5, generator=generator), "low-rank": torch.randn(6, 4, generator=generator)}

    def train(with_a_bad_batch):
        weights = {name: nn.Parameter(torch.zeros(gradient.shape)) for name, gradient in good.items()}
        groups = [
            {"params": [("dense", weights["dense"])]},
            {"params": [("low-rank", weights["low-rank"])], "rank": 2},
        ]
        optimizer = Apollo(groups, **options)
        for step in range(3):
            for name, weight in weights.items():
                weight.grad = good[name] * (step + 1)
            if with_a_bad_batch and step == 1:
                weights[place].grad[2] = bad
                with pytest.raises(NonFiniteGradientError, match=f"gradient of {place} is not finite"):
                    optimizer.step()
                weights[place].grad = good[place] * (step + 1)
            optimizer.step()
        return weights

    untouched, disturbed = train(False), train(True)
    assert all(torch.equal(untouched[name], disturbed[name]) for name in good)


def test_galore_raises_too():
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.full((4, 4), math.nan)
    with pytest.raises(NonFiniteGradientError):
        GaLore([{"params": [weight], "rank": 2}]).step()


def test_unchecked_step_does_not_look(monkeypatch):
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.full((4, 4), math.nan)
    Apollo([{"params": [weight], "rank": 2}], check_finite=False).step()
    assert weight.isnan().any()


def test_adamws_learning_rate_warns_once(monkeypatch, recwarn):
    monkeypatch.setattr(checks, "_warned_of_small_rate", False)
    for _ in range(3):
        Apollo(low_rank(8, 4), lr=1e-4)
    assert [str(w.message) for w in recwarn] == [
        "Apollo with lr 0.0001: for pre-training its usual rate is about ten times AdamW's (0.01); "
        "rates this small are for fine-tuning"
    ]


def test_no_layer_with_such_a_name(tiny_llama):
    with pytest.raises(BadInputError, match=r"no linear layer of LlamaForCausalLM.*'ffn'.*q_proj"):
        param_groups(tiny_llama(), rank=2, target=("ffn",))
