from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BitNetConfig, BitNetForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from papertrial.efficient.experts import separate_experts
from papertrial.efficient.layouts import LayerNames, layout_of, norm_adds_one, scale_norm
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

_SPLIT = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
_NORMS = {"input_layernorm": _SPLIT[0], "post_attention_layernorm": _SPLIT[2]}


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral", "tiny-qwen2", "tiny-qwen3", "tiny-gemma"])
def test_llama_like_layers_are_found(name):
    layout = layout_of(load_causal_lm(name, vocab_size=64))
    assert [layer.name for layer in layout.layers] == ["model.layers.0", "model.layers.1"]
    for layer in layout.layers:
        assert layer.sequential == _SPLIT
        assert dict(layer.norm_groups) == _NORMS
        assert layer.chains == {"self_attn.o_proj": "self_attn.v_proj", "mlp.down_proj": "mlp.up_proj"}
        assert layer.offset_norms == (frozenset(_NORMS) if name == "tiny-gemma" else frozenset())
    assert not any("lm_head" in linear or "embed" in linear for linear in layout.linears)


def test_gemma3_reads_its_feed_forward_from_the_norm_before_it():
    layer = layout_of(load_causal_lm("tiny-gemma3", vocab_size=64)).layers[0]
    assert layer.norm_groups["pre_feedforward_layernorm"] == _SPLIT[2]
    assert "post_attention_layernorm" not in layer.norm_groups  # it stands on the branch's output
    assert layer.offset_norms == {"input_layernorm", "pre_feedforward_layernorm"}


def test_phi3_keeps_its_stacked_projections():
    layer = layout_of(load_causal_lm("tiny-phi3", vocab_size=64)).layers[0]
    assert layer.sequential == (
        ("self_attn.qkv_proj",),
        ("self_attn.o_proj",),
        ("mlp.gate_up_proj",),
        ("mlp.down_proj",),
    )
    assert layer.chains == {}


def test_bitnets_inner_norms_feed_its_output_projections():
    config = BitNetConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    layer = layout_of(BitNetForCausalLM(config)).layers[0]
    assert layer.norm_groups["self_attn.attn_sub_norm"] == ("self_attn.o_proj",)
    assert layer.norm_groups["mlp.ffn_sub_norm"] == ("mlp.down_proj",)
    assert layer.chains == {}  # a norm stands between up and down, and between v and o


def test_experts_are_sets_of_their_own_and_the_router_is_none():
    config = Qwen3MoeConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_experts=3,
        num_experts_per_tok=2,
        mlp_only_layers=[],
    )
    model = Qwen3MoeForCausalLM(config)
    with pytest.raises(BadInputError, match=r"keeps its experts stacked in mlp\.experts\.gate_up_proj"):
        layout_of(model)
    separate_experts(model)
    layer = layout_of(model).layers[0]
    assert ("mlp.experts.1.gate_proj", "mlp.experts.1.up_proj") in layer.sequential
    assert layer.routers == ("mlp.gate",)
    assert "mlp.gate" not in layer.linears
    assert "mlp.gate" in layer.norm_groups["post_attention_layernorm"]
    assert layer.inspected["mlp.experts.2.gate_proj"] == "mlp"


class _Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.before = nn.Linear(8, 8), nn.Linear(8, 8), nn.RMSNorm(8)


def test_other_names_need_a_layout_of_their_own():
    model = nn.Module()
    model.blocks = nn.ModuleList([_Block(), _Block()])
    with pytest.raises(BadInputError, match="its lists of modules: blocks"):
        layout_of(model)
    names = LayerNames((("first",), ("second",)), {"before": ("first",)})
    assert layout_of(model, names).linears == (
        "blocks.0.first",
        "blocks.0.second",
        "blocks.1.first",
        "blocks.1.second",
    )
    with pytest.raises(BadInputError, match=r"blocks\.0 holds linears that the layout does not know: second"):
        layout_of(model, LayerNames((("first",),), {}))


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-gemma3"])
def test_scaling_a_norm_scales_its_output(name):
    layer = load_causal_lm(name, vocab_size=64).model.layers[0]
    norm = layer.input_layernorm
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        inputs = torch.randn(5, norm.weight.numel(), generator=generator)
        factor = torch.rand(norm.weight.numel(), generator=generator) + 0.5
        expected = norm(inputs) * factor
        scale_norm(norm, factor, adds_one=norm_adds_one(norm))
        # one rounding of (1 + w)·f − 1 on the way
        torch.testing.assert_close(norm(inputs), expected, rtol=1e-5, atol=1e-5)


def test_a_norm_that_does_neither_is_refused():
    class Squaring(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((4,), 3.0))

        def forward(self, x):
            return x * self.weight**2

    with pytest.raises(BadInputError, match="multiplies neither by its weight nor by 1"):
        norm_adds_one(Squaring())
