from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, DynamicCache

from papertrial.efficient.graph_attention import GinSettings, Processing, use_graph_attention
from papertrial.efficient.graph_attention.settings import differential_start
from papertrial.errors import BadInputError

VARIANTS = {
    "default": GinSettings(),
    "projected": GinSettings(output_projection=True, multiplier=2.0, temperature=0.7, sharpness=1.4),
    "mlp": GinSettings(scoring="mlp", scoring_width=12),
    "differential": GinSettings(scoring="differential", first_layer=1),
    "differential, normed": GinSettings(scoring="differential", group_norm="visible"),
    "thresholded": GinSettings(processing=Processing("silu+binary"), train_threshold=True),
    "ranked": GinSettings(processing=Processing("scaled_topk_causal_4d", threshold=0.05)),
}


@pytest.fixture
def swapped(tiny, stirred):
    """A tiny model with GIN-Attention of given settings, all its new weights drawn anew."""

    def make(settings, name="tiny-llama", **changed):
        model = tiny(name, **changed)
        swap = use_graph_attention(model, settings)
        for module in swap.modules:
            stirred(module)
        return model, swap

    return make


def inputs_of_first_layer(model, ids):
    """What the first layer's attention is called with."""
    seen = {}
    hook = model.model.layers[0].self_attn.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        model(ids, use_cache=False)
    hook.remove()
    return seen


def test_without_its_network_it_is_attention_whose_values_are_the_hidden_state(swapped, tokens):
    model, swap = swapped(GinSettings())
    module = swap.modules[0]
    with torch.no_grad():
        module.own_weight.zero_()
        module.sharpness.fill_(1.0)
    seen = inputs_of_first_layer(model, tokens())
    hidden = seen["hidden_states"]
    module.network = torch.nn.Identity()
    out, _ = module(**seen)
    query, key = module.turned(module.q_proj, module.k_proj, hidden, seen["position_embeddings"])
    expected = functional.scaled_dot_product_attention(
        query, key, hidden.view(2, 12, 4, 8).transpose(1, 2), is_causal=True
    )
    # float32: two orders of summing twelve terms
    torch.testing.assert_close(out, expected.transpose(1, 2).reshape(2, 12, 32), atol=1e-6, rtol=1e-5)


def test_a_head_written_out(swapped, tokens):
    """z = ε·x + A x, then Linear, RMSNorm, SiLU, Linear with each head's own weights."""
    model, swap = swapped(GinSettings())
    module = swap.modules[0]
    seen = inputs_of_first_layer(model, tokens())
    out, adjacency = module(**seen)
    features = seen["hidden_states"].view(2, 12, 4, 8)
    network = module.network
    for head in range(4):
        x = features[1, :, head]
        z = module.own_weight[head].squeeze() * x + adjacency[1, head] @ x
        hidden = z @ network.up.weight[head].T + network.up.bias[head]
        hidden = hidden / (hidden.square().mean(-1, keepdim=True) + model.config.rms_norm_eps).sqrt()
        hidden = functional.silu(hidden * network.norm.weight[head])
        expected = hidden @ network.down.weight[head].T + network.down.bias[head]
        torch.testing.assert_close(out[1].view(12, 4, 8)[:, head], expected, atol=1e-5, rtol=1e-5)


def test_scores_of_pairs_are_the_network_on_every_pair(swapped, tokens):
    model, swap = swapped(VARIANTS["mlp"])
    module = swap.modules[0]
    seen = inputs_of_first_layer(model, tokens(1, 6))
    _, adjacency = module(**seen)
    rows, scorer = seen["hidden_states"][0], module.scorer
    for i in range(6):
        scores = torch.stack(
            [scorer.down(functional.silu(scorer.up(torch.cat([rows[i], rows[j]])))) for j in range(i + 1)]
        )
        torch.testing.assert_close(adjacency[0, :, i, : i + 1], scores.softmax(0).T, atol=1e-6, rtol=1e-5)


def test_pairs_are_taken_some_rows_at_a_time(swapped, tokens, monkeypatch):
    model, swap = swapped(VARIANTS["mlp"])
    seen = inputs_of_first_layer(model, tokens())
    whole, _ = swap.modules[0](**seen)
    monkeypatch.setattr("papertrial.efficient.graph_attention.gin_attention._PAIRS_BUDGET", 1)
    torch.testing.assert_close(swap.modules[0](**seen)[0], whole)


def test_the_differential_adjacency_is_a_difference(swapped, tokens):
    model, swap = swapped(VARIANTS["differential"])
    module = swap.modules[1]
    seen = inputs_of_first_layer(model, tokens())
    _, both = module(**seen)
    with torch.no_grad():
        share = module.share.clone()
        module.share.zero_()
    _, first = module(**seen)
    with torch.no_grad():
        module.q_proj.weight.copy_(module.second_q_proj.weight)
        module.k_proj.weight.copy_(module.second_k_proj.weight)
    _, second = module(**seen)
    torch.testing.assert_close(both, first - share * second)


def test_the_released_group_norm_leaks_the_future(swapped, tokens):
    """The finding: with statistics over the whole map a later token changes earlier rows; per row it does not."""
    model, swap = swapped(VARIANTS["differential, normed"])
    module = swap.modules[0]

    def rows(ids, norm):
        seen = inputs_of_first_layer(model, ids)
        module.row_norm.forward = norm
        with torch.no_grad():
            return module(**seen)[1][0, :, :9, :9]

    def over_the_map(adjacency, visible):
        return torch.nn.functional.group_norm(adjacency, 4).tril()

    per_row = type(module.row_norm).forward.__get__(module.row_norm)
    ids = tokens(1, 10)
    other = ids.clone()
    other[0, 9] = (other[0, 9] + 1) % 40  # the last token
    assert (rows(ids, over_the_map) - rows(other, over_the_map)).abs().max() > 1e-4
    assert torch.equal(rows(ids, per_row), rows(other, per_row))


def test_the_differential_share_starts_as_printed():
    released, counted_from_one = (GinSettings(scoring="differential", first_layer=n) for n in (0, 1))
    assert differential_start(0, released) == pytest.approx(-0.0099, abs=1e-4)
    assert differential_start(0, counted_from_one) == pytest.approx(0.2)
    assert differential_start(1, released) == pytest.approx(0.2)


@pytest.mark.parametrize("name", VARIANTS)
def test_no_token_hears_a_later_one(swapped, tokens, name):
    """Oracle: changing token j changes no output before j; after it, something."""
    model, _ = swapped(VARIANTS[name])
    ids = tokens(1, 10)
    with torch.no_grad():
        base = model(ids).logits
        for changed in (3, 9):
            other = ids.clone()
            other[0, changed] = (other[0, changed] + 1) % 40
            logits = model(other).logits
            torch.testing.assert_close(logits[:, :changed], base[:, :changed], atol=1e-6, rtol=1e-5)
            assert (logits[:, changed:] - base[:, changed:]).abs().max() > 1e-3


@pytest.mark.parametrize("model_name", ["tiny-llama", "tiny-qwen3", "tiny-mistral"])
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_cached_decoding_is_one_pass(swapped, tokens, name, model_name, attention):
    model, _ = swapped(VARIANTS[name], model_name, attention=attention)
    ids, cache = tokens(), DynamicCache(config=model.config)
    with torch.no_grad():
        whole = model(ids).logits
        parts = [model(part, past_key_values=cache).logits for part in ids.split([5, 1, 6], dim=1)]
    # float32 sums in other orders, through two layers
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)


def test_a_top_k_of_the_length_cannot_be_cached():
    assert Processing("top_k").depends_on_length
    assert not any(Processing(kind).depends_on_length for kind in ("relu", "scaled_topk_causal_4d"))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(swapped, tokens, name, side):
    model, _ = swapped(VARIANTS[name])
    ids = tokens(1, 8)
    filler = torch.full((1, 4), 7)
    padded = torch.cat([filler, ids] if side == "left" else [ids, filler], 1)
    own = slice(4, None) if side == "left" else slice(0, 8)
    mask = torch.zeros(1, 12, dtype=torch.long)
    mask[:, own] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        bare = model(ids).logits
        logits = model(padded, attention_mask=mask, position_ids=positions).logits[:, own]
    torch.testing.assert_close(logits, bare, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"ranked"}))
def test_every_weight_is_trained(tiny, tokens, name):
    model = tiny()
    swap = use_graph_attention(model, VARIANTS[name])
    ids = tokens()
    model(ids, labels=ids).loss.backward()
    for weight_name, weight in swap.modules[0].named_parameters():
        assert weight.grad is not None, weight_name
        # the first layer's differential share starts near 0, where its second softmax hardly counts
        assert weight.grad.abs().max() > 0, weight_name


def test_drawn_and_fixed_sharpness(tiny):
    drawn = use_graph_attention(tiny(), GinSettings(sharpness=None)).modules
    assert len({float(module.sharpness.detach()) for module in drawn}) == 2
    assert all(0.5 <= float(module.sharpness.detach()) <= 1.5 for module in drawn)
    fixed = use_graph_attention(tiny(), GinSettings(train_sharpness=False)).modules[0]
    assert not fixed.sharpness.requires_grad


def test_one_token_and_bfloat16(swapped, tokens):
    model, _ = swapped(GinSettings())
    with torch.no_grad():
        assert torch.isfinite(model(tokens(1, 1)).logits).all()
        whole = model(tokens()).logits
        rounded = model.bfloat16()(tokens()).logits
    assert rounded.dtype == torch.bfloat16
    # eight bits of mantissa through two layers
    assert (rounded.float() - whole).norm() < 0.05 * whole.norm()


def test_weights_survive_saving_and_the_own_attention_comes_back(swapped, tiny, tokens, tmp_path):
    model, swap = swapped(VARIANTS["differential"])
    with torch.no_grad():
        expected = model(tokens()).logits
    model.save_pretrained(tmp_path / "graph")
    again = tiny(seed=5)
    use_graph_attention(again, VARIANTS["differential"])
    from safetensors.torch import load_model

    load_model(again, tmp_path / "graph" / "model.safetensors", strict=False)
    with torch.no_grad():
        assert torch.equal(again(tokens()).logits, expected)
    swap.restore()
    model.save_pretrained(tmp_path / "plain")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    with torch.no_grad():
        torch.testing.assert_close(plain(tokens()).logits, model(tokens()).logits)


def test_shared_key_value_heads_are_refused(tiny):
    with pytest.raises(BadInputError, match="as many key-value heads as heads, and this model has 2 for 4"):
        use_graph_attention(tiny(num_key_value_heads=2), GinSettings())


def test_heads_must_divide_the_hidden_size(tiny):
    model = tiny(hidden_size=32, head_dim=8)
    model.config.num_attention_heads = 3
    with pytest.raises(BadInputError, match="hidden size 32 is no multiple of 3 heads"):
        use_graph_attention(model, GinSettings())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scoring": "dots"}, "unknown scoring 'dots'; did you mean dot"),
        ({"group_norm": "released", "scoring": "differential"}, "would see the future"),
        ({"group_norm": "visible"}, "belongs to scoring 'differential'"),
        ({"first_layer": 2}, "first_layer must be 0 or 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"multiplier": 0.0}, "multiplier and temperature must be above 0"),
        ({"train_threshold": True}, "no threshold with a gradient"),
    ],
)
def test_bad_settings_are_refused(changed, said):
    with pytest.raises(BadInputError, match=said):
        GinSettings(**changed)


def test_a_multiplier_may_leave_no_unit(tiny):
    with pytest.raises(BadInputError, match="leaves no hidden unit"):
        use_graph_attention(tiny(), GinSettings(multiplier=0.05))


def test_models_of_another_kind_are_refused():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=16))
    with pytest.raises(BadInputError, match="no decoder layers with a self_attn"):
        use_graph_attention(model, GinSettings())
