from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

from papertrial.data.needles import make_haystack
from papertrial.data.tokens import BYTE_VOCABULARY, batches, byte_tokenizer
from papertrial.efficient.exaone_3_5.haystacks import answer_questions, evaluate_haystacks, heat_map
from papertrial.efficient.exaone_3_5.long_context import Extension, ReplayMix, extend_context, set_context
from papertrial.efficient.exaone_3_5.needle_tokens import (
    NeedleVocabulary,
    answer_accuracy,
    needle_at_depth,
    needle_batch,
    periodic_batch,
)
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}


def tiny(**settings):
    return load_causal_lm(
        "tiny-llama", vocab_size=BYTE_VOCABULARY, num_hidden_layers=1, **{**SIZES, **settings}
    )


def blocks(rows, length, seed):
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("replay", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_the_share_of_replayed_tokens_is_kept(replay):
    """After any step the replayed tokens are off by no more than one batch."""
    mix = ReplayMix(batches(blocks(9, 64, 0), 2), batches(blocks(9, 16, 1), 3), replay)
    for _ in range(200):
        batch = next(mix)
        given = mix.long_tokens + mix.replayed_tokens
        assert abs(mix.replayed_tokens - replay * given) <= max(2 * 64, 3 * 16)
        assert batch.shape in ((2, 64), (3, 16))
    assert (mix.replayed_tokens == 0) == (replay == 0)


def test_a_mix_resumes_where_it_stood():
    def fresh():
        return ReplayMix(batches(blocks(9, 64, 0), 2), batches(blocks(9, 16, 1), 3), 0.3)

    whole, other = fresh(), fresh()
    for _ in range(7):
        next(whole)
    other.load_state_dict(whole.state_dict())
    for _ in range(9):
        assert torch.equal(next(whole), next(other))
    with pytest.raises(BadInputError, match="cannot say where it stands"):
        ReplayMix(iter([]), iter([]), 0.0).state_dict()


def test_a_new_base_is_a_model_built_with_it():
    """The same weights in a model whose configuration had the base from the start: equal to the bit."""
    model = tiny()
    set_context(model, 5000, 1e6)
    config = type(model.config)(
        **{**model.config.to_dict(), "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}
    )
    built = LlamaForCausalLM(config).eval()
    built.load_state_dict(model.state_dict())
    tokens = blocks(2, 50, 3)
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, built(tokens).logits)
        assert not torch.equal(model(tokens).logits, tiny()(tokens).logits)
    assert model.config.max_position_embeddings == 5000


def test_extension_trains_any_model_and_reads_no_replay_without_need():
    class Untouched:
        def __iter__(self):
            return self

        def __next__(self):
            raise AssertionError("read")

    for name, theta in (("tiny-llama", 1e6), ("tiny-qwen3", 1e6), ("tiny-gpt2", None)):
        model = load_causal_lm(name, vocab_size=BYTE_VOCABULARY)
        history = extend_context(
            model, batches(blocks(4, 64, 0), 2), Untouched(), Extension(64, theta, replay=0.0, steps=3)
        )
        assert history.diverged_at is None
        assert history.losses[-1] < history.losses[0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Extension(64, replay=1.0), r"lies in \[0, 1\), got 1.0"),
        (lambda: Extension(0), "length must be at least 1"),
        (lambda: Extension(64, theta=-1.0), "lr and theta must be above 0"),
        (lambda: ReplayMix(iter([]), iter([]), 1.5), "replay is a share"),
        (lambda: set_context(load_causal_lm("tiny-gpt2"), 64, 1e6), "has no single rope_theta"),
        (lambda: set_context(load_causal_lm("tiny-gemma3"), 64, 1e6), "has no single rope_theta"),
        (lambda: needle_batch(NeedleVocabulary(), 1, 20, 6, torch.Generator()), "leave 8 for 16 facts"),
        (lambda: needle_at_depth(NeedleVocabulary(), 1, 99, 1.1, torch.Generator()), "a depth lies between"),
        (lambda: periodic_batch(NeedleVocabulary(), 1, 8, torch.Generator()), "needs more than 8 tokens"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(BadInputError, match=words):
        call()


def test_every_question_has_one_answer_in_its_context():
    """Read off the ids: the asked key's fact is there once, its near miss is no answer, depth is where it is said."""
    words, generator = NeedleVocabulary(), torch.Generator().manual_seed(0)
    facts = words.keys * words.values
    for batch in (needle_batch(words, 20, 60, 6, generator), needle_at_depth(words, 20, 60, 0.25, generator)):
        for tokens, labels in zip(batch.tokens.tolist(), batch.labels.tolist(), strict=True):
            body = min(
                place
                for place, token in enumerate(tokens)
                if words.first_question <= token < words.first_answer
            )
            assert sum(token < facts for token in tokens[:body]) == words.keys
            assert sum(facts <= token < 2 * facts for token in tokens[:body]) == words.keys
            for place in range(body, len(tokens), 2):
                key = tokens[place] - words.first_question
                (fact,) = [token for token in tokens[:body] if token < facts and token // words.values == key]
                assert labels[place + 1] == tokens[place + 1] == words.first_answer + fact % words.values
                assert labels[place] == -100
                if len(tokens) - body == 2:
                    assert tokens.index(fact) == round(0.25 * (body - 1))


def test_periodic_text_repeats_and_answers_are_counted():
    words, generator = NeedleVocabulary(), torch.Generator().manual_seed(1)
    batch = periodic_batch(words, 30, 40, generator)
    for row in batch.tokens.tolist():
        assert any(all(row[at] == row[at - period] for at in range(period, 40)) for period in range(2, 9))
    perfect = torch.nn.functional.one_hot(batch.tokens.roll(-1, 1), words.size).float()
    assert answer_accuracy(perfect, batch) == 1.0
    assert answer_accuracy(-perfect, batch) == 0.0


def test_answers_with_a_shared_cache_are_those_of_generate():
    """The haystack read once, its cache cropped after each question, against generate() on the whole prompt."""
    model, tokenizer = tiny(max_position_embeddings=4096), byte_tokenizer()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4.0)  # so that answers hang on the text and are not all one letter
    made = make_haystack(600, (0.0, 0.5, 1.0), count=len, near_misses=1, seed=2)
    found = answer_questions(model, tokenizer, made, 6)
    for needle, answer in zip(made.needles, found, strict=True):
        prompt = torch.tensor([tokenizer.encode(f"{made.text}\n{needle.question}")])
        whole = model.generate(prompt, max_new_tokens=6, do_sample=False, eos_token_id=256, pad_token_id=257)
        rest = [token for token in whole[0, prompt.shape[1] :].tolist() if token != 256]
        assert answer == tokenizer.decode(rest)


def test_a_grid_and_its_figure():
    model, tokenizer = tiny(max_position_embeddings=4096), byte_tokenizer()
    grid = evaluate_haystacks(
        model, tokenizer, [900, 1300], depths=(0.0, 1.0), near_misses=0, answer_tokens=2
    )
    assert {language: len(rows) for language, rows in grid.scores.items()} == {"en": 2, "ko": 2}
    assert all(
        score == 0.0 for rows in grid.scores.values() for row in rows for score in row
    )  # two bytes, five digits
    axes = heat_map([[0.0, 0.5], [1.0, 0.25]], (10, 20), (0.0, 1.0), "t").axes[0]
    assert axes.images[0].get_array().tolist() == [[0.0, 1.0], [0.5, 0.25]]
    assert len(grid.figure("ko").axes) == 2


def test_too_long_a_haystack_is_refused():
    model, tokenizer = tiny(max_position_embeddings=600), byte_tokenizer()
    with pytest.raises(BadInputError, match=r"take \d+ tokens, the model has 600 positions"):
        evaluate_haystacks(model, tokenizer, [590], depths=(0.5,), languages=("en",), near_misses=0)
    with pytest.raises(BadInputError, match="at least one length"):
        evaluate_haystacks(model, tokenizer, [])
