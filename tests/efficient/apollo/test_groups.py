from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from papertrial.efficient.apollo import Apollo, param_groups
from papertrial.efficient.apollo.groups import quarter_rank

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize(
    ("config", "model_class"),
    [(Qwen3Config, Qwen3ForCausalLM), (MistralConfig, MistralForCausalLM), (GemmaConfig, GemmaForCausalLM)],
)
def test_decoders_get_their_seven_linears(config, model_class):
    model = model_class(config(**SIZES))
    dense, low_rank = param_groups(model, rank=4)
    names = [name for name, _ in low_rank["params"]]
    assert [name.split(".")[-2] for name in names] == SEVEN * 2
    together = [p for _, p in dense["params"]] + [p for _, p in low_rank["params"]]
    assert {id(p) for p in together} == {id(p) for p in model.parameters()}
    assert len(together) == len(list(model.parameters()))  # a tied head is there once
    Apollo([dense, low_rank])
    assert quarter_rank(model) == 4


def test_groups_train_a_real_model(tiny_llama):
    model = tiny_llama()
    optimizer = Apollo(param_groups(model, rank=8), lr=0.01)
    tokens = torch.randint(0, 256, (4, 16), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(30):
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_diffusion_model_by_its_own_names():
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    _, low_rank = param_groups(model, rank=2, target=("attn", "ff.net"))
    assert all(".attn" in name or ".ff.net" in name for name, _ in low_rank["params"])
    Apollo([low_rank])


def test_expert_stacks_and_kernels_stay_dense_unless_flattened():
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
    model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **experts))
    stacks = {name for name, p in model.named_parameters() if p.ndim == 3}
    assert stacks
    plain = {name for name, _ in param_groups(model, rank=1)[-1]["params"]}
    groups = param_groups(model, rank=1, flatten=True)
    flat = {name for name, _ in groups[-1]["params"]}
    assert flat - plain == stacks
    tokens = torch.arange(12).reshape(1, 12)
    optimizer = Apollo(groups)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if name in stacks}
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters() if name in stacks)

    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Linear(4, 4))

    assert [n for n, _ in param_groups(Convolution(), rank=2)[-1]["params"]] == ["mlp.1.weight"]
    flat = param_groups(Convolution(), rank=2, flatten=True)
    assert [n for n, _ in flat[-1]["params"]] == ["mlp.0.weight", "mlp.1.weight"]


def test_each_group_has_its_own_decay_or_the_optimizers(tiny_llama):
    groups = param_groups(tiny_llama(), rank=2, weight_decay=0.1)
    dense, low_rank = Apollo(groups, weight_decay=0.3).param_groups
    assert (dense["weight_decay"], low_rank["weight_decay"]) == (0.3, 0.1)


def test_options_go_to_the_low_rank_group(tiny_llama):
    groups = param_groups(tiny_llama(), rank=1, scale=128.0, scale_type="tensor")
    dense, low_rank = Apollo(groups).param_groups
    assert (dense["scale"], low_rank["scale"], low_rank["scale_type"]) == (1.0, 128.0, "tensor")


def test_quarter_rank_fits_the_narrowest_weight():
    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.ModuleList([nn.Linear(64, 64), nn.Linear(64, 6)])

    assert quarter_rank(Grouped()) == 6
