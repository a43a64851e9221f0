from __future__ import annotations

import copy
import itertools
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from papertrial.data.tokens import BYTE_VOCABULARY, byte_tokenizer
from papertrial.efficient.exaone_3_5.pairs import (
    PreferencePair,
    build_pairs,
    clean_pairs,
    kendall_tau,
    load_pairs,
    save_pairs,
)
from papertrial.efficient.exaone_3_5.stages import (
    Stage,
    encode_pairs,
    frozen_copy,
    log_probabilities,
    reference_log_probabilities,
    run_stage,
    run_stages,
)
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

PAIRS = [
    PreferencePair("2+2=", "4", "five", (1.0, 0.0)),
    PreferencePair("capital of Korea? ", "서울", "no idea at all", (0.9, 0.1)),
    PreferencePair("say a", "a", "b", (1.0, 0.0)),
]


def tiny(seed=0):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    return load_causal_lm("tiny-llama", vocab_size=BYTE_VOCABULARY, num_hidden_layers=1, seed=seed, **sizes)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=7))
def test_tau_is_counted_pair_by_pair(scores):
    """τ-b from its definition: concordant less discordant over the geometric mean of untied pairs."""
    first, second = zip(*scores, strict=True)
    net, untied_first, untied_second = 0, 0, 0
    for i, j in itertools.combinations(range(len(scores)), 2):
        a, b = first[i] - first[j], second[i] - second[j]
        net += (a * b > 0) - (a * b < 0)
        untied_first += a != 0
        untied_second += b != 0
    found = kendall_tau([float(score) for score in first], [float(score) for score in second])
    if untied_first and untied_second:
        assert found == pytest.approx(net / math.sqrt(untied_first * untied_second), abs=1e-12)
    else:
        assert math.isnan(found)


def test_best_and_worst_make_the_pair_and_disagreement_drops_it():
    responses = [["aaa", "b", "cc"], ["x", "yy", "zzz"], ["same", "same"], ["only"], ["p", "q"]]
    prompts = ["length", "reverse", "twice", "one", "tie"]

    def by_length(prompt, texts):
        return [len(text) for text in texts]

    def second(prompt, texts):
        return [len(text) * (-1 if prompt == "reverse" else 1) for text in texts]

    report = build_pairs(prompts, responses, by_length, second, agreement=0.5)
    assert report.pairs == [PreferencePair("length", "aaa", "b", (3.0, 1.0))]
    assert report.dropped == {
        "low agreement": 1,
        "identical texts": 1,
        "too few responses": 1,
        "equal scores": 1,
    }
    assert report.agreement == [1.0, -1.0]
    assert len(build_pairs(prompts, responses, by_length).pairs) == 2
    nan = build_pairs(["x"], [["a", "b"]], lambda prompt, texts: [math.nan, 1.0])
    assert nan.dropped == {"NaN score": 1}


def test_files_round_trip_and_useless_pairs_are_counted(tmp_path):
    path = tmp_path / "pairs.jsonl"
    save_pairs(PAIRS, path)
    assert load_pairs(path).pairs == PAIRS
    with path.open("a") as file:
        file.write(json.dumps({"prompt": "p", "chosen": "same", "rejected": "same"}) + "\n")
        file.write('{"prompt": "p", "chosen": "a", "rejected": "b", "scores": [NaN, 0.1]}\n')
    report = load_pairs(path)
    assert report.pairs == PAIRS
    assert report.dropped == {"identical texts": 1, "NaN score": 1}
    assert clean_pairs(report.pairs).dropped == {}


def test_padding_changes_no_log_probability():
    """Each row alone, unpadded, against the padded batch: float32, one layer."""
    model, tokenizer = tiny(), byte_tokenizer()
    pairs = encode_pairs(PAIRS, tokenizer)
    with torch.no_grad():
        together = log_probabilities(model, pairs.rejected, pairs.rejected_completion)
        for row, pair in enumerate(PAIRS):
            ids = [*tokenizer.encode(pair.prompt + pair.rejected), tokenizer.eos_token_id]
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            start = len(tokenizer.encode(pair.prompt))
            expected = [float(logits[at - 1, ids[at]]) for at in range(start, len(ids))]
            assert together[row, start : len(ids)].tolist() == pytest.approx(expected, abs=1e-5)
            assert together[row].count_nonzero() == len(expected)


def test_a_stage_of_dpo_starts_at_log_two_and_prefers_the_chosen_at_its_end():
    model, pairs, losses = tiny(), encode_pairs(PAIRS, byte_tokenizer()), []
    before = reference_log_probabilities(model, pairs)
    stage = Stage("dpo", steps=20, lr=1e-3, batch=3)
    run_stage(model, pairs, stage, on_step=lambda step, values: losses.append(values["loss"]))
    after = reference_log_probabilities(model, pairs)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] < 0.6 * losses[0]
    margin = (after - before)[:, 0] - (after - before)[:, 1]
    assert (margin > 0).all()


def test_every_stage_is_held_to_the_model_it_began_with():
    """The second of two DPO stages starts at log 2 again; one stage of both lengths goes on falling."""
    pairs = encode_pairs(PAIRS, byte_tokenizer())
    staged, whole = [], []
    half = Stage("dpo", steps=10, lr=1e-3, batch=3)
    run_stages(
        tiny(), [half, half], pairs, on_step=lambda step, values: staged.append((step, values["loss"]))
    )
    run_stages(
        tiny(),
        [Stage("dpo", steps=20, lr=1e-3, batch=3)],
        pairs,
        on_step=lambda step, values: whole.append(values["loss"]),
    )
    assert [step for step, _ in staged] == list(range(1, 21))
    assert staged[10][1] == pytest.approx(math.log(2), abs=1e-6)
    assert whole[10] < 0.6


def test_simpo_needs_no_reference_and_fresh_pairs_may_come_each_stage():
    model, pairs, entered = tiny(), encode_pairs(PAIRS, byte_tokenizer()), []

    def fresh(entering, number):
        entered.append((number, copy.deepcopy(entering.state_dict())))
        return pairs

    stages = [Stage("dpo", steps=3, lr=1e-3), Stage("simpo", steps=15, lr=1e-3)]
    histories = run_stages(model, stages, fresh)
    assert [number for number, _ in entered] == [0, 1]
    assert any(not torch.equal(entered[0][1][name], entered[1][1][name]) for name in entered[0][1])
    assert histories[1].losses[-1] < histories[1].losses[0]
    assert all(not weight.requires_grad for weight in frozen_copy(model).parameters())


def test_divergence_ends_the_stages():
    histories = run_stages(
        tiny(), [Stage("dpo", 5, lr=1e30, batch=3)] * 2, encode_pairs(PAIRS, byte_tokenizer())
    )
    assert len(histories) == 1
    assert histories[0].diverged_at is not None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda path: Stage("ppo"), "unknown preference algorithm 'ppo'"),
        (lambda path: Stage(steps=0), "steps must be at least 1"),
        (lambda path: Stage(lr=-1.0), "lr must be above 0"),
        (lambda path: run_stages(tiny(), [], encode_pairs(PAIRS, byte_tokenizer())), "at least one stage"),
        (lambda path: encode_pairs([], byte_tokenizer()), "there are no preference pairs"),
        (
            lambda path: encode_pairs([PreferencePair("", "a", "b", (1.0, 0.0))], byte_tokenizer()),
            "pair 0 has an empty prompt",
        ),
        (lambda path: encode_pairs(PAIRS, byte_tokenizer(), max_length=8), "has 25 tokens, the most is 8"),
        (lambda path: build_pairs(["a"], [], lambda p, t: []), "each prompt needs its responses"),
        (lambda path: build_pairs(["a"], [["b", "c"]], lambda p, t: [1.0]), "gave 1 scores for 2 responses"),
        (lambda path: build_pairs([], [], lambda p, t: [], agreement=2.0), "lies between -1 and 1"),
        (lambda path: kendall_tau([1.0], [1.0]), "two rankings of two or more"),
        (lambda path: load_pairs(path / "none"), "there is no preference file"),
    ],
)
def test_bad_input(call, words, tmp_path):
    with pytest.raises(BadInputError, match=words):
        call(tmp_path)


@pytest.mark.parametrize(
    "row",
    ['{"prompt": "a", "chosen": "b"}', '{"prompt": "a", "chosen": "b", "rejected": "c", "scores": [1]}'],
)
def test_bad_rows(row, tmp_path):
    (tmp_path / "p.jsonl").write_text(row)
    with pytest.raises(BadInputError, match=r"p\.jsonl:1"):
        load_pairs(tmp_path / "p.jsonl")
