from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from papertrial.efficient.bitnet_v2.checkpoints import load_packed, save_packed
from papertrial.efficient.bitnet_v2.convert import BitNetOptions, set_activation_bits, use_bitnet
from papertrial.efficient.bitnet_v2.packed import packed_linears, use_packed
from papertrial.efficient.bitnet_v2.packing import scale_convention
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

TOKENS = torch.arange(16)[None]


def packed_model(model, bits=8, **options):
    use_bitnet(model, BitNetOptions(**options))
    set_activation_bits(model, bits)
    use_packed(model)
    return model


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rotation", ["none", "activations", "both"])
def test_saved_and_loaded_is_the_same_to_the_bit(bitnet, tmp_path, rotation, bits):
    model = packed_model(bitnet(), bits, rotation=rotation)
    expected = model(input_ids=TOKENS).logits
    save_packed(model, tmp_path)
    loaded = load_packed(tmp_path)
    assert torch.equal(loaded(input_ids=TOKENS).logits, expected)
    assert {layer.activation_bits for layer in packed_linears(loaded).values()} == {bits}


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-qwen2"])
def test_other_models_with_sub_norms_biases_and_tied_heads(name, tmp_path):
    sizes = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 64}
    model = load_causal_lm(name, tie_word_embeddings=True, **sizes)
    packed_model(model, 4, hadamard="auto", bias="keep")
    expected = model(input_ids=TOKENS).logits
    save_packed(model, tmp_path)
    loaded = load_packed(tmp_path)
    assert torch.equal(loaded(input_ids=TOKENS).logits, expected)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


@pytest.fixture
def released(bitnet, tmp_path):
    """Return a function that writes a checkpoint as released ones are, and the logits it must give."""

    def write(linear_class, *, flipped=False):
        model = packed_model(bitnet(), rotation="none")
        expected = model(input_ids=TOKENS).logits
        save_packed(model, tmp_path)
        settings = json.loads((tmp_path / "config.json").read_text())
        del settings["papertrial_bitnet"]
        settings["quantization_config"] = {
            "quant_method": "bitnet",
            "quantization_mode": "offline",
            "linear_class": linear_class,
        }
        (tmp_path / "config.json").write_text(json.dumps(settings))
        divides = (linear_class == "bitlinear") != flipped
        state = load_file(tmp_path / "model.safetensors")
        state = {n: 1 / t if divides and n.endswith("weight_scale") else t for n, t in state.items()}
        save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return tmp_path, expected

    return write


@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
def test_both_scale_conventions_are_read_and_confusing_them_is_refused(released, linear_class):
    folder, expected = released(linear_class)
    torch.testing.assert_close(load_packed(folder)(input_ids=TOKENS).logits, expected, rtol=0, atol=1e-4)
    folder, _ = released(linear_class, flipped=True)
    with pytest.raises(BadInputError, match="the other convention was used"):
        load_packed(folder)
    other = "multiply" if linear_class == "bitlinear" else "divide"
    found = load_packed(folder, convention=other)
    torch.testing.assert_close(found(input_ids=TOKENS).logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("linear_class", ["bitlinear", "autobitlinear"])
def test_transformers_reads_the_same_checkpoint_the_same(released, eagerly, linear_class):
    from transformers import AutoModelForCausalLM

    folder, expected = released(linear_class)
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(folder)(input_ids=TOKENS).logits
    torch.testing.assert_close(theirs, expected, rtol=0, atol=2e-3)  # 1e-3 of a logit: another order of sums


def test_conventions_are_detected_by_size_where_nothing_is_declared():
    assert scale_convention({"a": 0.02, "b": 0.04, "c": 0.9}) == "multiply"
    assert scale_convention({"a": 50.0, "b": 25.0, "c": 1.2}) == "divide"
    with pytest.raises(BadInputError, match=r"may be α or 1/α; say convention="):
        scale_convention({"a": 1.2})
    assert scale_convention({"a": 1.2}, "multiply") == "multiply"
    with pytest.raises(BadInputError, match=r"weight_scale of a must be a positive number, got 0.0"):
        scale_convention({"a": 0.0})
    with pytest.raises(BadInputError, match="has no weight_scale"):
        scale_convention({})


def test_folders_that_hold_no_packed_model(bitnet, tmp_path):
    with pytest.raises(BadInputError, match=r"it has no config.json"):
        load_packed(tmp_path / "nothing")
    latent = tmp_path / "latent"
    bitnet().save_pretrained(latent)
    with pytest.raises(BadInputError, match="holds no packed weights; load latent ones"):
        load_packed(latent)
    folder = tmp_path / "packed"
    save_packed(packed_model(bitnet()), folder)
    state = load_file(folder / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(BadInputError, match=r"lacks 1 weights: model.norm.weight"):
        load_packed(folder)
    state["model.norm.weight"] = torch.ones(7)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(BadInputError, match="does not fit its configuration"):
        load_packed(folder)
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(BadInputError, match="is damaged"):
        load_packed(folder)
