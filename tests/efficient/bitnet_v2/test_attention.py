from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papertrial.efficient.bitnet_v2.attention import (
    AttentionBits,
    absmax_codes,
    absmax_values,
    first_tokens,
    quantize_heads,
    use_low_bit_attention,
)
from papertrial.efficient.bitnet_v2.cache import LowBitCache, cache_bytes
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.integers(0, 99))
def test_codes_by_the_formula_and_rounding_again_changes_nothing(bits, seed):
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(seed))
    codes, scale = absmax_codes(x, bits)
    middle = 2 ** (bits - 1)
    for row, out in zip(x.tolist(), codes.tolist(), strict=True):
        step = max(map(abs, row)) / (middle - 1)
        expected = [min(max(round(value / step) + middle, 0), 2 * middle - 1) for value in row]
        # float32 may put a value on the other side of an edge
        assert all(abs(a - b) <= 1 for a, b in zip(expected, out, strict=True))
        assert sum(a != b for a, b in zip(expected, out, strict=True)) <= 1
    once = absmax_values(codes, scale, bits)
    torch.testing.assert_close(quantize_heads(once, bits), once, rtol=1e-6, atol=0)
    assert (once - x).abs().max() <= scale.max() / 2 * 1.001


def test_zero_rows_stay_zero():
    assert torch.equal(quantize_heads(torch.zeros(2, 8), 3), torch.zeros(2, 8))


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen3", "tiny-mistral"])
def test_against_attention_written_out(name):
    """A whole model, its attention replaced by a loop over heads on values rounded by hand."""
    model = load_causal_lm(name, num_hidden_layers=1, hidden_size=64, intermediate_size=64, vocab_size=64)
    tokens = torch.arange(12)[None]
    seen = []
    attention = model.model.layers[0].self_attn
    hook = attention.o_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    bits = AttentionBits(query=4, key=3, value=3, first=8)
    use_low_bit_attention(model, bits)
    taken = {}
    from transformers import AttentionInterface

    original = AttentionInterface()[bits.name]

    def spy(module, query, key, value, mask, **options):
        taken.update(query=query, key=key, value=value, scaling=options["scaling"])
        return original(module, query, key, value, mask, **options)

    AttentionInterface.register(bits.name, spy)
    model(input_ids=tokens, use_cache=False)
    hook.remove()
    rounded = {n: quantize_heads(taken[n], b) for n, b in (("query", 4), ("key", 3), ("value", 3))}
    for n in ("key", "value"):
        rounded[n][:, :, :1] = quantize_heads(taken[n][:, :, :1], 8)
    heads, groups = taken["query"].shape[1], taken["query"].shape[1] // taken["key"].shape[1]
    outs = []
    for head in range(heads):
        q, k, v = (rounded["query"][0, head], *(rounded[n][0, head // groups] for n in ("key", "value")))
        scores = (q @ k.T * taken["scaling"]).masked_fill(torch.ones(12, 12).triu(1).bool(), -torch.inf)
        outs.append(scores.softmax(-1) @ v)
    torch.testing.assert_close(seen[0][0], torch.stack(outs, 1).flatten(1), rtol=1e-5, atol=1e-5)


def test_full_precision_is_sdpa_and_can_be_undone(bitnet):
    model = bitnet()
    tokens = torch.arange(12)[None]
    before = model(input_ids=tokens).logits
    use_low_bit_attention(model, AttentionBits(16, 16, 16))
    assert torch.equal(model(input_ids=tokens).logits, before)
    use_low_bit_attention(model)
    assert not torch.equal(model(input_ids=tokens).logits, before)
    model.set_attn_implementation("sdpa")
    assert torch.equal(model(input_ids=tokens).logits, before)


def test_the_first_token_is_found_behind_padding():
    mask = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    mask[0, 0, :, 0] = True
    mask[1, 0, 1:, 2] = True
    key = torch.zeros(2, 1, 4, 8)
    assert first_tokens(mask, key).tolist() == [0, 2]
    assert first_tokens(torch.where(mask, 0.0, torch.finfo(torch.float32).min), key).tolist() == [0, 2]
    assert first_tokens(None, key).tolist() == [0, 0]


@pytest.mark.parametrize("bits", [AttentionBits(4, 4, 4), AttentionBits(4, 3, 3), AttentionBits(16, 8, 2, 4)])
def test_the_cache_changes_nothing_and_holds_what_is_counted(bitnet, bits):
    model = bitnet(layers=2)
    use_low_bit_attention(model, bits)
    tokens = torch.arange(30)[None]
    whole = model(input_ids=tokens, use_cache=False).logits
    cache = LowBitCache(model.config, bits)
    parts = [
        model(input_ids=part, past_key_values=cache, use_cache=True).logits
        for part in tokens.split([17, 1, 12], dim=1)
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-5)
    assert cache.get_seq_length() == 30
    assert cache.held_bytes() == cache_bytes(30, heads=2, dim=16, layers=2, bits=bits)


def test_padded_batches_generate_as_single_sequences_do(bitnet):
    model = bitnet(layers=2)
    bits = AttentionBits(4, 4, 4)
    use_low_bit_attention(model, bits)
    prompt = torch.arange(5, 14)[None]
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.int64), prompt], 1)
    both = torch.cat([padded, torch.arange(30, 43)[None]])
    mask = torch.ones_like(both)
    mask[0, :4] = 0
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    alone = model.generate(prompt, past_key_values=LowBitCache(model.config, bits), **options)
    cache = LowBitCache(model.config, bits, attention_mask=mask)
    together = model.generate(both, attention_mask=mask, past_key_values=cache, **options)
    assert together[0, 4:].tolist() == alone[0].tolist()


def test_beam_search_reorders_the_cache(bitnet):
    model = bitnet()
    bits = AttentionBits()
    use_low_bit_attention(model, bits)
    options = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False, "pad_token_id": 0}
    prompt = torch.arange(9)[None]
    expected = model.generate(prompt, use_cache=False, **options)
    got = model.generate(prompt, past_key_values=LowBitCache(model.config, bits), **options)
    assert torch.equal(got, expected)


def test_bad_input(bitnet):
    model = bitnet()
    with pytest.raises(BadInputError, match=r"key must have 2 to 8 bits, or 16 .*, got 1"):
        use_low_bit_attention(model, AttentionBits(key=1))
    with pytest.raises(BadInputError, match="2 to 8 bits, got 16"):
        absmax_codes(torch.ones(1, 2), 16)
    with pytest.raises(BadInputError, match="a cache holds keys of 2, 3, 4, 8 bits, got 5"):
        LowBitCache(model.config, AttentionBits(key=5))
    with pytest.raises(BadInputError, match="holds the first token in 2 to 8 bits"):
        LowBitCache(model.config, AttentionBits(first=16))
    cache = LowBitCache(model.config, attention_mask=torch.tensor([[0, 0, 0, 1]]))
    with pytest.raises(BadInputError, match=r"first token is number 3 .* brings 2 tokens"):
        model(input_ids=torch.arange(2)[None], past_key_values=cache)
    with pytest.raises(BadInputError, match="cannot be cropped"):
        LowBitCache(model.config).layers[0].crop(-1)
