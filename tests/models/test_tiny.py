from __future__ import annotations

import pytest
import torch

from papertrial.errors import BadInputError
from papertrial.models import TINY_MODELS, load_causal_lm, parameter_count, tiny_model_sizes


def llama_parameters(vocab: int, hidden: int, ffn: int, layers: int, heads: int, kv_heads: int) -> int:
    """Count a Llama's weights from its published architecture: no bias, untied head, grouped keys."""
    head = hidden // heads
    attention = 2 * hidden * hidden + 2 * hidden * kv_heads * head
    layer = attention + 3 * hidden * ffn + 2 * hidden
    return 2 * vocab * hidden + layers * layer + hidden


def test_a_llama_has_the_weights_of_its_formula():
    assert tiny_model_sizes()["tiny-llama"] == llama_parameters(1024, 128, 512, 2, 4, 2)
    model = load_causal_lm("tiny-llama", vocab_size=300, hidden_size=64, intermediate_size=192)
    assert parameter_count(model) == llama_parameters(300, 64, 192, 2, 4, 2)


def test_a_tied_head_counts_once():
    tied = load_causal_lm("tiny-llama", tie_word_embeddings=True)
    free = load_causal_lm("tiny-llama")
    assert parameter_count(free) - parameter_count(tied) == 1024 * 128


def test_sizes_name_every_model_and_stay_toys():
    sizes = tiny_model_sizes()
    assert sizes.keys() == TINY_MODELS.keys()
    assert all(100_000 < size < 2_000_000 for size in sizes.values())


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_model_is_a_causal_language_model(name):
    """Changing a token changes no logit before it, and does change those after."""
    model = load_causal_lm(name, vocab_size=64)
    tokens = torch.arange(12)[None]
    changed = tokens.clone()
    changed[0, 6] = 50
    with torch.no_grad():
        before, after = model(tokens).logits, model(changed).logits
    # The same kernels on the same shapes: rows that do not see the change are equal to rounding.
    torch.testing.assert_close(before[:, :6], after[:, :6], rtol=0, atol=1e-6)
    assert (before[:, 6:] - after[:, 6:]).abs().max() > 1e-3


@pytest.mark.parametrize("name", TINY_MODELS)
def test_widths_are_powers_of_two(name):
    model = load_causal_lm(name)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            assert layer.in_features & (layer.in_features - 1) == 0


def test_gemma3_shows_both_kinds_of_layer():
    assert load_causal_lm("tiny-gemma3").config.layer_types == ["sliding_attention", "full_attention"]
    deeper = load_causal_lm("tiny-gemma3", num_hidden_layers=4)
    assert deeper.config.layer_types == ["sliding_attention", "full_attention"] * 2


@pytest.mark.parametrize("name", TINY_MODELS)
def test_no_row_of_the_embedding_is_frozen_and_no_foreign_id_ends_a_text(name):
    model = load_causal_lm(name)
    assert model.get_input_embeddings().padding_idx is None
    assert model.generation_config.eos_token_id is None


def test_an_override_reaches_the_model():
    model = load_causal_lm("tiny-qwen3", num_hidden_layers=3, rms_norm_eps=1e-5)
    assert len(model.model.layers) == 3
    assert model.model.norm.variance_epsilon == 1e-5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_siz": 64}, "unknown LlamaConfig setting 'hidden_siz'; did you mean hidden_size"),
        ({"num_attention_heads": 3}, r"refuses .*not a multiple of the number of attention heads \(3\)"),
        ({"num_attention_heads": 0}, "refuses"),
        ({"hidden_act": "gelux"}, "cannot be built: KeyError: 'gelux'"),
        ({"vocab_size": 0}, "vocab_size must be a positive whole number, got 0"),
        ({"_name_or_path": "x"}, "unknown LlamaConfig setting"),
    ],
)
def test_a_setting_that_cannot_work_is_said_in_one_line(overrides, message):
    with pytest.raises(BadInputError, match=message) as caught:
        load_causal_lm("tiny-llama", **overrides)
    assert "\n" not in str(caught.value)
