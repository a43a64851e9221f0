from __future__ import annotations

import pytest
import torch
from transformers import AttentionInterface, Gemma3TextConfig, Qwen3NextConfig
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm
from papertrial.serving.caches import SMALLEST_CAPACITY, GrowingLayer, growing_cache
from papertrial.serving.registration import ATTENTION_NAME, owned_attention, use_serving_attention


def test_decoding_equals_transformers_own_cache(small_model, padded_prompt, generate_logits):
    small_model.set_attn_implementation("eager")
    tokens, logits = generate_logits(small_model, padded_prompt, 70)
    use_serving_attention(small_model)
    found, found_logits = generate_logits(small_model, padded_prompt, 70, growing_cache(small_model.config))
    assert torch.equal(found, tokens)
    # Logits are of size ten; eager and fused attention round differently.
    torch.testing.assert_close(found_logits, logits, atol=2e-3, rtol=1e-4)


def test_without_the_mask_registered_a_padded_batch_is_silently_wrong(qwen2, padded_prompt, generate_logits):
    """The trap that `register_attention` closes."""
    use_serving_attention(qwen2)
    _, right = generate_logits(qwen2, padded_prompt, 4, growing_cache(qwen2.config))
    AttentionInterface.register("papertrial_without_mask", owned_attention)
    assert "papertrial_without_mask" not in ALL_MASK_ATTENTION_FUNCTIONS
    assert ATTENTION_NAME in ALL_MASK_ATTENTION_FUNCTIONS
    qwen2.set_attn_implementation("papertrial_without_mask")
    _, wrong = generate_logits(qwen2, padded_prompt, 4, growing_cache(qwen2.config))
    assert (wrong[:, 0] - right[:, 0]).abs().max() > 0.1
    torch.testing.assert_close(wrong[:, 1], right[:, 1], atol=2e-3, rtol=1e-4)


def states(length, heads=2, dim=4, batch=1, start=0.0):
    return torch.arange(batch * heads * length * dim).float().view(batch, heads, length, dim) + start


def test_it_grows_by_doubling_and_otherwise_stays_where_it_is():
    cache = GrowingLayer()
    addresses, capacities = set(), set()
    for token in range(200):
        keys, values = cache.update(states(1, start=token), states(1, start=-token))
        addresses.add(keys.data_ptr())
        capacities.add(cache.key_buffer.shape[2])
    assert capacities == {SMALLEST_CAPACITY, 2 * SMALLEST_CAPACITY, 4 * SMALLEST_CAPACITY}
    assert len(addresses) == 3
    assert torch.equal(keys, torch.cat([states(1, start=t) for t in range(200)], 2))
    assert torch.equal(values, torch.cat([states(1, start=-t) for t in range(200)], 2))
    assert keys.owner is cache


def test_capacity_is_taken_ahead():
    cache = GrowingLayer(capacity=1000)
    first, _ = cache.update(states(3), states(3))
    for _ in range(900):
        last, _ = cache.update(states(1), states(1))
    assert last.data_ptr() == first.data_ptr()


def test_crop_select_repeat_and_reset():
    cache = GrowingLayer()
    cache.update(states(5, batch=3), states(5, batch=3))
    cache.crop(-2)
    assert cache.get_seq_length() == 3
    cache.reorder_cache(torch.tensor([2, 0, 1]))
    assert torch.equal(cache.keys, states(5, batch=3)[[2, 0, 1], :, :3])
    cache.batch_select_indices(torch.tensor([1]))
    cache.batch_repeat_interleave(2)
    assert torch.equal(cache.values, states(5, batch=3)[[0, 0], :, :3])
    cache.reset()
    assert cache.get_seq_length() == 0
    assert cache.get_mask_sizes(7) == (7, 0)


@pytest.mark.parametrize("tokens", [1, -6])
def test_crop_says_what_it_takes(tokens):
    cache = GrowingLayer()
    cache.update(states(5), states(5))
    with pytest.raises(BadInputError, match=r"between -5 and 0, got"):
        cache.crop(tokens)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (states(1, dim=8), "head_dim of this cache is 4, got 8"),
        (states(1, heads=3), "key-value heads of this cache is 2, got 3"),
        (states(1, batch=2), "batch size of this cache is 1, got 2"),
        (states(1).double(), "holds torch.float32 on cpu, got torch.float64"),
    ],
)
def test_another_models_states_are_refused(given, said):
    cache = GrowingLayer()
    cache.update(states(2), states(2))
    with pytest.raises(BadInputError, match=said):
        cache.update(given, given)


def test_layers_without_full_attention_keep_their_kind():
    config = Gemma3TextConfig(num_hidden_layers=6, layer_types=["sliding_attention"] * 5 + ["full_attention"])
    cache = growing_cache(config)
    assert cache.skipped_layers == dict.fromkeys(range(5), "sliding_attention")
    assert [isinstance(layer, GrowingLayer) for layer in cache.layers] == [False] * 5 + [True]
    config = Qwen3NextConfig(num_hidden_layers=2, layer_types=["linear_attention", "full_attention"])
    assert growing_cache(config).skipped_layers == {0: "linear_attention"}


def test_a_model_with_sliding_layers_decodes_as_before(generate_logits):
    kinds = ["sliding_attention", "full_attention"]
    model = load_causal_lm(
        "tiny-qwen2", initializer_range=0.2, layer_types=kinds, sliding_window=16, use_sliding_window=True
    ).eval()
    inputs = {"input_ids": torch.arange(40)[None]}
    model.set_attn_implementation("eager")
    _, logits = generate_logits(model, inputs, 20)
    use_serving_attention(model)
    _, found = generate_logits(model, inputs, 20, growing_cache(model.config))
    torch.testing.assert_close(found, logits, atol=2e-3, rtol=1e-4)


def test_a_model_without_full_attention_is_refused():
    config = Gemma3TextConfig(num_hidden_layers=2, layer_types=["sliding_attention"] * 2)
    with pytest.raises(BadInputError, match=r"no full-attention layer, only \['sliding_attention'\]"):
        growing_cache(config)


def test_what_this_attention_cannot_do_is_refused():
    tensor = torch.zeros(1, 1, 1, 4)
    with pytest.raises(BadInputError, match="no soft cap and no dropout"):
        owned_attention(torch.nn.Module(), tensor, tensor, tensor, None, softcap=30.0)
    with pytest.raises(BadInputError, match="no soft cap and no dropout"):
        owned_attention(torch.nn.Module(), tensor, tensor, tensor, None, dropout=0.1)


def test_prompts_in_pieces_equal_one_prompt(qwen2):
    use_serving_attention(qwen2)
    ids = torch.arange(60)[None] * 7 % 1000
    with torch.no_grad():
        whole = qwen2(ids, past_key_values=growing_cache(qwen2.config)).logits[:, -1]
        cache = growing_cache(qwen2.config)
        for piece in ids.split(17, dim=1):
            last = qwen2(piece, past_key_values=cache).logits[:, -1]
    torch.testing.assert_close(last, whole, atol=2e-3, rtol=1e-4)
