"""The cache in real models: what it must equal, what it must refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm
from papertrial.serving.caches import GrowingLayer, growing_cache
from papertrial.serving.retroinfer import RetroLayer, attach


def everything(settings):
    return replace(settings, retrieve=1.0, estimate=0.0)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_retrieving_everything_equals_dense_decoding(
    small_model, padded_prompt, generate_logits, small, backend
):
    """Left padding included: one sequence has 110 tokens and starts dense, the other 150 and is indexed."""
    small_model.set_attn_implementation("eager")
    tokens, logits = generate_logits(small_model, padded_prompt, 35)
    cache = attach(small_model, replace(everything(small), backend=backend))
    found, found_logits = generate_logits(small_model, padded_prompt, 35, cache)
    assert torch.equal(found, tokens)
    # Logits are of size ten; another order of summation in two layers.
    torch.testing.assert_close(found_logits, logits, atol=2e-3, rtol=1e-4)
    assert cache.stats.mode == "indexed"
    assert cache.stats.touched == 1.0
    assert cache.stats.updates > 0


def test_padding_changes_nothing(qwen2, padded_prompt, generate_logits, small):
    """The padded sequence, alone and without its padding, decodes through the same clusters."""
    settings = replace(small, min_index_len=60)
    _, together = generate_logits(qwen2, padded_prompt, 30, attach(qwen2, settings))
    alone = {"input_ids": padded_prompt["input_ids"][:1, 40:]}
    _, single = generate_logits(qwen2, alone, 30, attach(qwen2, settings))
    torch.testing.assert_close(together[:, 0], single[:, 0], atol=2e-3, rtol=1e-4)


def test_the_settings_reach_attention(qwen2, padded_prompt, generate_logits, small):
    cache = attach(qwen2, small)
    _, logits = generate_logits(qwen2, padded_prompt, 30, cache)
    _, dense = generate_logits(qwen2, padded_prompt, 30, growing_cache(qwen2.config))
    # Random keys have no clusters to speak of: reading a third of them must show.
    assert (logits - dense).abs().max() > 0.5
    # Prompt: round(150/4) = 38, to the nearest multiple of 8: 40. The tenth token that follows is the 17th in
    # wait.
    first = cache.layers[0].sequences[1].index
    assert first.clusters == 40 + 8 * cache.layers[0].sequences[1].updates
    assert (first.retrieved, first.estimated) == (
        4 + cache.layers[0].sequences[1].updates,
        12 + 2 * cache.layers[0].sequences[1].updates,
    )


def test_short_prompts_are_dense(qwen2, padded_prompt, generate_logits):
    cache = attach(qwen2)
    tokens, logits = generate_logits(qwen2, padded_prompt, 20, cache)
    dense_tokens, dense = generate_logits(qwen2, padded_prompt, 20, growing_cache(qwen2.config))
    assert torch.equal(tokens, dense_tokens)
    torch.testing.assert_close(logits, dense, atol=2e-3, rtol=1e-4)
    assert cache.stats.mode == "dense"
    assert cache.stats.clusters == [0, 0]
    assert cache.stats.touched == 0.0


def test_a_batch_may_be_mixed(qwen2, padded_prompt, generate_logits, small):
    cache = attach(qwen2, small)
    generate_logits(qwen2, padded_prompt, 5, cache)
    assert cache.stats.mode == "mixed"
    assert cache.stats.clusters == [0, 40]
    assert cache.stats.build_seconds > 0


def test_a_wave_buffer_changes_nothing(qwen2, padded_prompt, generate_logits, small):
    plain = attach(qwen2, replace(small, backend="torch"))
    _, expected = generate_logits(qwen2, padded_prompt, 40, plain)
    offloaded = attach(qwen2, replace(small, cache_ratio=0.3, max_new_tokens=40))
    _, found = generate_logits(qwen2, padded_prompt, 40, offloaded)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-4)
    assert 0 < offloaded.layers[0].sequences[1].buffer.hit_ratio < 1


def test_prompts_in_pieces_and_a_second_turn_are_attended_exactly(qwen2, small):
    ids = torch.arange(220)[None] * 7 % 1000
    dense = growing_cache(qwen2.config)
    waves = attach(qwen2, everything(small))
    with torch.no_grad():
        # 90 and 60 tokens of prompt, five single ones, a second turn of 40, five more, a third turn.
        for piece in ids.split([90, 60, 1, 1, 1, 1, 1, 40, 1, 1, 1, 1, 1, 20], dim=1):
            expected = qwen2(piece, past_key_values=dense).logits
            found = qwen2(piece, past_key_values=waves).logits
            torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-4)
    assert waves.get_seq_length() == 220
    assert waves.stats.updates > 0


def test_sliding_layers_are_left_alone_and_listed(generate_logits, small):
    kinds = ["sliding_attention", "full_attention"]
    model = load_causal_lm(
        "tiny-qwen2", initializer_range=0.2, layer_types=kinds, sliding_window=16, use_sliding_window=True
    ).eval()
    inputs = {"input_ids": torch.arange(140)[None]}
    model.set_attn_implementation("eager")
    _, logits = generate_logits(model, inputs, 20)
    cache = attach(model, everything(small))
    _, found = generate_logits(model, inputs, 20, cache)
    torch.testing.assert_close(found, logits, atol=2e-3, rtol=1e-4)
    assert cache.stats.skipped_layers == {0: "sliding_attention"}
    assert cache.stats.indexed_layers == [1]


def test_right_padding_is_refused(qwen2, padded_prompt, small):
    flipped = {name: value.flip(1) for name, value in padded_prompt.items()}
    cache = attach(qwen2, small)
    with pytest.raises(BadInputError, match=r"padding must be on the left: .* in sequence 0"):
        qwen2(**flipped, past_key_values=cache)


def test_a_model_that_attends_otherwise_is_refused(qwen2, small):
    """Without the registered attention the model would see one key of each sequence, and say nothing."""
    cache = attach(qwen2, small)
    qwen2.set_attn_implementation("sdpa")
    ids = torch.arange(130)[None]
    with torch.no_grad():
        qwen2(ids, past_key_values=cache)
        with pytest.raises(BadInputError, match=r"call papertrial.serving.retroinfer.attach\(model\)"):
            qwen2(ids[:, :1], past_key_values=cache)


def decoding_cache(model, settings, tokens):
    cache = attach(model, settings)
    with torch.no_grad():
        model(torch.arange(tokens)[None].repeat(2, 1), past_key_values=cache)
        model(torch.tensor([[1], [2]]), past_key_values=cache)
    return cache


def test_beam_search_and_assisted_decoding_are_refused_on_an_index(qwen2, small):
    cache = decoding_cache(qwen2, small, 130)
    with pytest.raises(BadInputError, match=r"beam search\) does not work on an indexed cache: every index"):
        cache.reorder_cache(torch.tensor([1, 0]))
    with pytest.raises(BadInputError, match=r"crop \(assisted decoding\) does not work on an indexed cache"):
        cache.crop(-1)
    assert not cache.is_croppable
    cache.crop(0)
    with pytest.raises(BadInputError, match="beam search"):
        qwen2.generate(
            torch.arange(130)[None], past_key_values=attach(qwen2, small), num_beams=2, max_new_tokens=3
        )


def test_short_sequences_may_be_reordered_and_cropped(qwen2, small):
    cache = decoding_cache(qwen2, small, 50)
    layer = cache.layers[1]
    first, second = (sequence.steady_keys.clone() for sequence in layer.sequences)
    cache.reorder_cache(torch.tensor([1, 0, 0]))
    for sequence, expected in zip(layer.sequences, (second, first, first), strict=True):
        assert torch.equal(sequence.steady_keys, expected)
    # A copy is its own: what one sequence appends the other does not see.
    layer.sequences[1].append(first[:, 0], first[:, 0])
    assert layer.sequences[2].steady == 51
    prompt = attach(qwen2, small)
    with torch.no_grad():
        qwen2(torch.arange(50)[None], past_key_values=prompt)
    prompt.crop(-3)
    assert prompt.get_seq_length() == 47


def test_short_prompts_take_beam_search(qwen2, small):
    ids = {"input_ids": torch.arange(40)[None], "num_beams": 3, "max_new_tokens": 12, "do_sample": False}
    cache = attach(qwen2, small)
    expected = qwen2.generate(**ids, past_key_values=growing_cache(qwen2.config))
    assert torch.equal(qwen2.generate(**ids, past_key_values=cache), expected)


def test_a_cache_of_another_model_is_refused(qwen2, small):
    cache = decoding_cache(qwen2, small, 130)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=None,
        bos_token_id=None,
    )
    other = LlamaForCausalLM(config).eval()
    attach(other, small)
    with torch.no_grad(), pytest.raises(BadInputError, match="head_dim of this cache is 32, got 16"):
        other(torch.tensor([[1], [2]]), past_key_values=cache)


def test_reset_starts_anew(qwen2, small):
    cache = decoding_cache(qwen2, small, 130)
    cache.reset()
    assert cache.get_seq_length() == 0
    ids = torch.arange(30)[None].repeat(2, 1)
    with torch.no_grad():
        expected = qwen2(ids, past_key_values=growing_cache(qwen2.config)).logits
        found = qwen2(ids, past_key_values=cache).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_layers_are_real_cache_layers(small):
    assert issubclass(RetroLayer, GrowingLayer)
    layer = RetroLayer(small)
    assert layer.get_mask_sizes(5) == (5, 0)
    assert layer.get_max_length() == -1
