"""Loaded models on trial: `--model` of the long-context and preference trials, with real classes saved to disk."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from papertrial.data.tokens import byte_tokenizer
from papertrial.efficient.exaone_3_5.long_context_trial import LongContextTrial
from papertrial.efficient.exaone_3_5.preference_trial import PreferenceTrial
from papertrial.efficient.exaone_3_5.respelled import Respelled, spell_characters, spread_spelling
from papertrial.efficient.exaone_3_5.toy_preferences import ALPHABET, VOCABULARY, encode
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm, load_tokenizer
from papertrial.objective import model_loss
from papertrial.preference import completion_log_probabilities

TRIALS = {"long-context": LongContextTrial, "preference": PreferenceTrial}


class Watch:
    def __init__(self, folder):
        self.prepared = folder
        self.kept = {}

    def step(self, done, total, **values):
        assert 0 < done <= total

    def keep(self, name, artifact):
        self.kept[name] = artifact


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of two real classes, as `save_pretrained` writes them, with a tokenizer: tied Qwen3 and Llama."""
    made = {}
    for name, settings in {"tiny-qwen3": {"tie_word_embeddings": True}, "tiny-llama": {}}.items():
        folder = made[name] = tmp_path_factory.mktemp(name)
        tokenizer = byte_tokenizer()
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, **settings}
        load_causal_lm(name, vocab_size=len(tokenizer) + 3, **sizes).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return made


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-llama"])
@pytest.mark.parametrize("trial_name", TRIALS)
def test_a_saved_model_is_put_through_every_arm(folders, tmp_path, name, trial_name):
    quick = dataclasses.replace(TRIALS[trial_name].quick(), hidden=TRIALS[trial_name].hidden)
    trial = dataclasses.replace(quick, model=str(folders[name]))
    trial.check()
    assert str(folders[name]) in trial.scale()
    trial.prepare(0, tmp_path)
    before = load_causal_lm(str(folders[name])).state_dict()
    measured = {arm: trial.measure(arm, 0, Watch(tmp_path)) for arm in trial.arms}
    for values in measured.values():
        assert set(values) == set(trial.metrics)
        assert all(math.isfinite(value) for value in values.values())
    assert measured[trial.arms[1]] != measured[trial.arms[0]]  # it trained
    after = load_causal_lm(str(folders[name])).state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)  # and left the folder alone


def test_a_loaded_model_is_asked_for_text_needles_where_they_fit(folders, tmp_path, monkeypatch):
    """Bytes: the statements take some 700 in English and more in Korean, so a short text holds none."""
    asked = []

    def answers(model, tokenizer, haystack, answer_tokens):
        questions = max(len(tokenizer.encode(f"\n{needle.question}")) for needle in haystack.needles)
        asked.append((haystack.language, haystack.length + questions + answer_tokens))
        return [needle.answer if number else "" for number, needle in enumerate(haystack.needles)]

    monkeypatch.setattr("papertrial.efficient.exaone_3_5.haystacks.answer_questions", answers)
    quick = dataclasses.replace(LongContextTrial.quick(), hidden=LongContextTrial.hidden)
    trial = dataclasses.replace(quick, model=str(folders["tiny-llama"]), short=40, long=1960, tokens=1960)
    watch = Watch(tmp_path)
    trial._ask_in_text(trial._model(0), "arm-0", 0, (40, 1000, 1960), watch)
    assert sorted(watch.kept) == ["haystack-en-arm-0", "haystack-ko-arm-0"]
    assert [language for language, _ in asked] == ["en", "en", "ko", "ko"]  # none in 40
    for (language, whole), length in zip(asked, (1000, 1960, 1000, 1960), strict=True):
        # a text with question and answer is as long as the trial's, but for less than a sentence of filler
        assert length - 90 < whole <= length, language
    shown = [text.get_text() for text in watch.kept["haystack-ko-arm-0"].axes[0].texts]
    assert shown == ["0.00", "0.00", *["1.00"] * 8]  # depth by depth, two lengths each


def test_without_a_tokenizer_it_is_said_that_no_text_was_asked(tmp_path):
    load_causal_lm("tiny-llama", vocab_size=200, hidden_size=16, intermediate_size=32).save_pretrained(
        tmp_path / "m"
    )
    trial = dataclasses.replace(LongContextTrial.quick(), hidden=64, model=str(tmp_path / "m"))
    watch = Watch(tmp_path)
    trial._ask_in_text(trial._model(0), "arm-0", 0, (40, 1000), watch)
    assert list(watch.kept) == ["haystack-arm-0"]
    assert "no needles of text" in watch.kept["haystack-arm-0"]


def test_training_reaches_the_loaded_weights(folders, tmp_path):
    """Stage 1 starts from what was loaded: with a rate of nearly nothing it is still that."""
    quick = dataclasses.replace(LongContextTrial.quick(), hidden=LongContextTrial.hidden)
    folder = folders["tiny-llama"]
    for rate, close in ((1e-12, True), (1e-2, False)):
        trial = dataclasses.replace(quick, model=str(folder), stage1_lr=rate)
        (tmp_path / str(rate)).mkdir()
        trial.prepare(0, tmp_path / str(rate))
        trained = trial._model(0, tmp_path / str(rate)).model.model.layers[0].mlp.up_proj.weight
        loaded = load_causal_lm(str(folder)).model.layers[0].mlp.up_proj.weight
        assert torch.allclose(trained, loaded, atol=1e-6) == close


def test_rows_in_parts_score_as_all_at_once(folders):
    """A loaded model is measured a few rows at a time; equal means of equally long rows."""
    from papertrial.efficient.exaone_3_5.needle_tokens import NeedleVocabulary, needle_batch

    folder = str(folders["tiny-llama"])
    quick = dataclasses.replace(LongContextTrial.quick(), hidden=LongContextTrial.hidden, model=folder)
    model = quick._model(0).eval()
    task = needle_batch(NeedleVocabulary(), 20, 48, 6, torch.Generator().manual_seed(0))
    whole = dataclasses.replace(quick, tokens=20 * 48)._score(model, task)
    parts = dataclasses.replace(quick, tokens=3 * 48)._score(model, task)
    assert parts == pytest.approx(whole, rel=1e-5)  # float32 means, averaged


def test_the_symbols_have_the_models_own_distribution_over_their_tokens(folders):
    model = load_causal_lm(str(folders["tiny-qwen3"]))
    spelling = torch.tensor([9, 200, 31, 4])
    wrapped = Respelled(model, spelling)
    symbols = torch.tensor([[0, 2, 1, 3, 3]])
    labels = torch.tensor([[-100, 2, -100, 3, 3]])
    with torch.no_grad():
        own = model(spelling[symbols], use_cache=False).logits
        out = wrapped(symbols, labels=labels)
    expected = own.softmax(-1)[..., spelling]
    torch.testing.assert_close(out.logits.softmax(-1), expected / expected.sum(-1, keepdim=True))
    by_hand = [-out.logits.log_softmax(-1)[0, place - 1, labels[0, place]] for place in (1, 3, 4)]
    torch.testing.assert_close(out.loss, torch.stack(by_hand).mean())
    torch.testing.assert_close(model_loss(wrapped, {"input_ids": symbols, "labels": labels}), out.loss)
    taken = completion_log_probabilities(out.logits, symbols, labels >= 0)
    torch.testing.assert_close(-taken[labels >= 0].mean(), out.loss)


def test_another_architecture_without_rotary_angles(tmp_path):
    """GPT-2 can be aligned; its base cannot be raised, and that is said."""
    GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=300, n_positions=64)
    ).save_pretrained(tmp_path / "gpt2")
    byte_tokenizer().save_pretrained(tmp_path / "gpt2")
    quick = dataclasses.replace(LongContextTrial.quick(), hidden=LongContextTrial.hidden)
    trial = dataclasses.replace(quick, model=str(tmp_path / "gpt2"))
    trial.prepare(0, tmp_path)
    assert math.isfinite(trial.measure("long", 0, Watch(tmp_path))["long_loss"])
    with pytest.raises(BadInputError, match="has no single rope_theta"):
        trial.measure("theta-long", 0, Watch(tmp_path))


def test_characters_are_spelled_by_their_own_tokens(folders):
    tokenizer = load_tokenizer(str(folders["tiny-llama"]))
    spelling = spell_characters(tokenizer, ALPHABET)
    assert len(spelling) == VOCABULARY
    assert tokenizer.decode(spelling[encode("3>5=abc")]) == "3>5=abc"
    assert int(spelling[-1]) == tokenizer.eos_token_id
    with pytest.raises(BadInputError, match=r"no token of its own for each of \['é', 'é'\]"):
        spell_characters(tokenizer, ["a", "é", "é"])
    tokenizer.eos_token = None
    with pytest.raises(BadInputError, match="has no end-of-text token"):
        spell_characters(tokenizer, ALPHABET)


def test_spread_tokens_are_distinct_and_plain():
    model = load_causal_lm("tiny-llama", vocab_size=200, hidden_size=16, eos_token_id=7, bos_token_id=0)
    spelling = spread_spelling(model, 168)
    assert len(set(spelling.tolist())) == 168
    assert not {0, 7} & set(spelling.tolist())
    assert int(spelling.max()) > 190
    with pytest.raises(BadInputError, match="199 symbols need as many tokens; LlamaForCausalLM has 198"):
        spread_spelling(model, 199)
    with pytest.raises(BadInputError, match="3 symbols need as many tokens of the model's 200"):
        Respelled(model, torch.tensor([1, 1, 2]))
    assert functional.one_hot(spelling, 200).sum() == 168


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        (LongContextTrial(model="some/model", hidden=32), "hidden can be set for tiny-llama only"),
        (LongContextTrial(model="some/model", theta=5e5), "theta can be set for tiny-llama only"),
        (LongContextTrial(stage1_lr=0.0), "stage1_lr must be above 0"),
        (PreferenceTrial(model="./nowhere"), "there is no folder './nowhere'"),
        (PreferenceTrial(model="some/model", hidden=32), "hidden can be set for tiny-llama only"),
        (PreferenceTrial(sft_lr=0.0), "sft_lr must be above 0"),
    ],
)
def test_settings_that_no_loaded_model_has(trial, words):
    with pytest.raises(BadInputError, match=words):
        trial.check()
