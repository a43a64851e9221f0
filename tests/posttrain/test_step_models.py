from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm, load_token_classifier, load_tokenizer
from papertrial.posttrain.chat_layouts import ChatSeparatedSteps, Turns
from papertrial.posttrain.step_conventions import CONVENTIONS, convention_of, load_step_scorer
from papertrial.posttrain.step_judges import gain_of_value, three_way
from papertrial.posttrain.step_layouts import (
    HeadedSteps,
    LastTagTokenSteps,
    Likelihoods,
    SeparatedSteps,
    StepEnds,
    TaggedSteps,
)
from papertrial.posttrain.step_models import classifier_scorer, log_probability_scorer
from papertrial.posttrain.step_reading import Reading
from papertrial.posttrain.steps import Solution, StepScores, Unscored

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 forward passes of other shapes, on probabilities
READING = Reading((0, 1, 2), (0, 1, 2), (0, 1, 2))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def one_byte(tokenizer, letter):
    return tokenizer(letter)["input_ids"][0]


@pytest.fixture
def saved(tmp_path, tokenizer, language_model, classifier):
    """Return a function that saves a kind of checkpoint as its family is published, and its model."""

    def save(kind: str):
        folder = tmp_path / kind
        tokenizer.save_pretrained(folder)
        model = classifier if kind == "classifier" else language_model
        model.save_pretrained(folder)
        if kind in HEADS:
            file = folder / "model.safetensors"
            generator = torch.Generator().manual_seed(3)
            made = {name: torch.randn(shape, generator=generator) / 5 for name, shape in HEADS[kind].items()}
            save_file({**load_file(file), **made}, file, metadata={"format": "pt"})
            return folder, made
        return folder, model

    return save


HEADS = {
    "qwen-prm": {
        "score.0.weight": (32, 32),
        "score.0.bias": (32,),
        "score.2.weight": (2, 32),
        "score.2.bias": (2,),
    },
    "reasoneval": {"score_head.weight": (3, 32), "score_head.bias": (3,)},
    "skywork": {"v_head.summary.weight": (1, 32), "v_head.summary.bias": (1,)},
}


def last_hidden(model, ids):
    with torch.inference_mode():
        return model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()


@pytest.mark.parametrize("convention", ["math-shepherd", "llemma", "rlhflow", "log-probability"])
def test_language_model_conventions(convention, saved, solutions, whole_logits):
    folder, model = saved("language-model")
    tokenizer = load_tokenizer(str(folder))
    scorer = load_step_scorer(str(folder), convention)
    layout = {
        "math-shepherd": TaggedSteps(),
        "llemma": HeadedSteps(),
        "rlhflow": Turns(),
        "log-probability": Likelihoods(),
    }[convention]
    plus, minus = one_byte(tokenizer, "+"), one_byte(tokenizer, "-")
    for solution, found in zip(solutions, scorer.score_all(solutions), strict=True):
        reading = layout(tokenizer, solution)
        logits = whole_logits(model, reading.ids)[list(reading.read_at)].numpy()
        if convention == "math-shepherd":
            expected = sigmoid(logits[:, plus] - logits[:, minus])
        elif convention == "llemma":
            expected = sigmoid(logits.mean(1))
        else:
            shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            if convention == "rlhflow":
                expected = shares[:, plus]
            else:
                logs = np.log(shares[np.arange(len(shares)), reading.next_ids])
                steps = np.array(reading.step_of)
                expected = np.array([logs[steps == step].mean() for step in range(len(solution.steps))])
        np.testing.assert_allclose(found.validity, expected, **CLOSE)
        assert found.redundancy is None


@pytest.mark.parametrize("convention", ["trl", "pure"])
def test_classifier_conventions(convention, saved, solutions, whole_logits):
    folder, model = saved("classifier")
    tokenizer = load_tokenizer(str(folder))
    scorer = load_step_scorer(str(folder), convention)
    layout = SeparatedSteps("\n") if convention == "trl" else SeparatedSteps("\n\n", begin=False, inside="\n")
    for solution, found in zip(solutions, scorer.score_all(solutions), strict=True):
        reading = layout(tokenizer, solution)
        logits = whole_logits(model, reading.ids)[list(reading.read_at)].numpy()
        good = sigmoid(logits[:, 1] - logits[:, 0])
        expected = good if convention == "trl" else 2 * good - 1
        np.testing.assert_allclose(found.validity, expected, **CLOSE)


@pytest.mark.parametrize("convention", sorted(HEADS))
def test_conventions_with_a_head_of_their_own(convention, saved, solutions, language_model):
    folder, head = saved(convention)
    tokenizer = load_tokenizer(str(folder))
    scorer = load_step_scorer(str(folder), convention)
    layout = {"qwen-prm": ChatSeparatedSteps(), "reasoneval": StepEnds(), "skywork": LastTagTokenSteps()}
    weights = {name: tensor.double().numpy() for name, tensor in head.items()}
    for solution, found in zip(solutions, scorer.score_all(solutions), strict=True):
        reading = layout[convention](tokenizer, solution)
        hidden = last_hidden(language_model, list(reading.ids))[list(reading.read_at)]
        if convention == "qwen-prm":
            inner = np.maximum(hidden @ weights["score.0.weight"].T + weights["score.0.bias"], 0)
            logits = inner @ weights["score.2.weight"].T + weights["score.2.bias"]
            np.testing.assert_allclose(found.validity, sigmoid(logits[:, 1] - logits[:, 0]), **CLOSE)
        elif convention == "reasoneval":
            logits = hidden @ weights["score_head.weight"].T + weights["score_head.bias"]
            shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            np.testing.assert_allclose(found.validity, shares[:, 1] + shares[:, 2], **CLOSE)
            np.testing.assert_allclose(found.redundancy, shares[:, 1], **CLOSE)
        else:
            value = sigmoid(hidden @ weights["v_head.summary.weight"].T + weights["v_head.summary.bias"])[
                :, 0
            ]
            np.testing.assert_allclose(found.validity, np.diff(value, prepend=0.0), **CLOSE)


def test_the_thresholds_are_those_of_the_released_evaluation():
    thresholds = {name: one.validity_threshold for name, one in CONVENTIONS.items()}
    assert thresholds["skywork"] == -0.05
    assert thresholds["pure"] == 0.0
    assert {
        thresholds[name] for name in ("math-shepherd", "qwen-prm", "reasoneval", "llemma", "rlhflow")
    } == {0.5}
    assert CONVENTIONS["reasoneval"].redundancy_threshold == 0.15


def test_skywork_judges_the_first_value_and_then_the_gains():
    values = torch.tensor([[0.0], [2.0], [-1.0]])
    expected = [0.5, sigmoid(2.0) - 0.5, sigmoid(-1.0) - sigmoid(2.0)]
    np.testing.assert_allclose(gain_of_value(values, READING).validity, expected, rtol=1e-6)


def test_a_head_of_another_width_is_refused():
    with pytest.raises(BadInputError, match="ReasonEval's head has 3 outputs, this one has 2"):
        three_way(torch.zeros(3, 2), READING)


@pytest.mark.parametrize(
    ("name", "convention"),
    [
        ("peiyi9979/math-shepherd-mistral-7b-prm", "math-shepherd"),
        ("Qwen/Qwen2.5-Math-PRM-7B", "qwen-prm"),
        ("GAIR/ReasonEval-34B", "reasoneval"),
        ("Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B", "skywork"),
        ("ScalableMath/llemma-7b-prm-prm800k-level-1to3-hf", "llemma"),
        ("RLHFlow/Llama3.1-8B-PRM-Mistral-Data", "rlhflow"),
        ("/models/PURE-PRM-7B/", "pure"),
        ("jinachris/Qwen2.5-Math-7B-PRM800K", "pure"),
    ],
)
def test_the_name_of_a_released_model_tells_its_convention(name, convention):
    assert convention_of(name) == convention


def test_what_cannot_be_loaded_is_said(saved, tmp_path):
    folder, _ = saved("language-model")
    with pytest.raises(BadInputError, match="name the convention: llemma"):
        load_step_scorer(str(folder))
    with pytest.raises(BadInputError, match="unknown convention 'qwen'"):
        load_step_scorer(str(folder), "qwen")
    with pytest.raises(BadInputError, match=r"has no weights score\.0, score\.2"):
        load_step_scorer(str(folder), "qwen-prm")


def test_a_solution_that_is_too_long_is_unscored_and_never_cut(classifier, tokenizer, solutions):
    lengths = [len(SeparatedSteps()(tokenizer, one).ids) for one in solutions]
    limit = sorted(lengths)[2]
    results = classifier_scorer(classifier, tokenizer, max_tokens=limit).score_all(solutions)
    full = classifier_scorer(classifier, tokenizer).score_all(solutions)
    for length, result, whole in zip(lengths, results, full, strict=True):
        if length > limit:
            assert result == Unscored(f"{length} tokens, and at most {limit} are read")
        else:
            np.testing.assert_allclose(result.validity, whole.validity, **CLOSE)
    with pytest.raises(BadInputError, match="max_tokens must be at least 1"):
        classifier_scorer(classifier, tokenizer, max_tokens=0)


def test_progress_ends_at_the_total(classifier, tokenizer, solutions):
    told = []
    scorer = classifier_scorer(classifier, tokenizer, tokens_per_batch=100)
    scorer.score_all(solutions, lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert scorer.score_all([]) == []


def test_half_precision_scores_are_near(tokenizer, solutions):
    settings = {"vocab_size": len(tokenizer), "seed": 1}
    exact = classifier_scorer(load_token_classifier("tiny-qwen2", 2, **settings), tokenizer)
    half = classifier_scorer(load_token_classifier("tiny-qwen2", 2, dtype="bfloat16", **settings), tokenizer)
    for one, other in zip(exact.score_all(solutions), half.score_all(solutions), strict=True):
        np.testing.assert_allclose(one.validity, other.validity, atol=0.02)  # 8 bits of mantissa


def test_a_model_that_changes_its_logits_afterwards_is_refused(tokenizer):
    capped = load_causal_lm("tiny-gemma3", vocab_size=len(tokenizer), final_logit_softcapping=0.1)
    with pytest.raises(BadInputError, match="changes its head's outputs afterwards"):
        log_probability_scorer(capped, tokenizer)


def test_a_language_model_is_no_classifier(language_model, tokenizer):
    with pytest.raises(BadInputError, match="has no head named score"):
        classifier_scorer(language_model, tokenizer)


def test_weights_that_are_not_numbers_are_reported(classifier, tokenizer):
    with torch.no_grad():
        classifier.score.weight.fill_(float("nan"))
    with pytest.raises(BadInputError, match="changes its head's outputs"):
        classifier_scorer(classifier, tokenizer).score_all([Solution("q", ("a",))])


def test_a_model_scores_as_it_does_alone(classifier, tokenizer, solutions):
    scorer = classifier_scorer(classifier, tokenizer)
    together = scorer.score_all(solutions)
    for solution, result in zip(solutions, together, strict=True):
        alone = scorer.score(solution.question, solution.steps)
        assert isinstance(alone, StepScores)
        np.testing.assert_allclose(alone.validity, result.validity, **CLOSE)
