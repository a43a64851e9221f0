from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, DynamicCache, Gemma2Config, Gemma2ForCausalLM

from papertrial.efficient.graph_attention import (
    PnaSettings,
    SparseGinSettings,
    adjacency_edges,
    attach_sparse_gin,
    load_sparse_gin,
    use_graph_attention,
)
from papertrial.efficient.graph_attention.inspection import off_diagonal_share
from papertrial.errors import BadInputError

GROUPED = {"num_key_value_heads": 2}


@pytest.fixture
def attached(tiny, stirred):
    """A tiny model with an adapter whose weights are all drawn anew."""

    def make(name="tiny-llama", attention="eager", seed=0, **changed):
        model = tiny(name, attention, seed, **GROUPED)
        settings = SparseGinSettings(side_path=attention != "eager", **changed)
        adapter = attach_sparse_gin(model, settings)
        for network in adapter.networks:
            stirred(network)
        return model, adapter

    return make


def logits_of(model, ids, **inputs):
    with torch.no_grad():
        return model(ids, **inputs).logits


@pytest.mark.parametrize("placement", ["before_mlp", "after_mlp", "parallel"])
def test_at_scale_zero_the_model_is_untouched(tiny, tokens, placement):
    model = tiny(**GROUPED)
    base = logits_of(model, tokens())
    settings = SparseGinSettings(first_scale=0.0, last_scale=0.0, placement=placement)
    adapter = attach_sparse_gin(model, settings)
    assert torch.equal(logits_of(model, tokens()), base)
    with torch.no_grad():
        adapter.networks[0].scale.fill_(0.5)
    assert not torch.allclose(logits_of(model, tokens()), base, atol=1e-3)
    adapter.detach()
    assert torch.equal(logits_of(model, tokens()), base)
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("placement", ["before_mlp", "after_mlp", "parallel"])
def test_a_layer_written_out(attached, tokens, placement):
    """h + attention, then the graph network and the MLP in the order that the placement says."""
    model, adapter = attached(placement=placement)
    layer, network = model.model.layers[0], adapter.networks[0]
    seen = {}
    layer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(hidden=args[0], **kwargs), with_kwargs=True
    )
    layer.self_attn.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(attention_inputs=kwargs), with_kwargs=True
    )
    done = []
    layer.register_forward_hook(lambda _, args, output: done.append(output))
    logits_of(model, tokens(), use_cache=False)
    graph = network.hook.last_graph
    adapter.detach()
    with torch.no_grad():
        h = seen["hidden"] + layer.self_attn(**seen["attention_inputs"])[0]

        def added(x):
            return network(x, graph)[0]

        if placement == "before_mlp":
            h = h + added(h)
            expected = h + layer.mlp(layer.post_attention_layernorm(h))
        elif placement == "after_mlp":
            h = h + layer.mlp(layer.post_attention_layernorm(h))
            expected = h + added(h)
        else:
            normed = layer.post_attention_layernorm(h)
            expected = h + layer.mlp(normed) + added(normed)
    torch.testing.assert_close(done[0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen3", "tiny-qwen2", "tiny-mistral"])
def test_the_side_path_has_the_weights_of_eager_attention(attached, tokens, name):
    eager, _ = attached(name)
    beside, _ = attached(name, "sdpa")
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, :4] = 0  # left padding
    for inputs in ({}, {"attention_mask": mask}):
        own = mask.bool() if inputs else torch.ones(2, 12, dtype=torch.bool)
        # sdpa and eager attention themselves agree to float32 rounding
        torch.testing.assert_close(
            logits_of(beside, tokens(), **inputs)[own],
            logits_of(eager, tokens(), **inputs)[own],
            atol=1e-5,
            rtol=1e-4,
        )


@pytest.mark.parametrize("edges", ["causal", "self"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_cached_decoding_is_one_pass_and_nothing_later_is_heard(attached, tokens, edges, layers, attention):
    model, _ = attached(attention=attention, edges=edges, layers=layers, cut=None, residual=True)
    ids, cache = tokens(), DynamicCache(config=model.config)
    whole = logits_of(model, ids)
    parts = [logits_of(model, part, past_key_values=cache) for part in ids.split([5, 1, 6], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
    other = ids.clone()
    other[:, 7] = (other[:, 7] + 1) % 40
    torch.testing.assert_close(logits_of(model, other)[:, :7], whole[:, :7], atol=1e-6, rtol=1e-5)


def test_beams_find_what_they_find_without_a_cache(attached, tokens):
    model, _ = attached(cut=None)
    how = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(tokens())
    with_cache = model.generate(tokens(), attention_mask=mask, use_cache=True, **how)
    without = model.generate(tokens(), attention_mask=mask, use_cache=False, **how)
    assert torch.equal(with_cache, without)


def test_a_preallocated_cache_is_refused(attached, tokens):
    model, _ = attached()
    with pytest.raises(BadInputError, match="not with preallocated ones"):
        model.generate(
            tokens(),
            attention_mask=torch.ones_like(tokens()),
            max_new_tokens=2,
            cache_implementation="static",
            pad_token_id=0,
            disable_compile=True,
        )


def test_only_the_adapter_is_trained(attached, tokens):
    model, adapter = attached()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
    model.train()
    model(tokens(), labels=tokens()).loss.backward()
    optimizer.step()
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) != ("sparse_gin" in name), name
    assert {id(w) for w in adapter.parameters()} == {
        id(w) for name, w in model.named_parameters() if "sparse_gin" in name
    }


def test_gradient_checkpointing_gives_the_same_gradients(attached, tokens):
    gradients = []
    for checkpointing in (False, True):
        model, adapter = attached(dropout=0.0)
        model.train()
        if checkpointing:
            # transformers 5.23 renamed it
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        model(tokens(), labels=tokens(), use_cache=False).loss.backward()
        gradients.append([weight.grad for weight in adapter.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_fixed_scale_stays(attached):
    _, adapter = attached(train_scale=False)
    assert not any(weight is adapter.networks[0].scale for weight in adapter.parameters())


def test_the_adapter_is_saved_alone(attached, tiny, tokens, tmp_path):
    model, adapter = attached(layers=2, cut=0.3)
    adapter.save(tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size < 4 * sum(weight.numel() for weight in model.parameters())
    again = tiny(**GROUPED)
    loaded = load_sparse_gin(again, tmp_path)
    assert loaded.settings == adapter.settings
    assert torch.equal(logits_of(again, tokens()), logits_of(model, tokens()))


def released_files(adapter, folder):
    """Write the adapter under the names of the authors' model classes."""
    names = {
        "rounds.0.up": "gnn.convs.0.linear1",
        "rounds.0.down": "gnn.convs.0.linear2",
        "rounds.0.own_weight": "gnn.convs.0.epsilon",
        "norm": "gnn_norm",
        "scale": "trainable_scale",
        "input_projection": "gnn.input_projection",
        "output_projection": "gnn.output_projection",
        "activation": "gnn.activation",
    }
    tensors = {"lm_head.weight": torch.zeros(3)}
    for number, network in enumerate(adapter.networks):
        for name, value in network.state_dict().items():
            own = next(key for key in names if name.startswith(key))
            tensors[f"model.layers.{number}.{name.replace(own, names[own], 1)}"] = value.clone()
        # the one activation module is saved under a second name
        second = f"model.layers.{number}.gnn.convs.0.activation_fn.weight"
        tensors[second] = network.activation.weight.detach().clone()
    save_file(tensors, folder / "model.safetensors")


def test_released_adapters_are_read_as_per_token_adapters(attached, tiny, tokens, tmp_path):
    model, adapter = attached(edges="self", width=6)
    released_files(adapter, tmp_path)
    again = tiny(**GROUPED)
    loaded = load_sparse_gin(again, tmp_path)
    assert loaded.settings.edges == "self"
    assert loaded.settings.width == 6
    assert torch.equal(logits_of(again, tokens()), logits_of(model, tokens()))
    loaded.detach()
    with pytest.warns(UserWarning, match="trained as per-token adapters"):
        load_sparse_gin(again, tmp_path, edges="causal")


def test_what_is_no_adapter_is_named(attached, tiny, tmp_path):
    _, adapter = attached(width=6)
    adapter.save(tmp_path / "six")
    saved = json.loads((tmp_path / "six" / "adapter.json").read_text())
    (tmp_path / "six" / "adapter.json").write_text(json.dumps({**saved, "width": 7, "layers": 2}))
    model = tiny(**GROUPED)
    with pytest.raises(
        BadInputError, match=r"missing layers\.0\.rounds\.1.*shape layers\.0\.input_projection"
    ):
        load_sparse_gin(model, tmp_path / "six")
    attach_sparse_gin(model)  # the failed one is gone again
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"neither adapter\.json nor safetensors; pickles are not read"):
        load_sparse_gin(tiny(**GROUPED), tmp_path / "empty")
    save_file({"a": torch.zeros(1)}, tmp_path / "empty" / "a.safetensors")
    with pytest.raises(BadInputError, match="holds no Sparse-GIN"):
        load_sparse_gin(tiny(**GROUPED), tmp_path / "empty")
    (tmp_path / "empty" / "a.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(BadInputError, match="cannot be read as safetensors"):
        load_sparse_gin(tiny(**GROUPED), tmp_path / "empty")


def test_a_users_own_checkpoint_is_adapted(attached, tiny, tokens, tmp_path):
    tiny("tiny-qwen3", **GROUPED).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(
        BadInputError, match="'sdpa' gives none; load the model with attn_implementation='eager'"
    ):
        attach_sparse_gin(model)
    attach_sparse_gin(model, SparseGinSettings(side_path=True))
    with pytest.raises(BadInputError, match="adapter already"):
        attach_sparse_gin(model, SparseGinSettings(side_path=True))


def test_layers_with_further_norms_are_refused():
    config = Gemma2Config(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, vocab_size=20,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config)
    model.set_attn_implementation("eager")
    with pytest.raises(BadInputError, match="Gemma2DecoderLayer is not Llama-like"):
        attach_sparse_gin(model)


def test_a_negative_scale_is_warned_of(tiny):
    with pytest.warns(UserWarning, match="negative λ"):
        attach_sparse_gin(tiny(**GROUPED), SparseGinSettings(last_scale=-0.1))


def test_edges_can_be_looked_at(attached, tiny, tokens):
    _, causal = attached(cut=None)
    edges = adjacency_edges(causal, tokens())
    # without a cut every visible pair is an edge: 2 layers, 2 sequences, 12·13/2 pairs
    assert len(edges) == 2 * 2 * 78
    assert {edge["head"] for edge in edges} == {-1}
    assert off_diagonal_share(edges) == pytest.approx(66 / 78)
    _, alone = attached(edges="self", cut=None)
    assert off_diagonal_share(adjacency_edges(alone, tokens())) == 0.0
    swap = use_graph_attention(tiny(), PnaSettings())
    rows = adjacency_edges(swap, tokens(1, 5))
    assert {(edge["layer"], edge["head"]) for edge in rows} == {(a, b) for a in range(2) for b in range(4)}
    assert all(edge["from"] <= edge["into"] for edge in rows)
