from __future__ import annotations

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from papertrial.efficient.experts import SeparateExperts, separate_experts
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

_SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_experts_per_tok": 2,
}


def _models():
    torch.manual_seed(0)
    qwen = Qwen3MoeConfig(**_SIZES, moe_intermediate_size=16, head_dim=16, num_experts=5, mlp_only_layers=[0])
    mixtral = MixtralConfig(**_SIZES, num_local_experts=4)
    return {"qwen3_moe": Qwen3MoeForCausalLM(qwen).eval(), "mixtral": MixtralForCausalLM(mixtral).eval()}


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral"])
def test_separate_experts_compute_what_the_stacked_ones_do(name):
    model = _models()[name]
    ids = torch.randint(64, (3, 11))
    with torch.no_grad():
        before = model(ids).logits
        found = separate_experts(model)
        after = model(ids).logits
    # experts' outputs are added up in another order
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    layers = [1] if name == "qwen3_moe" else [0, 1]
    assert found == [f"model.layers.{layer}.mlp.experts" for layer in layers]
    assert isinstance(model.model.layers[1].mlp.experts, SeparateExperts)
    assert "model.layers.1.mlp.experts.3.gate_proj.weight" in model.state_dict()


def test_a_model_without_experts_is_left_alone():
    assert separate_experts(load_causal_lm("tiny-qwen3", vocab_size=64)) == []


def test_other_stacks_are_refused():
    stack = torch.nn.Module()
    stack.down_proj = torch.nn.Parameter(torch.zeros(2, 3, 3))
    stack.up_proj = torch.nn.Parameter(torch.zeros(2, 3, 3))
    model = torch.nn.Module()
    model.experts = stack
    with pytest.raises(BadInputError, match="the experts in experts hold down_proj, up_proj"):
        separate_experts(model)
