from __future__ import annotations

import json

import pytest
import torch

from papertrial.data.tokens import byte_tokenizer
from papertrial.errors import BadInputError
from papertrial.models import (
    TINY_MODELS,
    load_causal_lm,
    load_token_classifier,
    load_tokenizer,
    loading,
    seeded,
)

TOKENS = torch.arange(10)[None]


@pytest.fixture(scope="module")
def saved_llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    load_causal_lm("tiny-llama", vocab_size=64, seed=3).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


@pytest.mark.parametrize("name", TINY_MODELS)
def test_saving_and_loading_gives_the_same_logits(name, tmp_path):
    model = load_causal_lm(name, vocab_size=64, seed=1)
    model.save_pretrained(tmp_path)
    again = load_causal_lm(str(tmp_path))
    assert type(again) is type(model)
    # Nothing is computed in another order: the same weights through the same code give the same bits.
    assert torch.equal(logits(model), logits(again))


def test_a_seed_gives_weights_and_leaves_the_random_state_alone():
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = load_causal_lm("tiny-qwen3", seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    second = load_causal_lm("tiny-qwen3", seed=5)
    other = load_causal_lm("tiny-qwen3", seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_seeding_survives_an_error():
    torch.manual_seed(4)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="size"), seeded(9):
        torch.rand(3) + torch.rand(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_are_drawn_in_full_precision_and_then_rounded():
    full, rounded = load_causal_lm("tiny-llama"), load_causal_lm("tiny-llama", dtype="bfloat16")
    assert rounded.dtype is torch.bfloat16
    assert torch.equal(full.lm_head.weight.bfloat16(), rounded.lm_head.weight)


def test_a_loaded_model_has_the_dtype_asked_for(saved_llama):
    assert load_causal_lm(str(saved_llama), dtype="float64").dtype is torch.float64


def test_models_arrive_ready_to_be_evaluated(saved_llama):
    assert not load_causal_lm("tiny-gpt2").training
    assert not load_causal_lm(str(saved_llama)).training


def test_a_classifier_from_a_language_model_keeps_its_body(saved_llama):
    body = load_causal_lm(str(saved_llama))
    classifier = load_token_classifier(str(saved_llama), 3, seed=2)
    assert logits(classifier).shape == (1, 10, 3)
    assert torch.equal(classifier.model.embed_tokens.weight, body.model.embed_tokens.weight)
    again = load_token_classifier(str(saved_llama), 3, seed=2)
    other = load_token_classifier(str(saved_llama), 3, seed=4)
    assert torch.equal(classifier.score.weight, again.score.weight)
    assert not torch.equal(classifier.score.weight, other.score.weight)


def test_a_trained_classifier_keeps_its_head(tmp_path):
    model = load_token_classifier("tiny-qwen2", 2, vocab_size=64, seed=1)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(model), logits(load_token_classifier(str(tmp_path), 2, seed=9)))


@pytest.mark.parametrize("name", [name for name, entry in TINY_MODELS.items() if entry.token_classifier])
def test_classifiers_of_every_family(name):
    assert logits(load_token_classifier(name, 1, vocab_size=64)).shape == (1, 10, 1)


def test_the_head_can_lose_its_dropout_and_bias():
    plain = load_token_classifier("tiny-llama", 2)
    bare = load_token_classifier("tiny-llama", 2, classifier_dropout=0.0, token_classification_bias=False)
    assert (plain.dropout.p, bare.dropout.p) == (0.1, 0.0)
    assert plain.score.bias is not None
    assert bare.score.bias is None


def test_a_family_without_classifier_names_those_that_have_one():
    with pytest.raises(BadInputError, match=r"no token classifier for 'tiny-gemma3'; it has for: tiny-llama"):
        load_token_classifier("tiny-gemma3", 2)


def test_labels_below_one_are_refused():
    with pytest.raises(BadInputError, match="num_labels must be at least 1, got 0"):
        load_token_classifier("tiny-llama", 0)


def test_gpt2_trains_without_a_warning_about_its_loss(capfd):
    model = load_causal_lm("tiny-gpt2", vocab_size=64)
    loss = model(TOKENS, labels=TOKENS).loss
    by_hand = torch.nn.functional.cross_entropy(model(TOKENS).logits[0, :-1], TOKENS[0, 1:])
    torch.testing.assert_close(loss, by_hand)
    assert "loss_type" not in capfd.readouterr().err


def test_a_tokenizer_comes_back_as_it_was_saved(saved_llama):
    text = "def f(x):\n    return x  # ünï <|endoftext|>"
    original, loaded = byte_tokenizer(), load_tokenizer(str(saved_llama))
    assert loaded(text).input_ids == original(text).input_ids
    assert loaded.decode(loaded(text).input_ids) == text
    assert (loaded.eos_token_id, loaded.pad_token_id, len(loaded)) == (256, 257, 258)


class TestBadInput:
    def test_an_unknown_toy_names_the_nearest(self):
        for load in (load_causal_lm, load_tokenizer):
            with pytest.raises(
                BadInputError, match="unknown tiny model 'tiny-lama'; did you mean tiny-llama"
            ):
                load("tiny-lama")

    def test_a_toy_has_no_tokenizer(self):
        with pytest.raises(BadInputError, match="train_bpe or byte_tokenizer"):
            load_tokenizer("tiny-llama")

    def test_a_folder_named_like_a_toy_does_not_replace_it(self, monkeypatch, tmp_path):
        (tmp_path / "tiny-llama").mkdir()
        monkeypatch.chdir(tmp_path)
        assert load_causal_lm("tiny-llama").config.vocab_size == 1024

    @pytest.mark.parametrize("load", [load_causal_lm, load_tokenizer])
    def test_a_missing_folder_names_its_neighbour(self, load, saved_llama):
        wrong = str(saved_llama)[:-1] + "x"
        with pytest.raises(BadInputError, match=f"there is no folder .*did you mean {saved_llama.name}"):
            load(wrong)

    @pytest.mark.parametrize(
        ("load", "file"), [(load_causal_lm, "config"), (load_tokenizer, "tokenizer_config")]
    )
    def test_a_folder_that_is_no_model(self, load, file, tmp_path):
        with pytest.raises(BadInputError, match=f"no saved model: it has no {file}.json"):
            load(str(tmp_path))

    def test_a_file_is_no_folder(self, saved_llama):
        with pytest.raises(BadInputError, match="is a file; give the folder"):
            load_causal_lm(str(saved_llama / "config.json"))

    def test_pickled_weights_are_not_loaded(self, saved_llama, tmp_path):
        (tmp_path / "config.json").write_bytes((saved_llama / "config.json").read_bytes())
        torch.save(load_causal_lm(str(saved_llama)).state_dict(), tmp_path / "pytorch_model.bin")
        with pytest.raises(BadInputError, match="no safetensors weights"):
            load_causal_lm(str(tmp_path))

    def test_a_checkpoint_without_some_weights(self, tmp_path):
        model = load_causal_lm("tiny-llama", vocab_size=64)
        weights = {name: w for name, w in model.state_dict().items() if "layers.1.mlp" not in name}
        model.save_pretrained(tmp_path, state_dict=weights)
        with pytest.raises(BadInputError, match=r"lacks 3 of the model's weights: model.layers.1.mlp"):
            load_causal_lm(str(tmp_path))
        with pytest.raises(BadInputError, match="lacks 3 of"):
            load_token_classifier(str(tmp_path), 2)

    def test_a_head_of_another_size(self, tmp_path):
        load_token_classifier("tiny-llama", 3, vocab_size=64).save_pretrained(tmp_path)
        with pytest.raises(BadInputError, match=r"its score.bias is \(3,\), the model's \(2,\)"):
            load_token_classifier(str(tmp_path), 2)

    def test_damaged_weights(self, saved_llama, tmp_path):
        (tmp_path / "config.json").write_bytes((saved_llama / "config.json").read_bytes())
        (tmp_path / "model.safetensors").write_bytes(b"not weights")
        with pytest.raises(BadInputError, match="cannot load the model") as caught:
            load_causal_lm(str(tmp_path))
        assert "\n" not in str(caught.value)

    def test_a_model_that_is_no_language_model(self, tmp_path, saved_llama):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
        (tmp_path / "model.safetensors").write_bytes((saved_llama / "model.safetensors").read_bytes())
        with pytest.raises(BadInputError, match="cannot load the model"):
            load_causal_lm(str(tmp_path))

    @pytest.mark.parametrize("settings", [{"vocab_size": 10}, {"hidden_size": 64}])
    def test_a_loaded_model_takes_no_sizes(self, saved_llama, settings):
        with pytest.raises(BadInputError, match="can be set for tiny models only"):
            load_causal_lm(str(saved_llama), **settings)

    @pytest.mark.parametrize("load", [load_causal_lm, load_tokenizer])
    def test_no_network_is_one_line_at_once(self, load):
        """The test suite runs offline, so the hub client refuses without trying."""
        with pytest.raises(BadInputError, match=r"not in the cache, and the hub cannot be reached") as caught:
            load("some-organisation/some-model")
        assert "\n" not in str(caught.value)

    def test_what_is_neither_path_nor_id(self):
        with pytest.raises(BadInputError, match="neither a path here nor a hub id"):
            load_causal_lm("two words")

    def test_an_unreachable_hub_leaves_the_cache(self, monkeypatch, saved_llama):
        """With the files in the cache, the library is told to stay off the network."""
        seen = {}

        def from_pretrained(source, **settings):
            seen.update(settings, source=source)
            raise OSError("stop here")

        monkeypatch.setattr(loading, "hub_has", lambda name, kind: False)
        monkeypatch.setattr(loading, "try_to_load_from_cache", lambda name, file: str(saved_llama / file))
        monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", from_pretrained)
        with pytest.raises(BadInputError, match="stop here"):
            load_causal_lm("some/model")
        assert seen["local_files_only"] is True
        assert seen["use_safetensors"] is True
        assert seen["trust_remote_code"] is False


def test_a_generic_tokenizer_beside_a_qwen2_stays_what_it_is(tmp_path):
    """Saved by train_bpe next to a Qwen2's config, it must give the ids that it was trained to give."""
    from papertrial.data.tokens import train_bpe

    tokenizer = train_bpe(["def add(left, right): return left + right\n" * 50], 270)
    load_causal_lm("tiny-qwen2", vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    text = "def add(right, left):\n    return 2024"
    assert load_tokenizer(str(tmp_path))(text)["input_ids"] == tokenizer(text)["input_ids"]
