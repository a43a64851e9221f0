from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.utils import logging

from papertrial.efficient.experts import separate_experts
from papertrial.efficient.layouts import layout_of
from papertrial.efficient.quantized_checkpoints import load_quantized, save_quantized
from papertrial.efficient.quantized_linear import QuantizedWeight, QuantLinear, replace_by_quantized
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm


@pytest.fixture(autouse=True)
def quiet():
    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def _ids(vocabulary=64):
    return torch.randint(vocabulary, (2, 9), generator=torch.Generator().manual_seed(1))


def _logits(model):
    with torch.no_grad():
        return model(_ids()).logits


def _packed(bits, *, ordered=False, activation_bits=None, group=16, model=None, **overrides):
    """Return a model whose matrices are random codes: what a checkpoint must bring back."""
    model = model or load_causal_lm(
        "tiny-qwen3", vocab_size=64, hidden_size=64, intermediate_size=96, **overrides
    )
    generator = torch.Generator().manual_seed(0)
    for name in layout_of(model).linears:
        outputs, inputs = model.get_submodule(name).weight.shape
        groups = inputs // group
        order = torch.randperm(inputs, generator=generator).div(group, rounding_mode="floor").int()
        weight = QuantizedWeight(
            torch.randint(1 << bits, (outputs, inputs), generator=generator, dtype=torch.uint8),
            (torch.rand(outputs, groups, generator=generator) / 64).half(),
            torch.randint(1, 1 << bits, (outputs, groups), generator=generator, dtype=torch.uint8),
            bits,
            order if ordered else None,
        )
        replace_by_quantized(model, name, weight, activation_bits)
    return model.eval()


CASES = [
    (3, "papertrial", {"ordered": True}),
    (4, "papertrial", {"activation_bits": 8}),
    (4, "papertrial", {"tie_word_embeddings": True}),
    (8, "papertrial", {"attention_bias": True}),
    (2, "gptq", {}),
    (4, "gptq", {"ordered": True, "attention_bias": True}),
    (3, "gptq_v2", {}),
    (4, "awq", {"tie_word_embeddings": True}),
]


@pytest.mark.parametrize(("bits", "form", "options"), CASES)
def test_a_saved_model_is_loaded_as_it_was(bits, form, options, tmp_path):
    model = _packed(bits, **options)
    save_quantized(model, tmp_path, method="rtn", format=form)
    again = load_quantized(tmp_path)
    assert isinstance(again.model.layers[1].mlp.down_proj, QuantLinear)
    assert torch.equal(_logits(again), _logits(model))
    if options.get("tie_word_embeddings"):
        assert again.lm_head.weight is again.model.embed_tokens.weight


def test_automodel_loads_our_format(tmp_path):
    model = _packed(4)
    save_quantized(model, tmp_path, method="rtn")
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(_logits(again.eval()), _logits(model))
    again.save_pretrained(tmp_path / "again")  # transformers' own saving keeps it
    assert torch.equal(_logits(load_quantized(tmp_path / "again")), _logits(model))


@pytest.mark.parametrize("form", ["dense", "metal"])
def test_automodel_loads_plain_and_metal_folders_without_other_packages(form, tmp_path):
    model = _packed(4)
    save_quantized(model, tmp_path, format=form)
    assert isinstance(model.model.layers[0].mlp.up_proj, QuantLinear)  # saving leaves the model alone
    again = AutoModelForCausalLM.from_pretrained(tmp_path, device_map="cpu").eval()
    assert isinstance(again.model.layers[0].mlp.up_proj, torch.nn.Linear)
    torch.testing.assert_close(_logits(again), _logits(model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["papertrial", "dense"])
def test_a_mixture_of_experts_is_loaded_as_it_was(form, tmp_path):
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
    separate_experts(model)
    model = _packed(4, model=model)
    save_quantized(model, tmp_path, format=form)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    # plain experts are stacked again by transformers, which adds them up in another order
    torch.testing.assert_close(_logits(again), _logits(model), rtol=1e-4, atol=1e-5)


def test_the_configuration_says_what_other_programs_read(tmp_path):
    save_quantized(_packed(4, ordered=True), tmp_path, format="gptq")
    said = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert said == {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 16,
        "desc_act": True,
        "sym": False,
        "checkpoint_format": "gptq",
    }


def test_what_cannot_be_saved_or_loaded_is_refused(tmp_path):
    plain = load_causal_lm("tiny-qwen3", vocab_size=64)
    with pytest.raises(BadInputError, match="has no packed layers"):
        save_quantized(plain, tmp_path)
    with pytest.raises(BadInputError, match="the gptq format cannot say that activations are rounded"):
        save_quantized(_packed(4, activation_bits=8), tmp_path, format="gptq")
    with pytest.raises(BadInputError, match="unknown format 'gguf'"):
        save_quantized(plain, tmp_path, format="gguf")
    with pytest.raises(BadInputError, match="is no saved model"):
        load_quantized(tmp_path / "nowhere")
    plain.save_pretrained(tmp_path / "plain")
    with pytest.raises(BadInputError, match="is not quantised"):
        load_quantized(tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4, "version": "gemv"}
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInputError, match="is quantised as awq gemv; papertrial, gptq and awq"):
        load_quantized(tmp_path / "plain")


def test_layers_of_different_kinds_do_not_share_a_folder(tmp_path):
    model = _packed(4)
    generator = torch.Generator().manual_seed(0)
    odd = QuantizedWeight(
        torch.randint(4, (64, 96), generator=generator, dtype=torch.uint8),
        torch.ones(64, 6).half(),
        torch.ones(64, 6, dtype=torch.uint8),
        2,
    )
    model.set_submodule("model.layers.0.mlp.down_proj", QuantLinear.from_weight(odd))
    with pytest.raises(BadInputError, match="different bits or group sizes"):
        save_quantized(model, tmp_path)
