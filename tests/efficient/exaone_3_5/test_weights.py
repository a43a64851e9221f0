from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import LlamaForCausalLM

from papertrial.efficient.exaone_3_5.architecture import (
    SIZES,
    config_of_size,
    exaone_config,
    llama_config,
    parameters_of,
    training_compute,
)
from papertrial.efficient.exaone_3_5.weights import (
    LicenceNotice,
    exaone_name,
    export_checkpoint,
    from_pretrained,
    import_checkpoint,
    llama_name,
)
from papertrial.errors import BadInputError

SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def configuration(**changes):
    return {
        "model_type": "exaone",
        "vocab_size": 61,
        "hidden_size": 48,
        "num_layers": 2,
        "intermediate_size": 40,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 80,  # the 2.4B's, which is not hidden / heads
        "max_position_embeddings": 32_768,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "silu",
        "rope_theta": 1_000_000,
        "rope_scaling": SCALING,
        "tie_word_embeddings": False,
        **changes,
    }


def weights(raw, seed=0):
    """Draw a state dict under EXAONE's names, written down from table 1 and the released checkpoints' keys."""
    generator = torch.Generator().manual_seed(seed)
    hidden, ffn, dim = raw["hidden_size"], raw["intermediate_size"], raw["head_dim"]
    heads, kv = raw["num_attention_heads"], raw["num_key_value_heads"]
    shapes = {"transformer.wte": (raw["vocab_size"], hidden), "transformer.ln_f": (hidden,)}
    for layer in range(raw["num_layers"]):
        at = f"transformer.h.{layer}"
        shapes |= {f"{at}.ln_1": (hidden,), f"{at}.ln_2": (hidden,)}
        shapes |= {f"{at}.attn.attention.{name}_proj": (kv * dim, hidden) for name in "kv"}
        shapes |= {f"{at}.attn.attention.q_proj": (heads * dim, hidden)}
        shapes |= {f"{at}.attn.attention.out_proj": (hidden, heads * dim)}
        shapes |= {f"{at}.mlp.c_fc_{n}": (ffn, hidden) for n in (0, 1)} | {f"{at}.mlp.c_proj": (hidden, ffn)}
    if not raw["tie_word_embeddings"]:
        shapes["lm_head"] = (raw["vocab_size"], hidden)
    return {
        f"{name}.weight": 0.3 * torch.randn(shape, generator=generator) + (len(shape) == 1)
        for name, shape in shapes.items()
    }


def save(folder, raw, state, shards=1):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw))
    names = list(state)
    if shards == 1:
        save_file(state, folder / "model.safetensors")
        return folder
    places = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = names[number::shards]
        save_file({name: state[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def independent_logits(state, raw, tokens):
    """A second construction, from the papers' equations and the original names, in float64."""
    state = {name: value.double() for name, value in state.items()}
    dim, heads, kv = raw["head_dim"], raw["num_attention_heads"], raw["num_key_value_heads"]
    length = tokens.shape[1]

    def norm(x, weight):
        return weight * x / (x.square().mean(-1, keepdim=True) + raw["layer_norm_epsilon"]).sqrt()

    frequencies = raw["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    if scaling := raw.get("rope_scaling"):
        original = scaling["original_max_position_embeddings"]
        turns = original * frequencies / (2 * math.pi)  # whole turns within the original context
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        smooth = ((turns - low) / (high - low)).clamp(0, 1)
        frequencies = smooth * frequencies + (1 - smooth) * frequencies / scaling["factor"]
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)

    def rotate(x):  # (batch, length, heads, dim): pairs are half a head apart
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        first, second = x[..., : dim // 2], x[..., dim // 2 :]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    x = state["transformer.wte.weight"][tokens]
    for layer in range(raw["num_layers"]):
        part = {name.removeprefix(f"transformer.h.{layer}."): value for name, value in state.items()}
        h = norm(x, part["ln_1.weight"])
        q, k, v = (
            (h @ part[f"attn.attention.{name}_proj.weight"].T).unflatten(-1, (count, dim))
            for name, count in (("q", heads), ("k", kv), ("v", kv))
        )
        k, v = (one.repeat_interleave(heads // kv, dim=2) for one in (rotate(k), v))
        scores = torch.einsum("bqhd,bkhd->bhqk", rotate(q), k) / math.sqrt(dim)
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf)
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
        x = x + mixed @ part["attn.attention.out_proj.weight"].T
        h = norm(x, part["ln_2.weight"])
        gate = functional.silu(h @ part["mlp.c_fc_0.weight"].T)
        x = x + (gate * (h @ part["mlp.c_fc_1.weight"].T)) @ part["mlp.c_proj.weight"].T
    head = state.get("lm_head.weight", state["transformer.wte.weight"])
    return norm(x, state["transformer.ln_f.weight"]) @ head.T


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_imported_model_is_the_independent_one(tmp_path, tied, scaled):
    """Transformers computes rotary angles in float32: over 40 places the logits agree to 1e-4 of their spread."""
    raw = configuration(tie_word_embeddings=tied, rope_scaling=SCALING if scaled else None)
    state = weights(raw)
    folder = save(tmp_path / "exaone", raw, state, shards=3)
    with pytest.warns(LicenceNotice, match="non-commercial"):
        model = from_pretrained(folder, dtype="float64")
    assert type(model) is LlamaForCausalLM
    tokens = torch.randint(61, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = model(tokens).logits
    expected = independent_logits(state, raw, tokens)
    assert (found - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.parametrize("shards", [1, 4])
def test_round_trip_is_bit_exact(tmp_path, shards):
    raw = configuration()
    state = {name: value.bfloat16() for name, value in weights(raw).items()}
    folder = save(tmp_path / "exaone", raw, state, shards)
    (folder / "tokenizer.json").write_text("{}")
    llama = import_checkpoint(folder, tmp_path / "llama")
    assert (llama / "tokenizer.json").read_text() == "{}"
    assert isinstance(LlamaForCausalLM.from_pretrained(llama), LlamaForCausalLM)
    back = export_checkpoint(llama, tmp_path / "back")
    found = {}
    for file in back.glob("*.safetensors"):
        found |= load_file(file)
    assert found.keys() == state.keys()
    assert all(
        torch.equal(found[name], state[name]) and found[name].dtype == torch.bfloat16 for name in state
    )
    again = json.loads((back / "config.json").read_text())
    assert {name: again[name] for name in raw} == raw


def test_import_gives_what_loading_gives(tmp_path):
    raw = configuration(tie_word_embeddings=True)
    folder = save(tmp_path / "exaone", raw, weights(raw), 2)
    with pytest.warns(LicenceNotice):
        loaded = from_pretrained(folder, dtype="float32")
    imported = from_pretrained(
        import_checkpoint(folder, tmp_path / "llama"), dtype="float32"
    )  # no longer EXAONE
    tokens = torch.arange(30)[None]
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, imported(tokens).logits)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_names_go_both_ways():
    for name in weights(configuration()):
        assert exaone_name(llama_name(name)) == name
    assert llama_name("transformer.h.0.attn.attention.q_proj.bias") is None
    assert exaone_name("model.layers.0.self_attn.q_norm.weight") is None


def test_parameter_counts_are_the_built_ones():
    """The sheet's exact counts; their names' numbers are these, rounded."""
    counts = {size: parameters_of(config_of_size(size)) for size in SIZES}
    assert counts == {"32B": 32_003_200_000, "7.8B": 7_818_448_896, "2.4B": 2_405_327_360}


def test_compute_is_six_times_parameters_times_tokens():
    """Table 2 to three digits, from the nominal sizes; table 3's ratios from products of size and tokens."""
    published = {"32B": 1.25e24, "7.8B": 4.21e23, "2.4B": 9.36e22}
    for size, value in published.items():
        assert float(f"{training_compute(SIZES[size].nominal, SIZES[size].tokens):.2e}") == value
    ours = training_compute(32e9, 6.5e12)
    others = {"Qwen 2.5": (32e9, 18e12, 2.77), "Gemma 2": (27e9, 13e12, 1.69), "Yi 1.5": (34e9, 3.6e12, 0.59)}
    for parameters, tokens, ratio in others.values():
        assert round(training_compute(parameters, tokens) / ours, 2) == ratio
    with pytest.raises(BadInputError, match="above 0"):
        training_compute(0.0, 1.0)


def test_configuration_goes_both_ways():
    for raw in (configuration(), configuration(rope_scaling=None, tie_word_embeddings=True)):
        back = exaone_config(llama_config(raw))
        assert {name: back[name] for name in raw} == raw
    assert llama_config(configuration(rope_scaling={"type": "linear", "factor": 2.0})).rope_parameters == {
        "rope_type": "linear",
        "factor": 2.0,
        "rope_theta": 1e6,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "exaone4"}, "transformers.Exaone4ForCausalLM"),
        ({"model_type": "exaone_moe"}, "transformers.ExaoneMoeForCausalLM"),
        ({"model_type": "qwen2"}, "model_type must be 'exaone', got 'qwen2'"),
        ({"max_position_embeddings": 4096, "rope_scaling": None}, r"this is EXAONE 3\.0 .* allow_3_0=True"),
        ({"activation_function": "gelu"}, "must be 'silu', got 'gelu'"),
        ({"num_key_value_heads": 3}, "4 heads do not fit 3 key-value heads"),
    ],
)
def test_other_configurations_are_refused(changes, words):
    with pytest.raises(BadInputError, match=words):
        llama_config(configuration(**changes))
    raw = configuration()
    del raw["num_layers"]
    with pytest.raises(BadInputError, match="lacks num_layers"):
        llama_config(raw)
    old = configuration(max_position_embeddings=4096, rope_scaling=None)
    assert llama_config(old, allow_3_0=True).max_position_embeddings == 4096


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state: state.pop("lm_head.weight"), "lacks 1 tensors: lm_head.weight"),
        (
            lambda state: state.pop("transformer.h.1.ln_2.weight"),
            r"lacks 1 tensors: transformer\.h\.1\.ln_2\.weight",
        ),
        (
            lambda state: state.update({"transformer.h.0.mlp.c_fc_2.weight": torch.ones(2)}),
            "has not: .*c_fc_2",
        ),
        (
            lambda state: state.update({"transformer.h.7.ln_1.weight": torch.ones(48)}),
            "has not: model.layers.7",
        ),
        (
            lambda state: state.update({"transformer.h.0.attn.attention.q_proj.weight": torch.ones(48, 48)}),
            r"q_proj.weight has shape \(48, 48\), the configuration says \(320, 48\) \(head_dim\?\)",
        ),
    ],
)
def test_checkpoints_that_do_not_fit(tmp_path, spoil, words):
    state = weights(configuration())
    spoil(state)
    folder = save(tmp_path / "bad", configuration(), state)
    for load in (from_pretrained, lambda source: import_checkpoint(source, tmp_path / "out")):
        with pytest.raises(BadInputError, match=words):
            load(folder)


def test_saved_buffers_do_not_matter(tmp_path):
    raw = configuration()
    state = weights(raw) | {"transformer.rotary.inv_freq": torch.ones(40)}
    with pytest.warns(LicenceNotice):
        from_pretrained(save(tmp_path / "m", raw, state), dtype="float32")


def test_folders_that_hold_no_model(tmp_path):
    with pytest.raises(BadInputError, match="there is no folder"):
        from_pretrained(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="cannot be read as JSON"):
        from_pretrained(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text(json.dumps(configuration()))
    with pytest.raises(BadInputError, match="has no safetensors weights"):
        from_pretrained(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "exaone4"}))
    with pytest.raises(BadInputError, match="Exaone4ForCausalLM"):
        from_pretrained(tmp_path / "empty")
    folder = save(tmp_path / "whole", configuration(), weights(configuration()))
    with pytest.raises(BadInputError, match="out must be a new or empty folder"):
        import_checkpoint(folder, folder)
    with pytest.raises(BadInputError, match="only a Llama can be written"):
        export_checkpoint(folder, tmp_path / "x")
    with pytest.raises(BadInputError, match="unknown size '8B'"):
        config_of_size("8B")
